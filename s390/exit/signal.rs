// SPDX-License-Identifier: GPL-2.0
//! SIGNAL PROCESSOR, and the stop that it may ask for.

use super::{control::operand, store_status};
use crate::{
    run,
    shared::Shared,
    state::{Cx, Next},
    vm::Choice,
};
use kernel::{error::Result, sync::Arc};
use kvm_core::vcpu::Vcpu;
use s390_arch::{
    pending::Kinds,
    sigp::{order, status, Outcome},
};

/// What to do with an order.
enum Verdict {
    Done(Outcome),
    /// Userspace's.
    Userspace,
}

/// SIGNAL PROCESSOR.
pub(super) fn handle(cx: &mut Cx<'_>) -> Result<Next> {
    let insn = cx.state.insn();
    let address = operand(cx, insn.base2(), 1).unwrap_or(0);
    let order = address as u8;
    let target = cx.state.gpr(insn.r3()) as u16;
    if wants_userspace(cx, order) {
        return Ok(Next::Intercept);
    }
    let parameter = cx.state.gpr(insn.r1() | 1) as u32;
    let verdict = match order {
        order::SET_ARCHITECTURE => Verdict::Done(SET_ARCHITECTURE),
        _ => match find(cx, target) {
            None => Verdict::Done(Outcome::NotOperational),
            Some(vcpu) => apply(cx, order, parameter, &vcpu),
        },
    };
    let Verdict::Done(outcome) = verdict else { return Ok(Next::Intercept) };
    if let Outcome::Status(bits) = outcome {
        let old = cx.state.gpr(insn.r1());
        cx.state.set_gpr(insn.r1(), old & 0xffff_ffff_0000_0000 | u64::from(bits));
    }
    cx.state.block.psw.set_condition(outcome.condition());
    Ok(Next::Resume)
}

/// Whether userspace wants to see an order; the others have to be quick.
fn wants_userspace(cx: &Cx<'_>, order: u8) -> bool {
    let is_quick = matches!(
        order,
        order::SENSE
            | order::EXTERNAL_CALL
            | order::EMERGENCY
            | order::CONDITIONAL_EMERGENCY
            | order::SENSE_RUNNING
    );
    !is_quick && cx.vm.arch().choices.has(Choice::UserSigp)
}

/// A CPU of the guest by its address.
fn find(cx: &Cx<'_>, address: u16) -> Option<Arc<Vcpu<crate::sie::Sie>>> {
    cx.vm.vcpus().iter().find(|vcpu| vcpu.id() == u32::from(address)).cloned()
}

/// All CPUs are in z/Architecture already, and ESA/390 is never entered (the
/// configuration is one with the z/Architecture mode only, facility 138).
const SET_ARCHITECTURE: Outcome = Outcome::Status(status::INVALID_PARAMETER);

/// The sense-running-status facility.
const SENSES_RUNNING: u8 = 9;

fn apply(cx: &Cx<'_>, order: u8, parameter: u32, target: &Vcpu<crate::sie::Sie>) -> Verdict {
    let shared = target.shared();
    let own = cx.vcpu.id() as u8;
    let is_reset = matches!(order, order::INITIAL_RESET | order::RESET);
    if !is_reset && shared.kinds().intersects(Kinds::STOP | Kinds::RESTART) {
        // What it was told before isn't done yet.
        return Verdict::Done(Outcome::Busy);
    }
    let outcome = match order {
        order::SENSE => sense(shared),
        order::EXTERNAL_CALL => external_call(shared, own),
        order::EMERGENCY | order::CONDITIONAL_EMERGENCY => {
            let _ = shared.post(|local| {
                local.add_emergency(own);
                true
            });
            Outcome::Accepted
        }
        order::STOP => stop_target(shared, false),
        order::STOP_AND_STORE => stop_target(shared, true),
        order::SET_PREFIX => set_prefix(cx, shared, parameter),
        order::SENSE_RUNNING if !cx.vm.arch().model.lock().facilities.has(SENSES_RUNNING) => {
            Outcome::Status(status::INVALID_ORDER)
        }
        order::SENSE_RUNNING => {
            if shared.is_running() {
                Outcome::Accepted
            } else {
                Outcome::Status(status::NOT_RUNNING)
            }
        }
        _ => return Verdict::Userspace,
    };
    Verdict::Done(outcome)
}

fn sense(shared: &Shared) -> Outcome {
    let mut bits = 0;
    if shared.is_stopped() {
        bits |= status::STOPPED;
    }
    if shared.kinds().contains(Kinds::EXTERNAL_CALL) {
        bits |= status::EXTERNAL_CALL_PENDING;
    }
    if bits == 0 {
        Outcome::Accepted
    } else {
        Outcome::Status(bits)
    }
}

fn external_call(shared: &Shared, own: u8) -> Outcome {
    if shared.post_external_call(own.into()) {
        Outcome::Accepted
    } else {
        Outcome::Status(status::EXTERNAL_CALL_PENDING)
    }
}

/// Asks a CPU to stop. Of one that is stopped already userspace stores the status.
fn stop_target(shared: &Shared, store_status: bool) -> Outcome {
    if shared.is_stopped() {
        return if store_status {
            Outcome::Status(status::INCORRECT_STATE)
        } else {
            Outcome::Accepted
        };
    }
    if shared.post_stop(store_status) {
        Outcome::Accepted
    } else {
        Outcome::Busy
    }
}

fn set_prefix(cx: &Cx<'_>, shared: &Shared, parameter: u32) -> Outcome {
    let prefix = parameter & 0x7fff_e000;
    if !crate::guest::exists(cx, prefix.into()) {
        return Outcome::Status(status::INVALID_PARAMETER);
    }
    if !shared.is_stopped() {
        return Outcome::Status(status::INCORRECT_STATE);
    }
    let _ = shared.post(|local| {
        local.kinds |= Kinds::SET_PREFIX;
        local.prefix = prefix;
        true
    });
    Outcome::Accepted
}

/// The CPU was asked to stop, and nothing else comes first.
pub(super) fn stop(cx: &mut Cx<'_>) -> Result<Next> {
    let gate = cx.state.gate();
    let stop = cx.vcpu.shared().with_local(|local| {
        if !local.deliverable(&gate).is_empty() || !local.kinds.contains(Kinds::STOP) {
            return None;
        }
        local.kinds.remove(Kinds::STOP);
        Some(local.stop)
    });
    let Some(stop) = stop else { return Ok(Next::Resume) };
    cx.state.kinds.remove(Kinds::STOP);
    if stop.store_status {
        store_status::store(cx, 0)?;
    }
    if !cx.vm.arch().choices.has(Choice::UserCpuState) {
        run::stop(cx);
    }
    Ok(Next::Intercept)
}
