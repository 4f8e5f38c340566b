// SPDX-License-Identifier: GPL-2.0
//! Why a guest came out.

#![allow(missing_docs, reason = "fields are named as in the ABI's structures")]

use kvm_bindings as abi;

/// An exit, as far as its kind needs: values that cases compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// HLT, without an interrupt controller in the kernel.
    Hlt,
    /// A port is read: `count` values of `size` bytes are wanted.
    In { port: u16, size: u8, count: u32 },
    /// A port is written.
    Out { port: u16, size: u8, data: Vec<u8> },
    /// Memory that isn't there is read.
    MmioRead { gpa: u64, len: u32 },
    /// Memory that isn't there, or may not be written, is written.
    MmioWrite { gpa: u64, data: Vec<u8> },
    /// A triple fault.
    Shutdown,
    /// An interrupt can be injected now.
    IrqWindow,
    /// The debugger's turn.
    Debug { exception: u32, pc: u64, dr6: u64 },
    /// The end of a level interrupt, with the IOAPIC outside the kernel.
    IoapicEoi(u8),
    /// CR8 was written, without an interrupt controller in the kernel.
    SetTpr,
    /// An MSR is read.
    Rdmsr { index: u32, reason: u32 },
    /// An MSR is written.
    Wrmsr { index: u32, reason: u32, data: u64 },
    /// A hypercall for the VMM.
    Hypercall { nr: u64, args: [u64; 6] },
    /// KVM can't go on.
    Internal { suberror: u32, data: Vec<u64> },
    /// The processor refused to enter.
    FailEntry { reason: u64 },
    /// Memory that can't be had.
    MemoryFault { flags: u64, gpa: u64, size: u64 },
    /// A signal.
    Interrupted,
    /// Any other, by its number.
    Other(u32),
}

impl Exit {
    /// Reads it from the run page; `pio` reads from the pages behind it.
    pub fn read(run: &abi::kvm_run, pio: impl Fn(u64, usize) -> Vec<u8>) -> Self {
        let of = &run.__bindgen_anon_1;
        // SAFETY: every member of the union is plain numbers, of which any bits are a value.
        unsafe {
            match run.exit_reason {
                abi::KVM_EXIT_HLT => Self::Hlt,
                abi::KVM_EXIT_IO => {
                    let io = of.io;
                    let bytes = usize::from(io.size) * io.count as usize;
                    if u32::from(io.direction) == abi::KVM_EXIT_IO_IN {
                        Self::In { port: io.port, size: io.size, count: io.count }
                    } else {
                        let data = pio(io.data_offset, bytes);
                        Self::Out { port: io.port, size: io.size, data }
                    }
                }
                abi::KVM_EXIT_MMIO => {
                    let mmio = of.mmio;
                    if mmio.is_write == 0 {
                        Self::MmioRead { gpa: mmio.phys_addr, len: mmio.len }
                    } else {
                        let data = mmio.data.iter().take(mmio.len as usize).copied().collect();
                        Self::MmioWrite { gpa: mmio.phys_addr, data }
                    }
                }
                abi::KVM_EXIT_SHUTDOWN => Self::Shutdown,
                abi::KVM_EXIT_IRQ_WINDOW_OPEN => Self::IrqWindow,
                abi::KVM_EXIT_DEBUG => {
                    let arch = of.debug.arch;
                    Self::Debug { exception: arch.exception, pc: arch.pc, dr6: arch.dr6 }
                }
                abi::KVM_EXIT_IOAPIC_EOI => Self::IoapicEoi(of.eoi.vector),
                abi::KVM_EXIT_SET_TPR => Self::SetTpr,
                abi::KVM_EXIT_X86_RDMSR => {
                    Self::Rdmsr { index: of.msr.index, reason: of.msr.reason }
                }
                abi::KVM_EXIT_X86_WRMSR => {
                    Self::Wrmsr { index: of.msr.index, reason: of.msr.reason, data: of.msr.data }
                }
                abi::KVM_EXIT_HYPERCALL => {
                    Self::Hypercall { nr: of.hypercall.nr, args: of.hypercall.args }
                }
                abi::KVM_EXIT_INTERNAL_ERROR => {
                    let internal = of.internal;
                    let data = internal.data.iter().take(internal.ndata as usize).copied();
                    Self::Internal { suberror: internal.suberror, data: data.collect() }
                }
                abi::KVM_EXIT_FAIL_ENTRY => {
                    Self::FailEntry { reason: of.fail_entry.hardware_entry_failure_reason }
                }
                abi::KVM_EXIT_MEMORY_FAULT => {
                    let fault = of.memory_fault;
                    Self::MemoryFault { flags: fault.flags, gpa: fault.gpa, size: fault.size }
                }
                abi::KVM_EXIT_INTR => Self::Interrupted,
                other => Self::Other(other),
            }
        }
    }
}
