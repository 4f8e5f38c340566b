// SPDX-License-Identifier: GPL-2.0
//! The tracepoints that KVM has on x86; the fields are those of `trace.h`. What is an
//! unsigned long there is a `u64` here.

use crate::trace::{is_traced, tracepoints};
use kernel::ffi::{c_int, c_uint};

/// `isa` of VMX.
pub const VMX: u32 = 1;
/// `isa` of SVM.
pub const SVM: u32 = 2;

/// Whether somebody traces entries or exits.
#[inline(always)]
pub fn watches_exits() -> bool {
    is_traced!(__tracepoint_kvm_entry) || is_traced!(__tracepoint_kvm_exit)
}

tracepoints! {
    /// The guest is about to be entered; the event that is injected as the control
    /// block has it.
    fn kvm_entry(
        vcpu_id: c_uint, rip: u64, immediate_exit: bool, intr_info: u32, error_code: u32,
    );
    /// The guest exited; all that tells why, as the control block has it.
    fn kvm_exit(
        vcpu_id: c_uint, rip: u64, isa: u32, reason: c_uint, info1: u64, info2: u64,
        intr_info: u32, error_code: u32, requests: u64,
    );
    /// A hypercall and its arguments.
    fn kvm_hypercall(nr: u64, a0: u64, a1: u64, a2: u64, a3: u64);
    /// An access to a port; `rw` is 1 for a write, `value` that of the first element.
    fn kvm_pio(rw: c_uint, port: c_uint, size: c_uint, count: c_uint, value: c_uint);
    /// A write that an ioeventfd takes, whatever is written.
    fn kvm_fast_mmio(gpa: u64);
    /// CPUID.
    fn kvm_cpuid(
        function: c_uint, index: c_uint, rax: u64, rbx: u64, rcx: u64,
        rdx: u64, found: bool, used_max_basic: bool,
    );
    /// An access to a register of the local APIC; `rw` is 1 for a write.
    fn kvm_apic(rw: c_uint, reg: c_uint, value: u64);
    /// An interrupt is injected; again, if the guest exited while it was delivered.
    fn kvm_inj_virq(vector: c_uint, soft: bool, reinjected: bool);
    /// An exception is injected.
    fn kvm_inj_exception(vector: c_uint, has_error: bool, error: c_uint, reinjected: bool);
    /// An NPT or EPT violation.
    fn kvm_page_fault(vcpu_id: c_uint, rip: u64, address: u64, error_code: u64);
    /// An access to an MSR, and whether it faulted.
    fn kvm_msr(write: c_uint, index: u32, data: u64, faulted: bool);
    /// An access to a control register; `rw` is 1 for a write.
    fn kvm_cr(rw: c_uint, number: c_uint, value: u64);
    /// An interrupt was handled; -1 if there was none.
    fn kvm_eoi(apic_id: u32, vector: c_int);
    /// A guest may spin for another time.
    fn kvm_ple_window_update(vcpu_id: c_uint, new: c_uint, old: c_uint);
    /// A message-signalled interrupt.
    fn kvm_msi_set_irq(address: u64, data: u64);
}
