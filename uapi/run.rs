// SPDX-License-Identifier: GPL-2.0
//! `struct kvm_run`: the page that a vCPU shares with its thread.
//!
//! Userspace may change any of it at any moment, so it isn't a structure here but
//! a set of offsets; what an exit says is copied in whole.

/// Byte offsets of the fields that all exits have.
pub mod offset {
    /// `request_interrupt_window`, u8, in.
    pub const REQUEST_INTERRUPT_WINDOW: usize = 0;
    /// `immediate_exit`, u8, in.
    pub const IMMEDIATE_EXIT: usize = 1;
    /// `exit_reason`, u32, out: [`super::reason`].
    pub const EXIT_REASON: usize = 8;
    /// `ready_for_interrupt_injection`, u8, out.
    pub const READY_FOR_INTERRUPT_INJECTION: usize = 12;
    /// `if_flag`, u8, out.
    pub const IF_FLAG: usize = 13;
    /// `flags`, u16, out: [`super::flag`] on x86.
    pub const FLAGS: usize = 14;
    /// `cr8`, u64, in and out; x86.
    pub const CR8: usize = 16;
    /// `apic_base`, u64, out; x86.
    pub const APIC_BASE: usize = 24;
    /// What the exit says, 256 bytes: one of the structures of this module.
    pub const EXIT: usize = if cfg!(target_arch = "s390x") { 48 } else { 32 };
    /// `kvm_valid_regs`, u64, in.
    pub const VALID_REGS: usize = EXIT + 256;
    /// `kvm_dirty_regs`, u64, in.
    pub const DIRTY_REGS: usize = VALID_REGS + 8;
    /// The registers that are synchronized, 2 KiB.
    pub const SYNC_REGS: usize = DIRTY_REGS + 8;
}

/// Bits of `flags` on x86.
pub mod flag {
    /// The vCPU is in system management mode.
    pub const SMM: u16 = 1 << 0;
}

/// Values of `exit_reason`.
pub mod reason {
    macro_rules! reasons {
        ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
            $($(#[$doc])* pub const $name: u32 = $value;)*

            /// Calls `$callback!` with the names of all exit reasons of this module.
            #[macro_export]
            macro_rules! for_each_exit_reason {
                ($callback:ident) => { $callback! { $($name)* } };
            }
        };
    }
    reasons! {
        /// Not one of the others.
        KVM_EXIT_UNKNOWN = 0;
        /// An exception that the VMM has to know of.
        KVM_EXIT_EXCEPTION = 1;
        /// A port access: [`super::Io`].
        KVM_EXIT_IO = 2;
        /// A hypercall for the VMM: [`super::Hypercall`].
        KVM_EXIT_HYPERCALL = 3;
        /// A debug event: [`super::Debug`].
        KVM_EXIT_DEBUG = 4;
        /// HLT, where the VMM has the local APIC.
        KVM_EXIT_HLT = 5;
        /// A memory access outside of the slots: [`super::Mmio`].
        KVM_EXIT_MMIO = 6;
        /// The interrupt window that was asked for is open.
        KVM_EXIT_IRQ_WINDOW_OPEN = 7;
        /// Triple fault.
        KVM_EXIT_SHUTDOWN = 8;
        /// The processor refused the guest's state: [`super::FailEntry`].
        KVM_EXIT_FAIL_ENTRY = 9;
        /// A signal is pending.
        KVM_EXIT_INTR = 10;
        /// CR8 was lowered.
        KVM_EXIT_SET_TPR = 11;
        /// The TPR was accessed: [`super::TprAccess`].
        KVM_EXIT_TPR_ACCESS = 12;
        /// An interception under SIE: [`super::SieIntercept`].
        KVM_EXIT_S390_SIEIC = 13;
        /// The guest wants a reset: a word of flags.
        KVM_EXIT_S390_RESET = 14;
        /// Something that KVM can't handle: [`super::InternalError`].
        KVM_EXIT_INTERNAL_ERROR = 17;
        /// TEST SUBCHANNEL: [`super::TestSubchannel`].
        KVM_EXIT_S390_TSCH = 22;
        /// The guest asks for a reset, shutdown or the like: [`super::SystemEvent`].
        KVM_EXIT_SYSTEM_EVENT = 24;
        /// STORE SYSTEM INFORMATION: [`super::StoreSystemInformation`].
        KVM_EXIT_S390_STSI = 25;
        /// An EOI that a userspace IOAPIC has to know of: [`super::Eoi`].
        KVM_EXIT_IOAPIC_EOI = 26;
        /// RDMSR for the VMM: [`super::Msr`].
        KVM_EXIT_X86_RDMSR = 29;
        /// WRMSR for the VMM: [`super::Msr`].
        KVM_EXIT_X86_WRMSR = 30;
        /// A dirty ring is full.
        KVM_EXIT_DIRTY_RING_FULL = 31;
        /// An access to memory that isn't there as it should: [`super::MemoryFault`].
        KVM_EXIT_MEMORY_FAULT = 39;
    }
}

/// `suberror` of [`InternalError`]: an instruction couldn't be emulated.
pub const KVM_INTERNAL_ERROR_EMULATION: u32 = 1;
/// First word of data with that: the next ones are the number of its bytes, in one byte,
/// and fifteen bytes.
pub const KVM_INTERNAL_ERROR_EMULATION_INSTRUCTION_BYTES: u64 = 1 << 0;
/// `suberror` of [`InternalError`]: an exit while an event was delivered.
pub const KVM_INTERNAL_ERROR_DELIVERY_EV: u32 = 3;
/// `suberror` of [`InternalError`]: an exit with a reason that isn't known.
pub const KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON: u32 = 4;

macro_rules! payloads {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => { $(
        $(#[$doc])*
        #[repr(C)]
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq,
            zerocopy_derive::FromBytes,
            zerocopy_derive::IntoBytes,
            zerocopy_derive::Immutable,
            zerocopy_derive::KnownLayout,
        )]
        #[allow(missing_docs, reason = "the fields' meaning is the header's")]
        pub struct $name { $(pub $field: $type,)* }

        // It has to fit the union.
        static_assertions::const_assert!(core::mem::size_of::<$name>() <= 256);
    )* };
}

payloads! {
    /// A port access; the data is in the vCPU's second page at `data_offset`.
    Io {
        direction: u8,
        size: u8,
        port: u16,
        count: u32,
        data_offset: u64,
    }
    /// A debug event.
    Debug {
        exception: u32,
        pad: u32,
        pc: u64,
        dr6: u64,
        dr7: u64,
    }
    /// A memory access outside of the slots.
    Mmio {
        phys_addr: u64,
        data: [u8; 8],
        len: u32,
        is_write: u8,
        pad: [u8; 3],
    }
    /// An interception under SIE: its code and the instruction.
    SieIntercept {
        icptcode: u8,
        pad: u8,
        ipa: u16,
        ipb: u32,
    }
    /// TEST SUBCHANNEL, with the I/O interruption that was taken off for it.
    TestSubchannel {
        subchannel_id: u16,
        subchannel_nr: u16,
        io_int_parm: u32,
        io_int_word: u32,
        ipb: u32,
        dequeued: u8,
        pad: [u8; 3],
    }
    /// STORE SYSTEM INFORMATION; the guest has what the kernel says.
    StoreSystemInformation {
        addr: u64,
        ar: u8,
        reserved: u8,
        fc: u8,
        sel1: u8,
        sel2: u16,
        pad: u16,
    }
    /// The processor refused to enter the guest.
    FailEntry {
        hardware_entry_failure_reason: u64,
        cpu: u32,
        pad: u32,
    }
    /// A hypercall.
    Hypercall {
        nr: u64,
        args: [u64; 6],
        ret: u64,
        flags: u64,
    }
    /// An access to the TPR.
    TprAccess {
        rip: u64,
        is_write: u32,
        pad: u32,
    }
    /// Something that KVM can't handle.
    InternalError {
        suberror: u32,
        ndata: u32,
        data: [u64; 16],
    }
    /// A reset, shutdown or the like.
    SystemEvent {
        type_: u32,
        ndata: u32,
        data: [u64; 16],
    }
    /// An end of interrupt.
    Eoi {
        vector: u8,
    }
    /// An MSR access.
    Msr {
        error: u8,
        pad: [u8; 7],
        reason: u32,
        index: u32,
        data: u64,
    }
    /// An access to memory that isn't there as it should.
    MemoryFault {
        flags: u64,
        gpa: u64,
        size: u64,
    }
}

/// `direction` of [`Io`]: the guest reads.
pub const KVM_EXIT_IO_IN: u8 = 0;
/// `direction` of [`Io`]: the guest writes.
pub const KVM_EXIT_IO_OUT: u8 = 1;
