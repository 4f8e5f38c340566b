// SPDX-License-Identifier: GPL-2.0
//! Interceptions, by their code.

mod channel;
mod control;
mod diagnose;
mod fault;
mod instruction;
mod key;
mod operation;
mod program;
mod signal;
pub(crate) mod store_status;
mod system;
mod wait;

use crate::{
    debug, guest,
    state::{Cx, Next},
};
use kernel::{error::Result, pr_warn_once, prelude::*};
use kvm_sys::s390;
use s390_arch::{
    intercept::code,
    pending::{Kinds, MachineCheck},
};

/// Handles what SIE came out for.
pub(crate) fn handle(cx: &mut Cx<'_>) -> Result<Next> {
    let stats = &cx.vcpu.stats().arch;
    match cx.state.block.intercept {
        0 => match s390::take_host_fault() {
            Some(fault) => fault::handle(cx, fault),
            None => {
                stats.exit_null.add(1);
                Ok(Next::Resume)
            }
        },
        code::INSTRUCTION => {
            stats.exit_instruction.add(1);
            let next = instruction::handle(cx)?;
            recorded(cx, next)
        }
        code::PROGRAM => {
            stats.exit_program_interruption.add(1);
            program::handle(cx)
        }
        code::EXTERNAL_REQUEST => {
            stats.exit_external_request.add(1);
            Ok(Next::Resume)
        }
        code::IO_REQUEST => {
            stats.exit_io_request.add(1);
            Ok(Next::Resume)
        }
        code::EXTERNAL => {
            stats.exit_external_interruption.add(1);
            program::external(cx)
        }
        code::WAIT => {
            stats.exit_wait_state.add(1);
            wait::handle(cx)
        }
        code::VALIDITY => {
            stats.exit_validity.add(1);
            validity(cx)
        }
        code::STOP => {
            stats.exit_stop_request.add(1);
            signal::stop(cx)
        }
        code::OPERATION => {
            stats.exit_operation_exception.add(1);
            let next = operation::handle(cx)?;
            recorded(cx, next)
        }
        code::PARTIAL => {
            stats.exit_pei.add(1);
            instruction::partial(cx)
        }
        code::MACHINE_CHECK_REQUEST | code::ENABLED => Ok(Next::Resume),
        _ => Ok(Next::Intercept),
    }
}

/// After an instruction was handled: its fetching may be an event.
#[inline]
fn recorded(cx: &mut Cx<'_>, next: Next) -> Result<Next> {
    /// The interception comes with an instruction-fetching event.
    const FETCHED: u8 = 2;
    if cx.state.block.intercept_status & FETCHED == 0 {
        return Ok(next);
    }
    debug::intercepted(cx, next)
}

/// SIE refuses the block or the guest's state.
fn validity(cx: &mut Cx<'_>) -> Result<Next> {
    /// A page of the prefix isn't there.
    const PREFIX: u16 = 0x37;
    let why = (cx.state.block.ipb >> 16) as u16;
    if why == PREFIX {
        let prefix = u64::from(cx.state.block.prefix());
        if ![prefix, prefix.wrapping_add(0x1000)].iter().all(|page| guest::exists(cx, *page)) {
            // Nor will it be there the next time.
            return Err(EFAULT);
        }
        cx.vcpu.requests.set(crate::sie::MAP_PREFIX);
        return Ok(Next::Resume);
    }
    pr_warn_once!("validity interception {:#x}\n", why);
    Err(EINVAL)
}

/// The machine had a check while the guest ran: the guest gets it.
pub(crate) fn machine_check(cx: &mut Cx<'_>) -> Result<Next> {
    /// Subclasses that a check belongs to: recovery, degradation, external
    /// damage, warning.
    const SUBCLASSES: u64 = 0x1f00_0000;
    let page = cx.state.block.page();
    let check = MachineCheck {
        subclasses: SUBCLASSES,
        code: page.machine_check_code,
        failing_storage: page.failing_storage,
        external_damage: page.external_damage,
        fixed_logout: [0; 16],
    };
    let _ = cx.vcpu.shared().post(|local| {
        local.machine_check = check;
        local.kinds |= Kinds::MACHINE_CHECK;
        true
    });
    Ok(Next::Resume)
}
