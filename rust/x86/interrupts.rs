// SPDX-License-Identifier: GPL-2.0
//! Interrupts that a vCPU could take: from its local APIC, an 8259, or the VMM.

use crate::{
    inject::interrupts_open,
    irqchip::{pic, Mode},
    state::Cx,
    vendor::Vendor,
};
use kvm_uapi::run::offset;

/// Whether an interrupt waits, whatever RFLAGS.IF says.
#[inline]
pub(crate) fn is_pending<V: Vendor>(cx: &Cx<'_, V>) -> bool {
    cx.state.apic.as_ref().is_some_and(|apic| apic.pending().is_some()) || is_external(cx)
}

/// Whether an interrupt waits that doesn't come from the local APIC.
pub(crate) fn is_external<V: Vendor>(cx: &Cx<'_, V>) -> bool {
    let by_user = cx.state.events.user_interrupt.is_some();
    let Some(apic) = &cx.state.apic else { return by_user };
    let waits = match cx.vm.arch().irqchip().board() {
        Some(board) => board.pic_output(),
        None => by_user,
    };
    waits && apic.accepts_pic()
}

/// Takes the next interrupt's vector: the guest takes it now. The 8259's comes
/// before the local APIC's.
pub(crate) fn take<V: Vendor>(cx: &mut Cx<'_, V>) -> Option<u8> {
    if is_external(cx) {
        let vector = match cx.vm.arch().irqchip().board() {
            Some(board) => pic::acknowledge(&cx.vm, board),
            None => cx.state.events.user_interrupt.take(),
        };
        if vector.is_some() {
            return vector;
        }
    }
    take_own(cx)
}

/// The same of the local APIC alone.
pub(crate) fn take_own<V: Vendor>(cx: &mut Cx<'_, V>) -> Option<u8> {
    let apic = cx.state.apic.as_mut()?;
    let vector = apic.pending()?;
    apic.ack(vector);
    Some(vector)
}

/// Whether the 8259 is in the kernel, so that userspace has no interrupts to give.
fn has_pic<V: Vendor>(cx: &Cx<'_, V>) -> bool {
    cx.vm.arch().irqchip().mode() == Mode::Kernel
}

/// Whether userspace has the 8259 and the vCPU takes its next interrupt.
fn accepts_external<V: Vendor>(cx: &Cx<'_, V>) -> bool {
    !has_pic(cx)
        && cx.state.events.user_interrupt.is_none()
        && cx.state.apic.as_ref().is_none_or(|apic| apic.accepts_pic())
}

/// Whether userspace wants to know when the guest can take an interrupt of its
/// 8259.
pub(crate) fn window_requested<V: Vendor>(cx: &Cx<'_, V>) -> bool {
    accepts_external(cx)
        && cx
            .vcpu
            .page(0)
            .is_some_and(|run| run.read::<u8, { offset::REQUEST_INTERRUPT_WINDOW }>() != 0)
}

/// Whether `KVM_INTERRUPT` would be taken at once, or there is none to be given.
pub(crate) fn ready_for_injection<V: Vendor>(cx: &Cx<'_, V>) -> bool {
    let events = &cx.state.events;
    has_pic(cx)
        || accepts_external(cx)
            && events.injected.is_none()
            && events.exception.is_none()
            && interrupts_open(&cx.state.control)
}
