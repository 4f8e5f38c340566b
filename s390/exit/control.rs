// SPDX-License-Identifier: GPL-2.0
//! Control instructions: PSW, prefix, control registers, clock.

use crate::{
    guest::{self, Missed, Piece, Purpose},
    inject,
    state::{set_prefix, Cx, Next},
};
use kernel::{error::Result, prelude::*, sync::atomic::Relaxed};
use kvm_core::memory::Kind;
use kvm_paging::addr::Gpa;
use s390_arch::{
    insn::Address,
    program::code,
    psw::{Mask, Psw},
};
use zerocopy::IntoBytes;

/// Ends a handler with what a failed access means.
macro_rules! attempt {
    ($cx:ident, $access:expr) => {
        match $access {
            Ok(value) => value,
            Err(missed) => return $crate::guest::Missed::into_next(missed, $cx),
        }
    };
}
pub(super) use attempt;

/// The address of an operand, if it is aligned.
pub(super) fn operand(cx: &Cx<'_>, address: Address, align: u64) -> Option<u64> {
    let address = cx.state.block.psw.wrap(address.resolve(&cx.state.gprs));
    (address & align.wrapping_sub(1) == 0).then_some(address)
}

fn specification(cx: &mut Cx<'_>) -> Result<Next> {
    Ok(inject::program(cx, code::SPECIFICATION))
}

/// LOAD PSW.
pub(super) fn lpsw(cx: &mut Cx<'_>) -> Result<Next> {
    const SHORT: u64 = 1 << 51;
    if cx.state.block.psw.has(Mask::PROBLEM) {
        return Ok(inject::program(cx, code::PRIVILEGED));
    }
    let place = cx.state.insn().base2();
    let Some(address) = operand(cx, place, 8) else { return specification(cx) };
    let short = attempt!(cx, guest::read_u64(cx, address, place.base));
    if short & SHORT == 0 {
        return specification(cx);
    }
    load_psw(cx, Psw::from_short(short))
}

/// LOAD PSW EXTENDED.
pub(super) fn lpswe(cx: &mut Cx<'_>) -> Result<Next> {
    let place = cx.state.insn().base2();
    let Some(address) = operand(cx, place, 8) else { return specification(cx) };
    let mut new = [0_u64; 2];
    attempt!(cx, guest::read(cx, address, place.base, new.as_mut_bytes()));
    let [mask, address] = new;
    load_psw(cx, Psw { mask, address })
}

/// The new PSW counts even if it isn't valid: the exception comes with it.
fn load_psw(cx: &mut Cx<'_>, psw: Psw) -> Result<Next> {
    cx.state.block.psw = psw;
    if !psw.is_valid() {
        return specification(cx);
    }
    Ok(Next::Resume)
}

/// EXTRACT PSW.
pub(super) fn epsw(cx: &mut Cx<'_>) -> Result<Next> {
    let insn = cx.state.insn();
    let mask = cx.state.block.psw.mask;
    let half = |old: u64, new: u64| old & 0xffff_ffff_0000_0000 | new & 0xffff_ffff;
    let (first, second) = (insn.rre1(), insn.rre2());
    cx.state.set_gpr(first, half(cx.state.gpr(first), mask >> 32));
    if second != 0 {
        cx.state.set_gpr(second, half(cx.state.gpr(second), mask));
    }
    Ok(Next::Resume)
}

/// SET PREFIX.
pub(super) fn spx(cx: &mut Cx<'_>) -> Result<Next> {
    let place = cx.state.insn().base2();
    let Some(address) = operand(cx, place, 4) else { return specification(cx) };
    let mut prefix = 0_u32;
    attempt!(cx, guest::read(cx, address, place.base, prefix.as_mut_bytes()));
    let prefix = prefix & 0x7fff_e000;
    if !guest::exists(cx, prefix.into()) {
        return Ok(inject::program(cx, code::ADDRESSING));
    }
    set_prefix(cx, prefix);
    Ok(Next::Resume)
}

/// STORE PREFIX.
pub(super) fn stpx(cx: &mut Cx<'_>) -> Result<Next> {
    let place = cx.state.insn().base2();
    let Some(address) = operand(cx, place, 4) else { return specification(cx) };
    let prefix = cx.state.block.prefix();
    attempt!(cx, guest::write(cx, address, place.base, prefix.as_bytes()));
    Ok(Next::Resume)
}

/// STORE CPU ADDRESS.
pub(super) fn stap(cx: &mut Cx<'_>) -> Result<Next> {
    let place = cx.state.insn().base2();
    let Some(address) = operand(cx, place, 2) else { return specification(cx) };
    let number = cx.vcpu.id() as u16;
    attempt!(cx, guest::write(cx, address, place.base, number.as_bytes()));
    Ok(Next::Resume)
}

/// PERFORM TIMING FACILITY FUNCTION: there is no clock steering for guests.
pub(super) fn ptff(cx: &mut Cx<'_>) -> Result<Next> {
    cx.state.block.psw.set_condition(3);
    Ok(Next::Resume)
}

/// SET CLOCK PROGRAMMABLE FIELD.
pub(super) fn sckpf(cx: &mut Cx<'_>) -> Result<Next> {
    let value = cx.state.gpr(0);
    if value & 0xffff_0000 != 0 {
        return specification(cx);
    }
    cx.state.block.tod_programmable = value as u32 & 0xffff;
    Ok(Next::Resume)
}

/// SET CLOCK: that of the whole guest.
pub(super) fn sck(cx: &mut Cx<'_>) -> Result<Next> {
    let place = cx.state.insn().base2();
    let Some(address) = operand(cx, place, 8) else { return specification(cx) };
    let value = attempt!(cx, guest::read_u64(cx, address, place.base));
    crate::ioctl::clock::set(&cx.vm, value);
    cx.state.block.epoch = cx.vm.arch().epoch.load(Relaxed);
    cx.state.block.psw.set_condition(0);
    Ok(Next::Resume)
}

/// TEST PROTECTION: what the guest's tables, the frame's key and the slot allow.
pub(super) fn tprot(cx: &mut Cx<'_>) -> Result<Next> {
    let insn = cx.state.insn();
    let place = insn.sse1();
    let address = cx.state.block.psw.wrap(place.resolve(&cx.state.gprs));
    let key = (insn.sse2().resolve(&cx.state.gprs) >> 4 & 0xf) as u8;
    let store = match guest::translate(cx, address, place.base, Purpose::Store) {
        // The guest's own protection: perhaps it can be fetched.
        Err(Missed::Program(program)) if program.code == code::PROTECTION => None,
        other => Some(other),
    };
    let may_store = store.is_some();
    let fetch = || guest::translate(cx, address, place.base, Purpose::Fetch);
    let condition = match store.unwrap_or_else(fetch) {
        Ok(at) => {
            let piece = Piece { address, at, count: 1 };
            let allows = |purpose| guest::is_allowed(cx, piece, place.base, purpose, key);
            let is_writable = may_store && cx.vm.memory().kind(Gpa::new(at)) == Kind::Memory;
            if !allows(Purpose::Fetch)? {
                2
            } else {
                u8::from(!is_writable || !allows(Purpose::Store)?)
            }
        }
        Err(Missed::Program(program)) => match program.code {
            code::ADDRESSING => return Ok(inject::program(cx, code::ADDRESSING)),
            code::TRANSLATION_SPECIFICATION => return Ok(inject::program_with(cx, program)),
            _ => 3,
        },
        Err(Missed::Host(error)) => return Err(error),
    };
    cx.state.block.psw.set_condition(condition);
    Ok(Next::Resume)
}

/// TEST BLOCK: clears a page, which is never broken.
pub(super) fn test_block(cx: &mut Cx<'_>) -> Result<Next> {
    let real = cx.state.block.psw.wrap(cx.state.gpr(cx.state.insn().rre2())) & !0xfff;
    let at = guest::absolute(cx.state.block.prefix(), real);
    if !guest::exists(cx, at) {
        return Ok(inject::program(cx, code::ADDRESSING));
    }
    clear_page(cx, at)?;
    cx.state.set_gpr(0, 0);
    cx.state.block.psw.set_condition(0);
    Ok(Next::Resume)
}

/// Clears a page at an absolute address.
pub(super) fn clear_page(cx: &Cx<'_>, at: u64) -> Result {
    let zeroes = [0_u8; 512];
    (0..8_u64).try_for_each(|part| {
        cx.vm.memory().write(Gpa::new(at.wrapping_add(part.wrapping_mul(512))), &zeroes)
    })
}

/// The control registers from `first` to `last`, which may wrap around.
fn range(first: u8, last: u8) -> impl Iterator<Item = u8> {
    let count = last.wrapping_sub(first) & 15;
    (0..=count).map(move |step| first.wrapping_add(step) & 15)
}

fn control(cx: &Cx<'_>, number: u8) -> u64 {
    cx.state.block.control.get(usize::from(number)).copied().unwrap_or(0)
}

/// Loads control registers from big-endian numbers of `size` bytes.
fn load_control(cx: &mut Cx<'_>, place: Address, size: usize) -> Result<Next> {
    let insn = cx.state.insn();
    let Some(address) = operand(cx, place, size as u64) else { return specification(cx) };
    let count = range(insn.r1(), insn.r3()).count();
    let mut bytes = [0_u8; 128];
    let used = bytes.get_mut(..count.wrapping_mul(size)).ok_or(EINVAL)?;
    attempt!(cx, guest::read(cx, address, place.base, used));
    for (number, chunk) in range(insn.r1(), insn.r3()).zip(bytes.chunks(size)) {
        let Some(register) = cx.state.block.control.get_mut(usize::from(number)) else { continue };
        let value = chunk.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        *register = if size == 4 { *register & 0xffff_ffff_0000_0000 | value } else { value };
    }
    cx.state.flush();
    Ok(Next::Resume)
}

/// Stores them.
fn store_control(cx: &mut Cx<'_>, place: Address, size: usize) -> Result<Next> {
    let insn = cx.state.insn();
    let Some(address) = operand(cx, place, size as u64) else { return specification(cx) };
    let mut bytes = [0_u8; 128];
    let mut used = 0;
    for (number, chunk) in range(insn.r1(), insn.r3()).zip(bytes.chunks_mut(size)) {
        let value = control(cx, number).to_be_bytes();
        let skip = value.len().saturating_sub(size);
        chunk.iter_mut().zip(value.iter().skip(skip)).for_each(|(to, from)| *to = *from);
        used = size.saturating_add(used);
    }
    let bytes = bytes.get(..used).ok_or(EINVAL)?;
    attempt!(cx, guest::write(cx, address, place.base, bytes));
    Ok(Next::Resume)
}

/// LOAD CONTROL, 32 bits.
pub(super) fn lctl(cx: &mut Cx<'_>) -> Result<Next> {
    load_control(cx, cx.state.insn().base2(), 4)
}

/// LOAD CONTROL, 64 bits.
pub(super) fn lctlg(cx: &mut Cx<'_>) -> Result<Next> {
    load_control(cx, cx.state.insn().base2_long(), 8)
}

/// STORE CONTROL, 32 bits.
pub(super) fn stctl(cx: &mut Cx<'_>) -> Result<Next> {
    store_control(cx, cx.state.insn().base2(), 4)
}

/// STORE CONTROL, 64 bits.
pub(super) fn stctg(cx: &mut Cx<'_>) -> Result<Next> {
    store_control(cx, cx.state.insn().base2_long(), 8)
}
