// SPDX-License-Identifier: GPL-2.0
//! Operation exceptions.

use super::program::new_psw;
use crate::{
    inject,
    state::{Cx, Next},
    vm::Choice,
};
use kernel::error::Result;
use s390_arch::{lowcore, program::code, psw::Mask};

pub(super) fn handle(cx: &mut Cx<'_>) -> Result<Next> {
    let choices = &cx.vm.arch().choices;
    let is_zero = cx.state.block.ipa == 0;
    if choices.has(Choice::UserOperation) || is_zero && choices.has(Choice::UserInstr0) {
        return Ok(Next::Intercept);
    }
    // A new PSW that leads to the same instruction again would repeat for ever.
    let (old, new) = (cx.state.block.psw, new_psw(cx, lowcore::PROGRAM)?);
    let is_near = old.address.wrapping_sub(new.address) <= 6;
    let mode = Mask::DAT.bits() | 3 << 46;
    if is_near
        && !new.has(Mask::WAIT)
        && !old.has(Mask::PROBLEM)
        && old.mask & mode == new.mask & mode
    {
        return Ok(Next::Intercept);
    }
    Ok(inject::program(cx, code::OPERATION))
}
