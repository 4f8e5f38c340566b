// SPDX-License-Identifier: GPL-2.0
//! Legacy prefixes, REX and VEX.
//!
//! Intel SDM volume 2 sections 2.1.1, 2.2.1 and 2.3.5.

use super::{Cursor, DecodeError};
use x86_defs::{Mode, SegReg};

/// The last of the F2h and F3h prefixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rep {
    /// Neither.
    #[default]
    None,
    /// F2h: REPNE.
    Repne,
    /// F3h: REP, REPE.
    Rep,
}

/// The fields of a VEX prefix, inverted ones made positive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vex {
    /// There is one.
    pub present: bool,
    /// 256-bit.
    pub l: bool,
    /// W.
    pub w: bool,
    /// Implied prefix: 0 none, 1 66h, 2 F3h, 3 F2h.
    pub pp: u8,
    /// Opcode map: 1 0Fh, 2 0F38h, 3 0F3Ah.
    pub map: u8,
    /// The additional register operand, 0 to 15.
    pub vvvv: u8,
    /// All bits of vvvv were one: there is no such operand.
    pub no_vvvv: bool,
}

/// Everything before the opcode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// LOCK.
    pub lock: bool,
    /// Operand-size override (66h).
    pub opsize: bool,
    /// Address-size override (67h).
    pub addrsize: bool,
    /// REP or REPNE.
    pub rep: Rep,
    /// Segment override that has an effect in this mode.
    pub seg: Option<SegReg>,
    /// REX byte, 0 if absent. A VEX prefix sets the R, X and B bits here.
    pub rex: u8,
    /// VEX.
    pub vex: Vex,
}

impl Prefixes {
    /// REX.W or VEX.W.
    #[inline]
    pub const fn wide(&self) -> bool {
        self.rex & 8 != 0
    }

    /// The REX bit that extends the ModRM reg field, as 0 or 8.
    #[inline]
    pub const fn r(&self) -> u8 {
        (self.rex & 4) << 1
    }

    /// The REX bit that extends the SIB index, as 0 or 8.
    #[inline]
    pub const fn x(&self) -> u8 {
        (self.rex & 2) << 2
    }

    /// The REX bit that extends rm, base or the opcode's register, as 0 or 8.
    #[inline]
    pub const fn b(&self) -> u8 {
        (self.rex & 1) << 3
    }

    /// The mandatory prefix of SSE encodings: 0 none, 1 66h, 2 F3h, 3 F2h.
    #[inline]
    pub const fn mandatory(&self) -> u8 {
        match self.rep {
            Rep::Rep => 2,
            Rep::Repne => 3,
            Rep::None => self.opsize as u8,
        }
    }
}

/// Parses up to and including the first opcode byte.
#[inline]
pub(super) fn parse(cursor: &mut Cursor<'_>, mode: Mode) -> Result<(Prefixes, u8), DecodeError> {
    let mut p = Prefixes::default();
    let long = mode.is_long();
    loop {
        let byte = cursor.u8()?;
        match byte {
            0x66 => p.opsize = true,
            0x67 => p.addrsize = true,
            0xf0 => p.lock = true,
            0xf2 => p.rep = Rep::Repne,
            0xf3 => p.rep = Rep::Rep,
            0x26 => legacy_seg(&mut p, SegReg::Es, long),
            0x2e => legacy_seg(&mut p, SegReg::Cs, long),
            0x36 => legacy_seg(&mut p, SegReg::Ss, long),
            0x3e => legacy_seg(&mut p, SegReg::Ds, long),
            0x64 => p.seg = Some(SegReg::Fs),
            0x65 => p.seg = Some(SegReg::Gs),
            0x40..=0x4f if long => {
                p.rex = byte;
                continue;
            }
            _ => return Ok((p, byte)),
        }
        // REX counts only directly before the opcode.
        p.rex = 0;
    }
}

/// Four of the six overrides are ignored in 64-bit mode.
fn legacy_seg(p: &mut Prefixes, seg: SegReg, long: bool) {
    if !long {
        p.seg = Some(seg);
    }
}

/// Parses a VEX prefix whose first byte was read, and the opcode after it.
///
/// `Ok(None)` if the byte is LES or LDS instead.
pub(super) fn parse_vex(
    cursor: &mut Cursor<'_>,
    p: &mut Prefixes,
    first: u8,
    mode: Mode,
) -> Result<Option<u8>, DecodeError> {
    if !mode.is_long() {
        let next = cursor.peek().ok_or(DecodeError::Incomplete)?;
        if next >> 6 != 3 || !mode.is_protected() {
            return Ok(None);
        }
    }
    let bad_prefix = p.lock || p.opsize || p.rep != Rep::None || p.rex != 0;
    let one = cursor.u8()?;
    let mut vex = Vex { present: true, map: 1, ..Vex::default() };
    let mut rex = 0x40 | (!one >> 5) & 4;
    let last = if first == 0xc4 {
        vex.map = one & 0x1f;
        rex |= (!one >> 5) & 3;
        let two = cursor.u8()?;
        vex.w = two & 0x80 != 0;
        two
    } else {
        one
    };
    if !mode.is_long() {
        rex = 0x40;
    } else if vex.w {
        rex |= 8;
    }
    vex.vvvv = (!last >> 3) & 0xf;
    vex.no_vvvv = vex.vvvv == 0;
    if !mode.is_long() {
        vex.vvvv &= 7;
    }
    vex.l = last & 4 != 0;
    vex.pp = last & 3;
    p.vex = vex;
    p.rex = rex;
    let opcode = cursor.u8()?;
    if bad_prefix {
        return Err(DecodeError::Undefined);
    }
    Ok(Some(opcode))
}
