// SPDX-License-Identifier: GPL-2.0
//! Interrupts that a vCPU could take: from its local APIC, an 8259, or the VMM.

use crate::{inject::interrupts_open, state::Cx, vendor::Vendor};
use kvm_uapi::run::offset;

/// Whether an interrupt waits, whatever RFLAGS.IF says.
pub(crate) fn is_pending<V: Vendor>(cx: &Cx<'_, V>) -> bool {
    match &cx.state.apic {
        Some(apic) => apic.pending().is_some(),
        None => cx.state.events.user_interrupt.is_some(),
    }
}

/// Takes the next interrupt's vector: the guest takes it now.
pub(crate) fn take<V: Vendor>(cx: &mut Cx<'_, V>) -> Option<u8> {
    match &mut cx.state.apic {
        Some(apic) => {
            let vector = apic.pending()?;
            apic.ack(vector);
            Some(vector)
        }
        None => cx.state.events.user_interrupt.take(),
    }
}

/// Whether userspace, which has the interrupt controller, wants to know when the
/// guest can take an interrupt.
pub(crate) fn window_requested<V: Vendor>(cx: &Cx<'_, V>) -> bool {
    cx.state.apic.is_none()
        && cx
            .vcpu
            .page(0)
            .is_some_and(|run| run.read::<u8, { offset::REQUEST_INTERRUPT_WINDOW }>() != 0)
}

/// Whether `KVM_INTERRUPT` would be taken at once.
pub(crate) fn ready_for_injection<V: Vendor>(cx: &Cx<'_, V>) -> bool {
    let events = &cx.state.events;
    events.injected.is_none()
        && events.exception.is_none()
        && events.user_interrupt.is_none()
        && interrupts_open(&cx.state.control)
}
