// SPDX-License-Identifier: GPL-2.0
//! The guest can take an interrupt.

use crate::{
    control::Control, inject, interrupts, outcome::Next, state::Cx, userspace, vendor::Vendor,
};
use kernel::error::Result;
use kvm_uapi::run::reason;

/// The interrupt window that was asked for is open.
///
/// # Errors
///
/// As [`userspace::exit`].
pub fn handle<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    cx.vcpu.stats().arch.irq_window_exits.add(1);
    cx.state.control.set_interrupt_window(false);
    cx.state.events.check = true;
    let is_wanted = interrupts::window_requested(cx)
        && interrupts::ready_for_injection(cx)
        && inject::interrupts_open(&cx.state.control);
    if is_wanted {
        cx.vcpu.stats().arch.request_irq_exits.add(1);
        return userspace::exit(cx, reason::KVM_EXIT_IRQ_WINDOW_OPEN);
    }
    Ok(Next::Resume)
}

/// The same in any context, if the window isn't for userspace; whether it isn't.
#[inline]
pub(crate) fn at_once<V: Vendor>(cx: &mut Cx<'_, V>) -> bool {
    if interrupts::window_requested(cx) {
        return false;
    }
    cx.vcpu.stats().arch.irq_window_exits.add(1);
    cx.state.control.set_interrupt_window(false);
    cx.state.events.check = true;
    true
}
