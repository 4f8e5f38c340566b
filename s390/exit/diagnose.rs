// SPDX-License-Identifier: GPL-2.0
//! DIAGNOSE: services of the hypervisor.

use super::control::operand;
use crate::{
    run,
    state::{Cx, Next},
    vm::Choice,
};
use kernel::error::Result;
use kvm_sys::process;
use kvm_uapi::run::reason;

/// DIAGNOSE.
pub(super) fn handle(cx: &mut Cx<'_>) -> Result<Next> {
    let function = operand(cx, cx.state.insn().base2(), 1).unwrap_or(0) as u16;
    match function {
        0x44 => {
            process::cond_resched();
            Ok(Next::Resume)
        }
        0x9c => {
            // The one that is to run gets its turn sooner if this one waits.
            process::cond_resched();
            Ok(Next::Resume)
        }
        0x308 => reset(cx),
        _ => Ok(Next::Intercept),
    }
}

/// Flags of a reset for userspace.
mod flag {
    pub(super) const CLEAR: u64 = 2;
    pub(super) const SUBSYSTEM: u64 = 4;
    pub(super) const CPU_INIT: u64 = 8;
    pub(super) const IPL: u64 = 16;
}

/// Re-IPL.
fn reset(cx: &mut Cx<'_>) -> Result<Next> {
    let register = cx.state.insn().r3();
    let kind = match cx.state.gpr(register) as u16 {
        3 => flag::CLEAR,
        4 => 0,
        _ => return Ok(Next::Intercept),
    };
    if !cx.vm.arch().choices.has(Choice::UserCpuState) {
        run::stop(cx);
    }
    let flags = kind | flag::SUBSYSTEM | flag::CPU_INIT | flag::IPL;
    run::exit_with(cx, reason::KVM_EXIT_S390_RESET, flags)
}
