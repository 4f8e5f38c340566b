// SPDX-License-Identifier: GPL-2.0
//! Intercepted instructions, by their opcode.

use super::{channel, control, diagnose, key, signal, system};
use crate::{
    guest, inject,
    state::{Cx, Next},
};
use kernel::error::Result;
use kvm_core::memory::Fault;
use kvm_paging::{addr::Gpa, entry::Access};
use s390_arch::{program::code, psw::Mask};

/// Handles an instruction; what isn't the kernel's goes to userspace.
pub(super) fn handle(cx: &mut Cx<'_>) -> Result<Next> {
    let insn = cx.state.insn();
    let low = insn.ipa as u8;
    match insn.opcode() {
        0x01 if low == 0x04 => control::ptff(cx),
        0x01 if low == 0x07 => privileged(cx, control::sckpf),
        0x82 => control::lpsw(cx),
        0x83 => privileged(cx, diagnose::handle),
        0xae => privileged(cx, signal::handle),
        0xb2 => b2(cx, low),
        0xb6 => privileged(cx, control::stctl),
        0xb7 => privileged(cx, control::lctl),
        0xb9 => match low {
            // CSPG, IDTE, CRDTE.
            0x8a | 0x8e | 0x8f => privileged(cx, interlock),
            0x8d => control::epsw(cx),
            // ESSA: there is no collaborative memory management.
            0xab => Ok(inject::program(cx, code::OPERATION)),
            0xaf => key::pfmf(cx),
            _ => Ok(Next::Intercept),
        },
        0xe5 if low == 0x01 => privileged(cx, control::tprot),
        0xeb => match insn.ipb as u8 {
            0x25 => privileged(cx, control::stctg),
            0x2f => privileged(cx, control::lctlg),
            _ => Ok(Next::Intercept),
        },
        _ => Ok(Next::Intercept),
    }
}

fn b2(cx: &mut Cx<'_>, low: u8) -> Result<Next> {
    match low {
        0x02 => privileged(cx, system::stidp),
        0x04 => privileged(cx, control::sck),
        0x10 => privileged(cx, control::spx),
        0x11 => privileged(cx, control::stpx),
        0x12 => privileged(cx, control::stap),
        // IPTE and CSP.
        0x21 | 0x50 => privileged(cx, interlock),
        0x29 => privileged(cx, key::iske),
        0x2a => privileged(cx, key::rrbe),
        0x2b => privileged(cx, key::sske),
        0x2c => privileged(cx, control::test_block),
        // Channel instructions.
        0x30..=0x3c | 0x5f | 0x74 | 0x76 => privileged(cx, channel::handle),
        0x7d => privileged(cx, system::stsi),
        0xb0 => system::stfle(cx),
        0xb1 => privileged(cx, system::stfl),
        0xb2 => privileged(cx, control::lpswe),
        _ => Ok(Next::Intercept),
    }
}

/// An instruction that has to wait until the host is through with the guest's tables.
fn interlock(cx: &mut Cx<'_>) -> Result<Next> {
    cx.vcpu.stats().arch.instruction_ipte_interlock.add(1);
    cx.vm.arch().sca.wait();
    cx.state.retry_insn();
    Ok(Next::Resume)
}

/// Refuses an instruction in problem state.
fn privileged(cx: &mut Cx<'_>, handle: impl FnOnce(&mut Cx<'_>) -> Result<Next>) -> Result<Next> {
    if cx.state.block.psw.has(Mask::PROBLEM) {
        return Ok(inject::program(cx, code::PRIVILEGED));
    }
    handle(cx)
}

/// An instruction that SIE began and couldn't end.
pub(super) fn partial(cx: &mut Cx<'_>) -> Result<Next> {
    let insn = cx.state.insn();
    if insn.ipa == 0xb254 {
        return move_page(cx);
    }
    Ok(Next::Intercept)
}

/// MOVE PAGE with a page that the host hasn't mapped.
fn move_page(cx: &mut Cx<'_>) -> Result<Next> {
    let insn = cx.state.insn();
    let operands = [
        (insn.rre2(), guest::Purpose::Fetch, Access::READ),
        (insn.rre1(), guest::Purpose::Store, Access::READ | Access::WRITE),
    ];
    for (register, purpose, access) in operands {
        let address = cx.state.gpr(register);
        let at = match guest::translate(cx, address, register, purpose) {
            Ok(at) => at,
            Err(missed) => return missed.into_next(cx),
        };
        let vm = cx.vm;
        match vm.memory().fault(&mut cx.state.memory, Gpa::new(at), access)? {
            Fault::Mapped | Fault::Spurious | Fault::Retry | Fault::Slow(_) => {}
            Fault::Mmio | Fault::ReadOnly => return Ok(inject::program(cx, code::ADDRESSING)),
        }
    }
    cx.state.retry_insn();
    Ok(Next::Resume)
}
