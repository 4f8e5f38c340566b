// SPDX-License-Identifier: GPL-2.0
//! What waits for delivery, and whether the vCPU runs: `KVM_GET_VCPU_EVENTS`,
//! `KVM_SET_VCPU_EVENTS`, `KVM_GET_MP_STATE`, `KVM_SET_MP_STATE`.

use crate::{
    control::Control,
    inject::{self, Injected},
    mailbox, smm,
    state::{Activity, Cx},
    vendor::Vendor,
};
use kernel::prelude::*;
use kvm_emulate::{Exception, Shadow};
use kvm_sys::user;
use kvm_uapi::{
    vcpu::MpState,
    x86::{EventException, EventInterrupt, EventNmi, EventSmi, EventTripleFault, VcpuEvents},
};
use x86_defs::Vector;

mod flag {
    pub(super) const NMI_PENDING: u32 = 1 << 0;
    pub(super) const SIPI_VECTOR: u32 = 1 << 1;
    pub(super) const SHADOW: u32 = 1 << 2;
    pub(super) const SMM: u32 = 1 << 3;
    pub(super) const PAYLOAD: u32 = 1 << 4;
    pub(super) const TRIPLE_FAULT: u32 = 1 << 5;
    pub(super) const ALL: u32 = NMI_PENDING | SIPI_VECTOR | SHADOW | SMM | PAYLOAD | TRIPLE_FAULT;
}

/// `interrupt.shadow`: after MOV SS or POP SS.
const SHADOW_MOV_SS: u8 = 1;
/// `interrupt.shadow`: after STI.
const SHADOW_STI: u8 = 2;

/// Userspace looks at registers that a pending exception changes: it finds them changed, unless it
/// sees the exception's payload.
pub(crate) fn settle_payload<V: Vendor>(cx: &mut Cx<'_, V>) {
    if !cx.vm.arch().settings.exception_payload() {
        inject::deliver_payload(cx.state);
    }
}

/// The events, as userspace has them.
pub(crate) fn snapshot<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<VcpuEvents> {
    mailbox::collect(cx);
    settle_payload(cx);
    let settings = &cx.vm.arch().settings;
    let with_payload = settings.exception_payload();
    let mut flags = flag::NMI_PENDING | flag::SHADOW | flag::SMM;
    let events = &cx.state.events;
    let mut triple_fault = EventTripleFault { pending: 0 };
    if with_payload {
        flags |= flag::PAYLOAD;
    }
    if settings.triple_fault_event() {
        flags |= flag::TRIPLE_FAULT;
        triple_fault.pending = events.triple_fault.into();
    }
    let payload = events.exception.and_then(|exception| exception.payload);
    Ok(VcpuEvents {
        exception: exception(events, with_payload),
        interrupt: interrupt(cx),
        nmi: EventNmi {
            injected: (events.injected == Some(Injected::Nmi)).into(),
            pending: events.nmis,
            masked: cx.state.control.nmi_blocked().into(),
            pad: 0,
        },
        sipi_vector: 0,
        flags,
        smi: EventSmi {
            smm: cx.state.smm.is_active().into(),
            pending: events.smi.into(),
            smm_inside_nmi: cx.state.smm.is_inside_nmi().into(),
            latched_init: (cx.state.apic.is_some() && events.init).into(),
        },
        triple_fault,
        reserved: [0; 26],
        exception_has_payload: payload.is_some().into(),
        exception_payload: payload.unwrap_or(0),
    })
}

/// The exception that waits or was interrupted. Those that an instruction raises
/// will be raised by it again.
fn exception(events: &inject::Events, with_payload: bool) -> EventException {
    let mut shown =
        EventException { injected: 0, nr: 0, has_error_code: 0, pending: 0, error_code: 0 };
    let code = match (events.exception, events.injected) {
        (Some(exception), _) if !is_soft(exception.vector as u8) => {
            shown.nr = exception.vector as u8;
            shown.pending = 1;
            // Without the capability one field stands for both.
            shown.injected = (!with_payload).into();
            exception.error_code
        }
        (None, Some(Injected::Exception { vector, code })) if !is_soft(vector) => {
            shown.nr = vector;
            shown.injected = 1;
            code
        }
        _ => None,
    };
    shown.has_error_code = code.is_some().into();
    shown.error_code = code.unwrap_or(0);
    shown
}

fn is_soft(vector: u8) -> bool {
    vector == Vector::Bp as u8 || vector == Vector::Of as u8
}

fn interrupt<V: Vendor>(cx: &Cx<'_, V>) -> EventInterrupt {
    let waiting = injected_interrupt(cx);
    EventInterrupt {
        injected: waiting.is_some().into(),
        nr: waiting.unwrap_or(0),
        soft: 0,
        shadow: shadow_bits::<V>(cx.state.control.shadow()),
    }
}

/// The interrupt that is on its way to the guest. One of the VMM's 8259 counts if the VMM has the
/// local APIC as well; otherwise it waits, as one of the local APIC's does.
pub(super) fn injected_interrupt<V: Vendor>(cx: &Cx<'_, V>) -> Option<u8> {
    let events = &cx.state.events;
    match events.injected {
        Some(Injected::Interrupt(vector)) => Some(vector),
        _ => events.user_interrupt.filter(|_| cx.state.apic.is_none()),
    }
}

/// What is blocked, as userspace and SMRAM have it.
pub(crate) fn shadow_bits<V: Vendor>(shadow: Shadow) -> u8 {
    match shadow {
        Shadow::None => 0,
        // One bit for both kinds.
        _ if V::AMD => SHADOW_MOV_SS | SHADOW_STI,
        Shadow::Sti => SHADOW_STI,
        _ => SHADOW_MOV_SS,
    }
}

/// The other way.
pub(crate) fn shadow_of_bits(bits: u8) -> Shadow {
    match bits {
        0 => Shadow::None,
        bits if bits & SHADOW_MOV_SS != 0 => Shadow::MovSs,
        _ => Shadow::Sti,
    }
}

/// Sets the events.
///
/// # Errors
///
/// `EINVAL` for unknown flags, for exceptions that aren't, for what needs a
/// capability that isn't enabled, and for system-management mode where there is none.
pub(crate) fn restore<V: Vendor>(cx: &mut Cx<'_, V>, new: &VcpuEvents) -> Result {
    let has = |flag| new.flags & flag != 0;
    let settings = &cx.vm.arch().settings;
    let unknown = new.flags & !flag::ALL != 0;
    let payload = has(flag::PAYLOAD) && !settings.exception_payload();
    let triple = has(flag::TRIPLE_FAULT) && !settings.triple_fault_event();
    let smi = &new.smi;
    let no_smm = !V::HAS_SMM && (smi.smm | smi.pending | smi.smm_inside_nmi) != 0;
    let smm = has(flag::SMM) && no_smm;
    if unknown || payload || triple || smm {
        return Err(EINVAL);
    }
    let (pending, injected) = exceptions(new)?;
    mailbox::collect(cx);
    if has(flag::SMM) {
        restore_smm(cx, smi)?;
    }
    let state = &mut *cx.state;
    state.events.exception = pending;
    state.events.injected = injected.or_else(|| interrupted(new));
    // What was chosen for an entry that didn't come to be isn't any more.
    state.control.clear_injection();
    if state.apic.is_none() {
        state.events.user_interrupt = None;
    }
    if has(flag::SHADOW) {
        state.control.set_shadow(shadow_of_bits(new.interrupt.shadow));
    }
    if has(flag::NMI_PENDING) {
        state.events.nmis = new.nmi.pending.min(2);
    }
    state.control.set_nmi_blocked(new.nmi.masked != 0);
    if has(flag::SIPI_VECTOR) {
        state.link.startup_page = new.sipi_vector as u8;
    }
    if has(flag::TRIPLE_FAULT) {
        state.events.triple_fault = new.triple_fault.pending != 0;
    }
    state.events.check = true;
    Ok(())
}

/// System-management mode, and what waits for its end.
///
/// # Errors
///
/// Those of [`smm::change`].
fn restore_smm<V: Vendor>(cx: &mut Cx<'_, V>, smi: &EventSmi) -> Result {
    if V::HAS_SMM {
        smm::change(cx, smi.smm != 0, smi.smm_inside_nmi != 0)?;
    }
    cx.state.events.smi = smi.pending != 0;
    if cx.state.apic.is_some() {
        cx.state.events.init = smi.latched_init != 0;
    }
    Ok(())
}

/// The exceptions of the structure: one that waits, and one on its way.
fn exceptions(new: &VcpuEvents) -> Result<(Option<Exception>, Option<Injected>)> {
    let with_payload = new.flags & flag::PAYLOAD != 0;
    let is_pending = with_payload && new.exception.pending != 0;
    if !is_pending && new.exception.injected == 0 {
        return Ok((None, None));
    }
    let vector = new.exception.nr;
    if vector > 31 || vector == Vector::Nmi as u8 {
        return Err(EINVAL);
    }
    let code = (new.exception.has_error_code != 0).then_some(new.exception.error_code);
    match Vector::from_number(vector) {
        Some(vector) if is_pending => {
            let payload = (new.exception_has_payload != 0).then_some(new.exception_payload);
            Ok((Some(Exception { vector, error_code: code, payload }), None))
        }
        // What no processor raises has nothing to be done before it is delivered.
        _ => Ok((None, Some(Injected::Exception { vector, code }))),
    }
}

/// The NMI or interrupt that is on its way.
fn interrupted(new: &VcpuEvents) -> Option<Injected> {
    if new.nmi.injected != 0 {
        return Some(Injected::Nmi);
    }
    (new.interrupt.injected != 0).then_some(Injected::Interrupt(new.interrupt.nr))
}

/// `KVM_GET_VCPU_EVENTS`. INIT and start-up messages have an effect now: whoever saves the vCPU asks
/// whether it runs after this, has them done by that, and would have them done again by an event.
pub(crate) fn get<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    mailbox::open(cx);
    user::write(arg, &snapshot(cx)?).map(|()| 0)
}

pub(crate) fn set<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let events: VcpuEvents = user::read(arg)?;
    restore(cx, &events).map(|()| 0)
}

/// `KVM_GET_MP_STATE`.
pub(crate) fn get_activity<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    mailbox::open(cx);
    let state = &*cx.state;
    let is_woken = state.pv.unhalted || state.pv.faults.halted;
    let wakes = state.activity == Activity::Halted && is_woken;
    let activity = if wakes { Activity::Runnable } else { state.activity };
    user::write(arg, &MpState { mp_state: activity as u32 }).map(|()| 0)
}

/// `KVM_SET_MP_STATE`.
///
/// # Errors
///
/// `EINVAL` for unknown states, and for those that need a local APIC if userspace
/// has it.
pub(crate) fn set_activity<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let MpState { mp_state } = user::read(arg)?;
    let activity = Activity::from_number(mp_state).ok_or(EINVAL)?;
    if activity != Activity::Runnable && cx.state.apic.is_none() {
        return Err(EINVAL);
    }
    cx.state.activity = activity;
    cx.state.pv.faults.halted = false;
    if activity == Activity::Runnable {
        // Whoever woke it meant what it was before.
        mailbox::collect(cx);
        cx.state.pv.unhalted = false;
    }
    if activity == Activity::SipiReceived {
        // What a vCPU is in that waits for the message that it has got.
        cx.state.activity = Activity::InitReceived;
        cx.state.events.startup.get_or_insert(cx.state.link.startup_page);
    }
    cx.state.events.check = true;
    Ok(0)
}
