// SPDX-License-Identifier: GPL-2.0
//! What is told of a vCPU at tracepoints (`Documentation/trace/events.rst`); perf kvm,
//! trace-cmd and kvm_stat read it.
//!
//! While nobody traces, each of these functions is a no-op of five bytes.

use crate::{control::Control, inject::Injected, state::Cx, vendor::Vendor};
use kvm_sys::x86::trace::{self, SVM, VMX};

/// All that tells of an exit, as the control block has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitRecord {
    /// Number of the reason.
    pub reason: u32,
    /// EXITINFO1 or the exit qualification.
    pub info1: u64,
    /// EXITINFO2 or the IDT-vectoring information.
    pub info2: u64,
    /// EXITINTINFO or the interruption information.
    pub intr_info: u32,
    /// The error code of that, or 0.
    pub error_code: u32,
}

/// Whether somebody wants to be told of exits.
#[inline(always)]
pub(crate) fn is_watched() -> bool {
    trace::watches_exits()
}

/// The guest is about to be entered.
#[inline(always)]
pub(crate) fn entry<V: Vendor>(cx: &Cx<'_, V>) {
    trace::kvm_entry(|| {
        let control = &cx.state.control;
        let (intr_info, error_code) = control.injection_record();
        (cx.vcpu.id(), control.rip(), false, intr_info, error_code)
    });
}

/// The guest exited.
#[inline(always)]
pub(crate) fn exit<V: Vendor>(cx: &Cx<'_, V>) {
    trace::kvm_exit(|| {
        let ExitRecord { reason, info1, info2, intr_info, error_code } =
            cx.state.control.exit_record();
        let rip = cx.state.control.rip();
        let isa = if V::AMD { SVM } else { VMX };
        let requests = cx.vcpu.requests.pending().into();
        (cx.vcpu.id(), rip, isa, reason, info1, info2, intr_info, error_code, requests)
    });
}

/// An event is chosen for the next entry; `again` if its delivery was interrupted.
#[inline(always)]
pub(crate) fn injected(event: Injected, again: bool) {
    match event {
        Injected::Interrupt(vector) => trace::kvm_inj_virq(|| (vector.into(), false, again)),
        Injected::Software { vector, is_exception: false, .. } => {
            trace::kvm_inj_virq(|| (vector.into(), true, again));
        }
        Injected::Software { vector, .. } => {
            trace::kvm_inj_exception(|| (vector.into(), false, 0, again));
        }
        Injected::Exception { vector, code } => {
            trace::kvm_inj_exception(|| (vector.into(), code.is_some(), code.unwrap_or(0), again))
        }
        Injected::Nmi => {}
    }
}

/// An NPT or EPT violation at a guest-physical address, with what the processor tells
/// of it.
#[inline(always)]
pub(crate) fn page_fault<V: Vendor>(cx: &Cx<'_, V>, gpa: u64) {
    trace::kvm_page_fault(|| {
        let control = &cx.state.control;
        (cx.vcpu.id(), control.rip(), gpa, control.exit_record().info1)
    });
}

/// An access to an MSR: what was read or written, and whether it faulted.
#[inline(always)]
pub(crate) fn msr(is_write: bool, index: u32, data: u64, faulted: bool) {
    trace::kvm_msr(|| (is_write.into(), index, data, faulted));
}

/// An access to a port: how many elements of `size` bytes, and the first one.
#[inline(always)]
pub(crate) fn port(is_write: bool, port: u16, size: u8, count: u32, value: u32) {
    trace::kvm_pio(|| (is_write.into(), port.into(), size.into(), count, value));
}
