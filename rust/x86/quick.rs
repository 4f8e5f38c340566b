// SPDX-License-Identifier: GPL-2.0
//! Exits that are over at once: with interrupts off and all of the guest's state still in
//! the processor, so that the guest goes on without what a turn of the loop costs.
//!
//! For what can't wait and takes no lock, or one that is held for a moment only: those of an
//! eventfd and of devices that answer a read. And for a vCPU that has nothing else on its
//! mind. Everything else, and whatever a register refuses, goes the usual way; so nothing
//! here changes anything before it knows that it can finish. A host interrupt that comes
//! meanwhile gets the guest out as soon as it is entered.
//!
//! Interrupts of the local APIC that follow from such an exit, or come meanwhile, are
//! delivered here as well ([`deliver`]).

use crate::{
    apic, emulate, exit, hypercall,
    inject::{self, Injected},
    mailbox,
    run::is_wanted_outside,
    state::Cx,
    trace,
    vendor::{Quick, Vendor},
};
use kvm_sys::irq::{self, IrqOff};

/// Handles the last exit if that can be done right here; whether it was.
#[inline]
pub(crate) fn handle<V: Vendor>(cx: &mut Cx<'_, V>, off: &IrqOff) -> bool {
    let Some(quick) = V::quick(&cx.state.control) else { return false };
    if !is_ordinary(cx) {
        return false;
    }
    let is_done = match quick {
        Quick::Port(access) => irq::SPIN_LOCKS_SPIN && exit::port::at_once(cx, &access, off),
        Quick::Device(touched) => {
            irq::SPIN_LOCKS_SPIN && exit::page_fault::at_once(cx, touched, off)
        }
        Quick::LocalApic(gpa) => irq::SPIN_LOCKS_SPIN && emulate::access_at_once(cx, gpa, off),
        Quick::Window => exit::window::at_once(cx),
        _ => instruction(cx, quick),
    };
    if is_done {
        cx.vcpu.stats().arch.exits.add(1);
        if cx.state.events.injected.is_some() {
            // None of these exits interrupts a delivery: the guest has got it.
            cx.state.events.injected = None;
            cx.state.events.check = true;
        }
    }
    is_done
}

/// Handles an instruction that says nothing of itself, not always even how long it is.
#[inline]
fn instruction<V: Vendor>(cx: &mut Cx<'_, V>, quick: Quick) -> bool {
    let Some(next) = emulate::next_rip_at_once(cx) else { return false };
    let is_done = match quick {
        Quick::Cpuid => exit::cpuid::at_once(cx),
        Quick::ReadMsr => exit::msr::read_at_once(cx),
        Quick::WriteMsr => exit::msr::write_at_once(cx),
        Quick::Nothing => true,
        Quick::Hypercall => hypercall::at_once(cx),
        Quick::Pause => exit::pause::at_once(cx),
        Quick::EndOfInterrupt => exit::apic::end_at_once(cx),
        Quick::Port(_) | Quick::Device(_) | Quick::LocalApic(_) | Quick::Window => false,
    };
    if is_done {
        emulate::advance(cx, next);
    }
    is_done
}

/// Nobody watches, nothing but an interrupt was on its way to the guest, and its local APIC
/// is what we have of it.
#[inline]
fn is_ordinary<V: Vendor>(cx: &mut Cx<'_, V>) -> bool {
    let state = &mut *cx.state;
    !state.debug.is_stepping()
        && !state.debug.is_open()
        && matches!(state.events.injected, None | Some(Injected::Interrupt(_)))
        && !trace::is_watched()
        && apic::take_in_at_once(state)
}

/// Whether the guest can go on.
#[inline]
pub(crate) fn may_go_on<V: Vendor>(cx: &Cx<'_, V>, off: &IrqOff) -> bool {
    let state = &*cx.state;
    !state.events.check && !state.presence.is_stale() && !is_wanted_outside(cx, off)
}

/// Takes in what others, or the vCPU itself, sent to its local APIC, and has the guest get
/// what it can take, as a turn of the loop does; whether the guest can go on.
#[inline(never)]
pub(crate) fn deliver<V: Vendor>(cx: &mut Cx<'_, V>, off: &IrqOff) -> bool {
    // From now on a kick interrupts again, were it that there was one.
    cx.vcpu.kick.enter(off);
    mailbox::collect(cx);
    if cx.state.events.check {
        if !inject::deliver_at_once(cx) {
            return false;
        }
        cx.vcpu.stats().arch.req_event.add(1);
    }
    may_go_on(cx, off)
}
