// SPDX-License-Identifier: GPL-2.0
//! Ends of interrupts that others wait for: the IOAPIC, resampling irqfds, the
//! 8254, or userspace if it has the IOAPIC.
//!
//! Each vCPU knows the vectors whose EOI matters to others. They are found anew,
//! before the vCPU takes its next interrupt, whenever a route, a redirection entry,
//! a destination or somebody who waits has changed.

use super::index;
use crate::{
    irqchip::{ioapic, route},
    mailbox,
    outcome::Next,
    request,
    state::Cx,
    userspace,
    vendor::Vendor,
};
use kernel::error::Result;
use kvm_irqchip::{
    lapic::{Eoi, Source},
    message::Message,
    vectors::VectorSet,
};
use kvm_sys::x86::trace::kvm_eoi;
use kvm_uapi::run::{self, reason};

/// The guest ended an interrupt.
#[inline]
pub(super) fn ended<V: Vendor>(cx: &mut Cx<'_, V>, eoi: &Eoi) {
    kvm_eoi(|| (index(cx).0.into(), eoi.vector.into()));
    if eoi.intercepted {
        tell(cx, eoi);
    }
}

fn tell<V: Vendor>(cx: &mut Cx<'_, V>, eoi: &Eoi) {
    if cx.state.link.stale_eoi == Some(eoi.vector) {
        cx.vcpu.requests.set(request::SCAN_EOI);
    }
    let irqchip = cx.vm.arch().irqchip();
    match irqchip.board() {
        Some(board) => ioapic::eoi(&cx.vm, board, index(cx), eoi),
        None if eoi.broadcast => {
            cx.state.link.eoi_exit = Some(eoi.vector);
            cx.vcpu.requests.set(request::EOI_EXIT);
        }
        None => {}
    }
}

/// Tells userspace of the EOI that it waits for.
///
/// # Errors
///
/// As [`userspace::exit`].
pub(crate) fn exit<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    match cx.state.link.eoi_exit.take() {
        Some(vector) => userspace::exit_with(cx, reason::KVM_EXIT_IOAPIC_EOI, run::Eoi { vector }),
        None => Ok(Next::Resume),
    }
}

/// Whether userspace waits for an EOI that it wasn't told of.
pub(crate) fn is_owed<V: Vendor>(cx: &Cx<'_, V>) -> bool {
    cx.state.link.eoi_exit.is_some()
}

/// Finds the vectors whose EOI on this vCPU others wait for.
pub(crate) fn scan<V: Vendor>(cx: &mut Cx<'_, V>) {
    mailbox::collect(cx);
    let vm = &*cx.vm;
    let irqchip = vm.arch().irqchip();
    let Some(apic) = &cx.state.apic else { return };
    let (identity, rules) = (apic.identity(), irqchip.dest_rules());
    let mut stale = None;
    let mut concerns = |message: &Message| {
        if identity.matches(message.dest, message.dest_mode, Source::Device, rules) {
            return true;
        }
        // It may have got the interrupt when it still was a target.
        let has_it = apic.is_active(message.vector);
        if has_it {
            stale = stale.max(Some(message.vector));
        }
        has_it
    };
    let vectors = match irqchip.board() {
        Some(board) => ioapic::eoi_intercepts(vm, board, index(cx), concerns),
        None => {
            let mut vectors = VectorSet::EMPTY;
            route::for_each_level(vm, |message| {
                if concerns(message) {
                    vectors.insert(message.vector);
                }
            });
            vectors
        }
    };
    cx.state.link.stale_eoi = stale;
    if let Some(apic) = &mut cx.state.apic {
        apic.set_eoi_intercepts(vectors);
    }
}

/// Tells the IOAPIC, whose state or this APIC's was set, whether the RTC's
/// interrupt waits here.
pub(crate) fn restore_rtc<V: Vendor>(cx: &mut Cx<'_, V>) {
    mailbox::collect(cx);
    let irqchip = cx.vm.arch().irqchip();
    let (Some(board), Some(apic)) = (irqchip.board(), &cx.state.apic) else { return };
    let Some(message) = ioapic::rtc_message(board) else { return };
    let rules = irqchip.dest_rules();
    let is_target = apic.identity().matches(message.dest, message.dest_mode, Source::Device, rules);
    if is_target && apic.is_active(message.vector) {
        ioapic::rtc_accepted(board, index(cx), message.vector);
    }
}
