// SPDX-License-Identifier: GPL-2.0
//! Instructions about storage keys. All of them are intercepted; see
//! [`crate::key`](mod@crate::key).

use crate::{
    guest, inject, key,
    state::{Cx, Next},
};
use kernel::error::Result;
use kvm_paging::addr::{Gfn, Gpa};
use s390_arch::{
    key::{Condition, Key},
    program::code,
    psw::Mask,
};

const PAGE: u64 = 0x1000;
/// Bytes of a segment.
const SEGMENT: u64 = 0x10_0000;

/// Facilities: segments at once, conditions, and not waiting for other CPUs.
const ENHANCED_DAT: u8 = 8;
const CONDITIONAL: u8 = 10;
const NONQUIESCING: u8 = 14;
const ENHANCED_DAT_2: u8 = 78;

fn has(cx: &Cx<'_>, facility: u8) -> bool {
    cx.vm.arch().model.lock().facilities.has(facility)
}

/// The page whose address is in the second register, as an absolute one, if there is
/// memory. The guest uses keys from now on.
fn operand(cx: &Cx<'_>) -> Result<Option<Gfn>> {
    key::enable(&cx.vm)?;
    let real = cx.state.block.psw.wrap(cx.state.gpr(cx.state.insn().rre2()));
    let at = guest::absolute(cx.state.block.prefix(), real & !(PAGE - 1));
    Ok(guest::exists(cx, at).then(|| Gpa::new(at).gfn()))
}

/// INSERT STORAGE KEY EXTENDED.
pub(super) fn iske(cx: &mut Cx<'_>) -> Result<Next> {
    let Some(gfn) = operand(cx)? else { return Ok(inject::program(cx, code::ADDRESSING)) };
    let found = key::insert(&cx.vm, &cx.state.memory, gfn)?;
    let first = cx.state.insn().rre1();
    cx.state.set_gpr(first, cx.state.gpr(first) & !0xff | u64::from(found.byte()));
    Ok(Next::Resume)
}

/// RESET REFERENCE BIT EXTENDED.
pub(super) fn rrbe(cx: &mut Cx<'_>) -> Result<Next> {
    let Some(gfn) = operand(cx)? else { return Ok(inject::program(cx, code::ADDRESSING)) };
    let records = key::reset_reference(&cx.vm, &cx.state.memory, gfn)?;
    cx.state.block.psw.set_condition(records >> 1);
    Ok(Next::Resume)
}

/// SET STORAGE KEY EXTENDED.
pub(super) fn sske(cx: &mut Cx<'_>) -> Result<Next> {
    const ANY_REFERENCE: u8 = 4;
    const ANY_CHANGE: u8 = 2;
    const MULTIPLE: u8 = 1;
    let insn = cx.state.insn();
    let mask = insn.rrf3();
    let is_conditional = has(cx, CONDITIONAL);
    let condition = Condition {
        any_reference: is_conditional && mask & ANY_REFERENCE != 0,
        any_change: is_conditional && mask & ANY_CHANGE != 0,
    };
    let new = Key::new(cx.state.gpr(insn.rre1()) as u8);
    if mask & MULTIPLE != 0 && has(cx, ENHANCED_DAT) {
        return set_rest(cx, new, condition);
    }
    let Some(gfn) = operand(cx)? else { return Ok(inject::program(cx, code::ADDRESSING)) };
    let old = key::set(&cx.vm, &cx.state.memory, gfn, new, condition)?;
    if condition.exists() {
        let first = cx.state.gpr(insn.rre1()) & !0xff00;
        cx.state.set_gpr(insn.rre1(), first | u64::from(old.byte()) << 8);
        cx.state.block.psw.set_condition(condition.wants(old, new).into());
    }
    Ok(Next::Resume)
}

/// Sets the keys from an absolute address to the end of its segment.
fn set_rest(cx: &mut Cx<'_>, new: Key, condition: Condition) -> Result<Next> {
    let second = cx.state.insn().rre2();
    let start = cx.state.block.psw.wrap(cx.state.gpr(second)) & !(PAGE - 1);
    let end = (start | (SEGMENT - 1)).wrapping_add(1);
    if let Some(next) =
        for_each(cx, start, end, Frames { set: Some((new, condition)), clear: false })?
    {
        return Ok(next);
    }
    advance(cx, second, end);
    if condition.exists() {
        // Whatever the keys were.
        cx.state.block.psw.set_condition(3);
    }
    Ok(Next::Resume)
}

/// Puts the address behind the last page into a register, whose bits below are kept.
fn advance(cx: &mut Cx<'_>, register: u8, end: u64) {
    let psw = cx.state.block.psw;
    let keep = if psw.has(Mask::EXTENDED) { PAGE - 1 } else { 0xffff_ffff_0000_0fff };
    cx.state.set_gpr(register, cx.state.gpr(register) & keep | psw.wrap(end));
}

/// What is done to frames.
#[derive(Clone, Copy)]
struct Frames {
    set: Option<(Key, Condition)>,
    clear: bool,
}

/// Does it to those from `start` up to `end`; an addressing exception where there is no
/// memory.
fn for_each(cx: &mut Cx<'_>, start: u64, end: u64, what: Frames) -> Result<Option<Next>> {
    if what.set.is_some() {
        key::enable(&cx.vm)?;
    }
    let mut at = start;
    while at != end {
        if !guest::exists(cx, at) {
            return Ok(Some(inject::program(cx, code::ADDRESSING)));
        }
        if what.clear {
            super::control::clear_page(cx, at)?;
        }
        if let Some((new, condition)) = what.set {
            let _ = key::set(&cx.vm, &cx.state.memory, Gpa::new(at).gfn(), new, condition)?;
        }
        at = at.wrapping_add(PAGE);
        kvm_sys::process::cond_resched();
    }
    Ok(None)
}

/// PERFORM FRAME MANAGEMENT FUNCTION: sets keys, or clears, or both.
pub(super) fn pfmf(cx: &mut Cx<'_>) -> Result<Next> {
    const RESERVED: u64 = 0xfffc_0101;
    const SET_KEY: u64 = 0x2_0000;
    const CLEAR: u64 = 0x1_0000;
    const SIZE: u64 = 0x7000;
    const NO_QUIESCE: u64 = 0x800;
    const ANY_REFERENCE: u64 = 0x400;
    const ANY_CHANGE: u64 = 0x200;
    if !has(cx, ENHANCED_DAT) {
        return Ok(inject::program(cx, code::OPERATION));
    }
    if cx.state.block.psw.has(Mask::PROBLEM) {
        return Ok(inject::program(cx, code::PRIVILEGED));
    }
    let (first, second) = (cx.state.insn().rre1(), cx.state.insn().rre2());
    let function = cx.state.gpr(first);
    if function & RESERVED != 0 || function & NO_QUIESCE != 0 && !has(cx, NONQUIESCING) {
        return Ok(inject::program(cx, code::SPECIFICATION));
    }
    let psw = cx.state.block.psw;
    let start = psw.wrap(cx.state.gpr(second)) & !(PAGE - 1);
    let is_clear = function & CLEAR != 0;
    if is_clear {
        if let Err(missed) = guest::check_low_real(cx, start) {
            return missed.into_next(cx);
        }
    }
    let is_wide = psw.has(Mask::BASIC);
    let (start, size) = match function & SIZE {
        0 => (guest::absolute(cx.state.block.prefix(), start), PAGE),
        0x1000 => (start, SEGMENT),
        0x2000 if is_wide && has(cx, ENHANCED_DAT_2) => (start, SEGMENT << 11),
        _ => return Ok(inject::program(cx, code::SPECIFICATION)),
    };
    let end = (start | size.wrapping_sub(1)).wrapping_add(1);
    let is_conditional = has(cx, CONDITIONAL);
    let condition = Condition {
        any_reference: is_conditional && function & ANY_REFERENCE != 0,
        any_change: is_conditional && function & ANY_CHANGE != 0,
    };
    let set = (function & SET_KEY != 0).then_some((Key::new(function as u8), condition));
    if let Some(next) = for_each(cx, start, end, Frames { set, clear: is_clear })? {
        return Ok(next);
    }
    if function & SIZE != 0 {
        advance(cx, second, end);
    }
    Ok(Next::Resume)
}
