// SPDX-License-Identifier: GPL-2.0
//! Channel instructions. Userspace has the channels; the interruptions are here.

use super::control::{attempt, operand};
use crate::{
    floating::{self, Floating},
    guest::{self, write_low},
    inject, run,
    state::{Cx, Next},
    vm::Choice,
};
use kernel::error::Result;
use kvm_uapi::run::{reason, TestSubchannel};
use s390_arch::{lowcore, program::code};
use zerocopy::IntoBytes;

/// An instruction of channels.
pub(super) fn handle(cx: &mut Cx<'_>) -> Result<Next> {
    if !cx.vm.arch().choices.has(Choice::Css) {
        // There are none.
        cx.state.block.psw.set_condition(3);
        return Ok(Next::Resume);
    }
    match cx.state.insn().ipa {
        0xb235 => test_subchannel(cx),
        0xb236 => test_pending(cx),
        _ => Ok(Next::Intercept),
    }
}

/// TEST SUBCHANNEL: takes the subchannel's interruption off; the rest is
/// userspace's.
fn test_subchannel(cx: &mut Cx<'_>) -> Result<Next> {
    let wanted = cx.state.gpr(1) as u32;
    let io = match wanted {
        0 => None,
        _ => cx.vm.arch().floating.take_io(0xff, Some(wanted)),
    };
    let found = io.unwrap_or_default();
    let what = TestSubchannel {
        subchannel_id: found.subchannel_id,
        subchannel_nr: found.subchannel,
        io_int_parm: found.parameter,
        io_int_word: found.word,
        ipb: cx.state.block.ipb,
        dequeued: io.is_some().into(),
        pad: [0; 3],
    };
    run::exit_with(cx, reason::KVM_EXIT_S390_TSCH, what)
}

/// TEST PENDING INTERRUPTION: takes an interruption that is enabled in control
/// register 6, whatever the PSW says.
fn test_pending(cx: &mut Cx<'_>) -> Result<Next> {
    let place = cx.state.insn().base2();
    let Some(address) = operand(cx, place, 4) else {
        return Ok(inject::program(cx, code::SPECIFICATION));
    };
    let [_, _, _, _, _, _, cr6, ..] = cx.state.block.control;
    let Some(io) = cx.vm.arch().floating.take_io((cr6 >> 24) as u8, None) else {
        cx.state.block.psw.set_condition(0);
        return Ok(Next::Resume);
    };
    let words = io.words();
    if address == 0 {
        write_low(cx, lowcore::IO, words)?;
    } else {
        let [id, parameter, _] = words;
        let code = [id, parameter];
        if let Err(missed) = guest::write(cx, address, place.base, code.as_bytes()) {
            floating::inject(&cx.vm, Floating::Io(io))?;
            attempt!(cx, Err::<(), _>(missed));
        }
    }
    cx.state.block.psw.set_condition(1);
    Ok(Next::Resume)
}
