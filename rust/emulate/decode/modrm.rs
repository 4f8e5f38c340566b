// SPDX-License-Identifier: GPL-2.0
//! ModRM, SIB and displacement.
//!
//! Intel SDM volume 2 section 2.1.5, tables 2-1 to 2-3, and section 2.2.1.6.

use super::insn::Mem;
use super::prefix::Prefixes;
use super::{Cursor, DecodeError};
use x86_defs::{Mode, SegReg};

/// Address size in bytes: 2, 4 or 8.
#[inline]
pub(super) fn address_size(p: &Prefixes, mode: Mode) -> u8 {
    match (mode, p.addrsize) {
        (Mode::Long64, false) => 8,
        (Mode::Long64, true) | (Mode::Prot32, false) => 4,
        (Mode::Prot32, true) => 2,
        (_, true) => 4,
        (_, false) => 2,
    }
}

/// Parses the memory reference of a ModRM byte whose mod is not 3.
#[inline]
pub(super) fn parse(
    c: &mut Cursor<'_>,
    modrm: u8,
    p: &Prefixes,
    mode: Mode,
) -> Result<Mem, DecodeError> {
    let mut mem = match address_size(p, mode) {
        2 => parse16(c, modrm)?,
        _ => parse32(c, modrm, p, mode)?,
    };
    if let Some(seg) = p.seg {
        mem.seg = seg;
    }
    Ok(mem)
}

const RBX: u8 = 3;
const RSP: u8 = 4;
const RBP: u8 = 5;
const RSI: u8 = 6;
const RDI: u8 = 7;

fn parse16(c: &mut Cursor<'_>, modrm: u8) -> Result<Mem, DecodeError> {
    let mode = modrm >> 6;
    let (base, index) = match modrm & 7 {
        0 => (RBX, RSI),
        1 => (RBX, RDI),
        2 => (RBP, RSI),
        3 => (RBP, RDI),
        4 => (RSI, Mem::NONE),
        5 => (RDI, Mem::NONE),
        6 if mode == 0 => (Mem::NONE, Mem::NONE),
        6 => (RBP, Mem::NONE),
        _ => (RBX, Mem::NONE),
    };
    let disp = match mode {
        0 if base == Mem::NONE => c.signed(2)?,
        0 => 0,
        1 => c.signed(1)?,
        _ => c.signed(2)?,
    };
    let seg = if base == RBP { SegReg::Ss } else { SegReg::Ds };
    Ok(Mem { seg, base, index, shift: 0, disp: disp as i64 })
}

fn parse32(c: &mut Cursor<'_>, modrm: u8, p: &Prefixes, mode: Mode) -> Result<Mem, DecodeError> {
    let md = modrm >> 6;
    let rm = modrm & 7;
    let mut mem = Mem::absolute(SegReg::Ds, 0);
    let mut no_base = false;
    if rm == RSP {
        let sib = c.u8()?;
        let index = sib >> 3 & 7 | p.x();
        if index != RSP {
            mem.index = index;
            mem.shift = sib >> 6;
        }
        no_base = md == 0 && sib & 7 == RBP;
        if !no_base {
            mem.base = sib & 7 | p.b();
        }
    } else if md == 0 && rm == RBP {
        no_base = true;
        if mode.is_long() {
            mem.base = Mem::RIP;
        }
    } else {
        mem.base = rm | p.b();
    }
    let disp = match md {
        0 if no_base => c.signed(4)?,
        0 => 0,
        1 => c.signed(1)?,
        _ => c.signed(4)?,
    };
    mem.disp = disp as i64;
    if mem.base == RSP || mem.base == RBP {
        mem.seg = SegReg::Ss;
    }
    Ok(mem)
}
