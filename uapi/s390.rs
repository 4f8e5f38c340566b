// SPDX-License-Identifier: GPL-2.0
//! State of an IBM Z vCPU.

crate::layout::abi_structs! {
    list for_each_s390_struct;

    /// General registers.
    Regs = kvm_regs {
        gprs: [u64; 16],
    }
    /// Access and control registers.
    Sregs = kvm_sregs {
        acrs: [u32; 16],
        crs: [u64; 16],
    }
    /// Reads and writes of guest memory on the guest's behalf.
    MemOp = kvm_s390_mem_op {
        gaddr: u64,
        flags: u64,
        size: u32,
        op: u32,
        buf: u64,
        __bindgen_anon_1: [u8; 32],
    }
    /// An interruption to inject; `u` is read as the type says.
    Irq = kvm_s390_irq {
        type_: u64,
        u: [u64; 8],
    }
    /// The pending interruptions of a vCPU, a list of [`Irq`]s at `buf`.
    IrqState = kvm_s390_irq_state {
        buf: u64,
        flags: u32,
        len: u32,
        reserved: [u32; 4],
    }
    /// Storage keys of a range of pages.
    Skeys = kvm_s390_skeys {
        start_gfn: u64,
        count: u64,
        skeydata_addr: u64,
        flags: u32,
        reserved: [u32; 9],
    }
    /// The program status word to start with.
    Psw = kvm_s390_psw {
        mask: u64,
        addr: u64,
    }
    /// An interruption in the older, shorter form.
    Interrupt = kvm_s390_interrupt {
        type_: u32,
        parm: u32,
        parm64: u64,
    }
}
