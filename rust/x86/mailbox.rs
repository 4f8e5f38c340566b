// SPDX-License-Identifier: GPL-2.0
//! Taking in what others left for a vCPU: interrupts, NMIs, INIT and start-up.

use crate::{
    apic,
    control::Control,
    inject::interrupts_open,
    interrupts, pv, request,
    state::{Activity, Cx},
    vendor::Vendor,
};
use kvm_irqchip::{
    lapic::{Events, Harvest},
    vectors::VectorSet,
};
use x86_defs::{SegReg, Segment};

/// Empties the mailbox. INIT and start-up messages stay with the vCPU until it
/// runs.
#[inline]
pub(crate) fn collect<V: Vendor>(cx: &mut Cx<'_, V>) {
    if !cx.vcpu.shared().mailbox().inbox().is_empty() {
        empty(cx);
    }
}

fn empty<V: Vendor>(cx: &mut Cx<'_, V>) {
    let inbox = cx.vcpu.shared().mailbox().inbox();
    let Harvest { events: new, startup_page } = match &mut cx.state.apic {
        Some(apic) => apic.harvest(inbox),
        None => {
            // Without a local APIC there is nobody to send vectors.
            let (mut irr, mut tmr) = (VectorSet::EMPTY, VectorSet::EMPTY);
            inbox.harvest(&mut irr, &mut tmr)
        }
    };
    let events = &mut cx.state.events;
    events.check = true;
    if new.contains(Events::NMI) {
        events.add_nmi(cx.state.control.nmi_blocked());
    }
    if V::HAS_SMM && new.contains(Events::SMI) {
        events.smi = true;
    }
    if new.contains(Events::INIT) {
        // Voids a start-up message that came before it.
        events.init = true;
        events.startup = None;
    }
    if new.contains(Events::STARTUP) {
        events.startup = Some(startup_page);
    }
    if events.init || events.startup.is_some() {
        cx.vcpu.requests.set(request::START);
    }
    if new.contains(Events::UNHALT) {
        cx.state.pv.unhalted = true;
    }
    if new.contains(Events::TIMER) {
        apic::timer::expired(cx);
    }
}

/// Empties the mailbox and does what INIT and start-up messages say.
pub(crate) fn open<V: Vendor>(cx: &mut Cx<'_, V>) {
    collect(cx);
    start(cx);
}

/// Does what INIT and start-up messages say (SDM vol. 3, 9.4.3).
pub(crate) fn start<V: Vendor>(cx: &mut Cx<'_, V>) {
    if cx.state.smm.is_active() {
        // INIT waits for RSM; the message after it is lost.
        cx.state.events.startup = None;
        return;
    }
    if cx.state.events.init {
        let startup = cx.state.events.startup;
        cx.state.reset(true);
        cx.state.events.startup = startup;
        apic::reset(cx);
        pv::reset(cx);
        let is_boot = cx.state.apic.as_ref().is_some_and(|apic| apic.base().is_bsp());
        cx.state.activity = if is_boot { Activity::Runnable } else { Activity::InitReceived };
    }
    // It is lost on a vCPU that doesn't wait for one.
    let startup = cx.state.events.startup.take();
    if let Some(page) = startup.filter(|_| cx.state.activity == Activity::InitReceived) {
        let mut code = Segment::real(u16::from(page) << 8, 0);
        code.typ = 0xb;
        cx.state.control.set_segment(SegReg::Cs, &code);
        cx.state.control.set_rip(0);
        cx.state.activity = Activity::Runnable;
    }
}

/// Whether a halted vCPU has a reason to go on.
pub(crate) fn has_reason_to_run<V: Vendor>(cx: &Cx<'_, V>) -> bool {
    let state = &*cx.state;
    if state.activity != Activity::Halted {
        return false;
    }
    let events = &state.events;
    events.injected.is_some()
        || events.exception.is_some()
        || events.nmis != 0 && !state.control.nmi_blocked()
        || events.smi && !state.smm.is_active()
        || state.pv.unhalted
        || interrupts_open(&state.control) && interrupts::is_pending(cx)
}
