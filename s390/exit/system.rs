// SPDX-License-Identifier: GPL-2.0
//! What the guest learns of the machine.

use super::control::{attempt, operand};
use crate::{
    guest::{self, write_low},
    inject, run,
    state::{Cx, Next},
    vm::Choice,
};
use kernel::{error::Result, prelude::*};
use kvm_sys::s390;
use kvm_uapi::run::{reason, StoreSystemInformation};
use s390_arch::{facility::WORDS, program::code, sysinfo};
use zerocopy::IntoBytes;

/// STORE CPU ID.
pub(super) fn stidp(cx: &mut Cx<'_>) -> Result<Next> {
    let place = cx.state.insn().base2();
    let Some(address) = operand(cx, place, 8) else {
        return Ok(inject::program(cx, code::SPECIFICATION));
    };
    let id = cx.vm.arch().model.lock().cpuid;
    attempt!(cx, guest::write(cx, address, place.base, id.as_bytes()));
    Ok(Next::Resume)
}

/// STORE FACILITY LIST: the first 32, at a fixed place.
pub(super) fn stfl(cx: &mut Cx<'_>) -> Result<Next> {
    const STFL: u64 = 0xc8;
    let [first, ..] = cx.vm.arch().model.lock().facilities.0;
    write_low(cx, STFL, (first >> 32) as u32)?;
    Ok(Next::Resume)
}

/// STORE FACILITY LIST EXTENDED, where the machine doesn't do it.
pub(super) fn stfle(cx: &mut Cx<'_>) -> Result<Next> {
    let facilities = cx.vm.arch().model.lock().facilities;
    if !facilities.has(7) {
        return Ok(inject::program(cx, code::OPERATION));
    }
    let place = cx.state.insn().base2();
    let Some(address) = operand(cx, place, 8) else {
        return Ok(inject::program(cx, code::SPECIFICATION));
    };
    let last = facilities.0.iter().rposition(|word| *word != 0).unwrap_or(0);
    let room = usize::from(cx.state.gpr(0) as u8);
    let words = room.min(last).min(WORDS);
    let list = facilities.0.get(..=words).ok_or(EINVAL)?;
    attempt!(cx, guest::write(cx, address, place.base, list.as_bytes()));
    let register = cx.state.gpr(0) & !0xff | last as u64;
    cx.state.set_gpr(0, register);
    cx.state.block.psw.set_condition(if room >= last { 0 } else { 3 });
    Ok(Next::Resume)
}

/// STORE SYSTEM INFORMATION.
pub(super) fn stsi(cx: &mut Cx<'_>) -> Result<Next> {
    let (gpr0, gpr1) = (cx.state.gpr(0), cx.state.gpr(1));
    let function = (gpr0 >> 28 & 0xf) as u8;
    let (selector_1, selector_2) = (gpr0 as u8, gpr1 as u16);
    if function > 3 {
        cx.state.block.psw.set_condition(3);
        return Ok(Next::Resume);
    }
    if gpr0 & 0x0fff_ff00 != 0 || gpr1 & 0xffff_0000 != 0 {
        return Ok(inject::program(cx, code::SPECIFICATION));
    }
    if function == 0 {
        // The highest level that there is: that of virtual machines.
        cx.state.set_gpr(0, 3 << 28);
        cx.state.block.psw.set_condition(0);
        return Ok(Next::Resume);
    }
    let place = cx.state.insn().base2();
    let Some(address) = operand(cx, place, 4096) else {
        return Ok(inject::program(cx, code::SPECIFICATION));
    };
    let mut block = KBox::new([0_u8; sysinfo::SIZE], GFP_KERNEL_ACCOUNT)?;
    let found = s390::store_system_information(function, selector_1, selector_2, &mut block);
    if function == 3 && (selector_1, selector_2) == (2, 2) {
        let cpus = cx.vm.vcpus().count().min(u16::MAX.into());
        sysinfo::add_level(&mut block, cpus as u16);
    } else if function == 3 || !found {
        cx.state.block.psw.set_condition(3);
        return Ok(Next::Resume);
    }
    attempt!(cx, guest::write(cx, address, place.base, &*block));
    cx.state.block.psw.set_condition(0);
    cx.state.set_gpr(0, 0);
    if cx.vm.arch().choices.has(Choice::UserStsi) {
        let what = StoreSystemInformation {
            addr: address,
            ar: place.base,
            reserved: 0,
            fc: function,
            sel1: selector_1,
            sel2: selector_2,
            pad: 0,
        };
        return run::exit_with(cx, reason::KVM_EXIT_S390_STSI, what);
    }
    Ok(Next::Resume)
}
