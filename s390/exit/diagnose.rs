// SPDX-License-Identifier: GPL-2.0
//! DIAGNOSE: services of the hypervisor.

use super::control::operand;
use crate::{
    guest, inject,
    pfault::Pfault,
    run,
    state::{Cx, Next},
    vm::Choice,
};
use kernel::error::Result;
use kvm_core::io_bus::Space;
use kvm_paging::addr::Gpa;
use kvm_sys::s390;
use kvm_uapi::run::reason;
use s390_arch::{page_reference::PageReference, program::code};
use zerocopy::IntoBytes;

/// DIAGNOSE.
pub(super) fn handle(cx: &mut Cx<'_>) -> Result<Next> {
    let function = operand(cx, cx.state.insn().base2(), 1).unwrap_or(0) as u16;
    match function {
        0x10 => release_pages(cx),
        // The guest spins.
        0x44 => {
            let _ = cx.vm.vcpus().yield_to_any(cx.vcpu);
            Ok(Next::Resume)
        }
        0x9c => {
            yield_to(cx);
            Ok(Next::Resume)
        }
        0x258 => page_reference(cx),
        0x308 => reset(cx),
        0x500 => notify(cx),
        _ => Ok(Next::Intercept),
    }
}

/// The guest doesn't need the contents of pages any more. Their addresses are real, so
/// the two pages of the prefix are the first two of the machine.
fn release_pages(cx: &mut Cx<'_>) -> Result<Next> {
    let insn = cx.state.insn();
    let (first, last) = (cx.state.gpr(insn.r1()), cx.state.gpr(insn.r3()));
    let end = last.wrapping_add(0x1000);
    if (first | end) & 0xfff != 0 || first >= end || first < 0x2000 {
        return Ok(inject::program(cx, code::SPECIFICATION));
    }
    let release = |first: u64, end: u64| {
        let (first, end) = (Gpa::new(first).gfn(), Gpa::new(end).gfn());
        cx.vm.memory().guest().for_each_piece(first, end, s390::discard);
    };
    let prefix = u64::from(cx.state.block.prefix());
    let behind = prefix.saturating_add(0x2000);
    if end <= prefix || first >= behind {
        release(first, end);
        return Ok(Next::Resume);
    }
    release(first, prefix.max(first));
    for page in [0, 0x1000] {
        if (first..end).contains(&prefix.wrapping_add(page)) {
            release(page, page.wrapping_add(0x1000));
        }
    }
    release(behind.min(end), end);
    Ok(Next::Resume)
}

/// The guest waits for a CPU.
fn yield_to(cx: &Cx<'_>) {
    let wanted = cx.state.gpr(cx.state.insn().r1()) as u16;
    let target = cx.vm.vcpus().iter().find(|vcpu| vcpu.id() == u32::from(wanted));
    if let Some(target) = target.filter(|target| !target.shared().is_running()) {
        let _ = cx.vm.vcpus().yield_to(cx.vcpu, target.index());
    }
}

/// A virtio-ccw queue has something: the subchannel is in general register 2, the
/// queue in 3. The answer in 2 is a cookie, which isn't needed here.
fn notify(cx: &mut Cx<'_>) -> Result<Next> {
    const CCW_NOTIFY: u64 = 3;
    if !cx.vm.arch().choices.has(Choice::Css) || cx.state.gpr(1) != CCW_NOTIFY {
        return Ok(Next::Intercept);
    }
    let (subchannel, queue) = (cx.state.gpr(2) & 0xffff_ffff, cx.state.gpr(3));
    if !cx.vm.io().write(&cx.vm, Space::CcwNotify, subchannel, &queue.to_ne_bytes()) {
        return Ok(Next::Intercept);
    }
    cx.state.set_gpr(2, 0);
    Ok(Next::Resume)
}

/// What the guest wants to do about page faults that take I/O.
fn page_reference(cx: &mut Cx<'_>) -> Result<Next> {
    let insn = cx.state.insn();
    let at = cx.state.gpr(insn.r1());
    if at & 7 != 0 {
        return Ok(inject::program(cx, code::SPECIFICATION));
    }
    let mut words = [0_u64; 5];
    let absolute = guest::absolute(cx.state.block.prefix(), cx.state.block.psw.wrap(at));
    if cx.vm.memory().read(Gpa::new(absolute), words.as_mut_bytes()).is_err() {
        return Ok(inject::program(cx, code::ADDRESSING));
    }
    let Some(order) = PageReference::parse(words) else {
        return Ok(inject::program(cx, code::SPECIFICATION));
    };
    let pfault = &mut cx.state.pfault;
    let answer = match order {
        PageReference::Token { .. } if pfault.is_on() => ALREADY_ON,
        PageReference::Token { token, select, compare } => {
            if !guest::exists(cx, token) {
                return Ok(inject::program(cx, code::ADDRESSING));
            }
            cx.state.pfault = Pfault { token, select, compare };
            0
        }
        PageReference::Cancel if !pfault.is_on() => ALREADY_OFF,
        PageReference::Cancel => {
            // Tokens that the guest knows stay good.
            *pfault = Pfault::OFF;
            0
        }
        PageReference::Other => return Ok(Next::Intercept),
    };
    cx.state.set_gpr(insn.r3(), answer);
    Ok(Next::Resume)
}

/// Answers of DIAGNOSE 258.
const ALREADY_ON: u64 = 8;
const ALREADY_OFF: u64 = 4;

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
