// SPDX-License-Identifier: GPL-2.0
//! Taking in what others left for a vCPU: interrupts, NMIs, INIT and start-up.

use crate::{
    control::Control,
    inject::interrupts_open,
    interrupts,
    state::{Activity, Cx},
    vendor::Vendor,
};
use kernel::prelude::*;
use kvm_irqchip::lapic::{Events, Harvest};
use kvm_irqchip::vectors::VectorSet;
use x86_defs::{SegReg, Segment};

/// Empties the mailbox.
///
/// # Errors
///
/// None so far.
pub(crate) fn open<V: Vendor>(cx: &mut Cx<'_, V>) -> Result {
    let inbox = cx.vcpu.shared().mailbox().inbox();
    let harvest = match &mut cx.state.apic {
        Some(apic) => apic.harvest(inbox),
        None => {
            // Without a local APIC there is nobody to send vectors.
            let (mut irr, mut tmr) = (VectorSet::EMPTY, VectorSet::EMPTY);
            inbox.harvest(&mut irr, &mut tmr)
        }
    };
    cx.state.events.check = true;
    if harvest.events.contains(Events::NMI) {
        cx.state.events.add_nmi();
    }
    if harvest.events.contains(Events::SMI) {
        cx.state.events.smi = true;
    }
    if harvest.events.contains(Events::UNHALT) && cx.state.activity == Activity::Halted {
        cx.state.activity = Activity::Runnable;
    }
    start(cx, &harvest);
    Ok(())
}

/// INIT and start-up messages (SDM vol. 3, 9.4.3).
fn start<V: Vendor>(cx: &mut Cx<'_, V>, harvest: &Harvest) {
    if harvest.events.contains(Events::INIT) {
        cx.state.reset(true);
        let is_boot = cx.state.apic.as_ref().is_some_and(|apic| apic.base().is_bsp());
        cx.state.activity = if is_boot { Activity::Runnable } else { Activity::InitReceived };
    }
    if harvest.events.contains(Events::STARTUP) && cx.state.activity == Activity::InitReceived {
        let page = harvest.startup_page;
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
        || events.smi
        || interrupts_open(&state.control) && interrupts::is_pending(cx)
}
