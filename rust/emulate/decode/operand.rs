// SPDX-License-Identifier: GPL-2.0
//! Operand specifications to operands, reading immediates.

use super::insn::{Insn, Mem, Operand};
use super::opcode::{self, Entry, Spec};
use super::{Cursor, DecodeError, Op};
use x86_defs::SegReg;

/// Fills `dst`, `src`, `src2` and the immediates of `insn`.
#[inline]
pub(super) fn fill(insn: &mut Insn, entry: &Entry, c: &mut Cursor<'_>) -> Result<(), DecodeError> {
    insn.dst = operand(insn, entry.dst, c)?;
    insn.src = operand(insn, entry.src, c)?;
    insn.src2 = match entry.src2 {
        Spec::No => Operand::None,
        spec => operand(insn, spec, c)?,
    };
    if entry.flags & opcode::MODRM == 0 && insn.prefixes.seg.is_some() {
        insn.mem.seg = insn.prefixes.seg.unwrap_or(SegReg::Ds);
    }
    Ok(())
}

/// A byte register: without REX, 4 to 7 are AH, CH, DH, BH.
#[inline]
fn byte_reg(insn: &Insn, n: u8) -> Operand {
    if insn.prefixes.rex == 0 && (4..8).contains(&n) {
        Operand::High { n: n & 3 }
    } else {
        Operand::Gpr { n, size: 1 }
    }
}

#[inline]
fn rm(insn: &Insn, reg_size: u8, mem_size: u8) -> Operand {
    if insn.modrm >> 6 != 3 {
        return Operand::Mem { size: mem_size };
    }
    let n = insn.modrm & 7 | insn.prefixes.b();
    match reg_size {
        1 => byte_reg(insn, n),
        size => Operand::Gpr { n, size },
    }
}

#[inline]
fn reg(insn: &Insn) -> u8 {
    insn.reg_field() | insn.prefixes.r()
}

fn xmm_rm(insn: &Insn, size: u8) -> Operand {
    if insn.modrm >> 6 != 3 {
        return Operand::Mem { size };
    }
    Operand::Xmm { n: insn.modrm & 7 | insn.prefixes.b(), size }
}

/// Size that depends on REX.W or VEX.W only.
fn y_size(insn: &Insn) -> u8 {
    match insn.op_size {
        8 => 8,
        _ => 4,
    }
}

#[inline]
fn operand(insn: &mut Insn, spec: Spec, c: &mut Cursor<'_>) -> Result<Operand, DecodeError> {
    let size = insn.op_size;
    Ok(match spec {
        Spec::No => Operand::None,
        Spec::Eb => rm(insn, 1, 1),
        Spec::Ew => rm(insn, 2, 2),
        Spec::Ed => rm(insn, 4, 4),
        Spec::Md => rm(insn, size.min(4), size.min(4)),
        Spec::Ev => rm(insn, size, size),
        Spec::Ey => rm(insn, y_size(insn), y_size(insn)),
        Spec::Mw => rm(insn, size, 2),
        Spec::M => rm(insn, size, 0),
        Spec::M2 => rm(insn, size, size.wrapping_mul(2)),
        Spec::M8 => rm(insn, size, y_size(insn).wrapping_mul(2)),
        Spec::Gb => byte_reg(insn, reg(insn)),
        Spec::Gw => Operand::Gpr { n: reg(insn), size: 2 },
        Spec::Gv => Operand::Gpr { n: reg(insn), size },
        Spec::Gy => Operand::Gpr { n: reg(insn), size: y_size(insn) },
        Spec::Zb => byte_reg(insn, insn.opcode & 7 | insn.prefixes.b()),
        Spec::Zv => Operand::Gpr { n: insn.opcode & 7 | insn.prefixes.b(), size },
        Spec::Al => Operand::Gpr { n: 0, size: 1 },
        Spec::Av => Operand::Gpr { n: 0, size },
        Spec::Cl => Operand::Gpr { n: 1, size: 1 },
        Spec::Dx => Operand::Gpr { n: 2, size: 2 },
        Spec::By => Operand::Gpr { n: insn.prefixes.vex.vvvv, size: y_size(insn) },
        Spec::Sw => Operand::Seg(segment(insn)?),
        Spec::Cd => Operand::Cr(control(insn)?),
        Spec::Dd => Operand::Dr(debug(insn)?),
        Spec::Pq => Operand::Mm(insn.reg_field()),
        Spec::Qq if insn.modrm >> 6 == 3 => Operand::Mm(insn.modrm & 7),
        Spec::Qq => Operand::Mem { size: 8 },
        _ if (spec as u8) >= Spec::V4 as u8 => vector(insn, spec),
        _ => return immediate(insn, spec, c),
    })
}

fn vector(insn: &Insn, spec: Spec) -> Operand {
    let full = if insn.prefixes.vex.l { 32 } else { 16 };
    match spec {
        Spec::V4 => Operand::Xmm { n: reg(insn), size: 4 },
        Spec::V8 => Operand::Xmm { n: reg(insn), size: 8 },
        Spec::V16 => Operand::Xmm { n: reg(insn), size: 16 },
        Spec::Vx => Operand::Xmm { n: reg(insn), size: full },
        Spec::W4 => xmm_rm(insn, 4),
        Spec::W8 => xmm_rm(insn, 8),
        // MOVDDUP reads eight bytes of memory unless it is 256 bits wide.
        Spec::Wx if insn.op == Op::VecDup64 && full == 16 => xmm_rm(insn, 8),
        Spec::Wx => xmm_rm(insn, full),
        _ => Operand::Xmm { n: insn.prefixes.vex.vvvv, size: 16 },
    }
}

fn immediate(insn: &mut Insn, spec: Spec, c: &mut Cursor<'_>) -> Result<Operand, DecodeError> {
    let size = insn.op_size;
    let z = if size == 8 { 4 } else { size };
    insn.imm = match spec {
        Spec::One => 1,
        Spec::Ib => c.number(1)?,
        Spec::Is | Spec::Jb => c.signed(1)?,
        Spec::Iw => c.number(2)?,
        Spec::Iz | Spec::Jz => c.signed(z)?,
        Spec::Iv => c.number(size)?,
        Spec::Iwb => {
            let word = c.number(2)?;
            insn.imm2 = u16::from(c.u8()?);
            word
        }
        Spec::Ap => {
            let offset = c.number(z)?;
            insn.imm2 = c.number(2)? as u16;
            offset
        }
        Spec::Ob | Spec::Ov => {
            let disp = c.number(insn.addr_size)?;
            insn.mem = Mem::absolute(SegReg::Ds, disp as i64);
            return Ok(Operand::Mem { size });
        }
        _ => return Err(DecodeError::Unsupported),
    };
    Ok(Operand::Imm)
}

fn segment(insn: &Insn) -> Result<SegReg, DecodeError> {
    // REX.R is ignored. CS can be read but not loaded.
    match SegReg::from_encoding(insn.reg_field()) {
        Some(SegReg::Cs) if insn.op == Op::MovToSeg => Err(DecodeError::Undefined),
        Some(seg) => Ok(seg),
        None => Err(DecodeError::Undefined),
    }
}

fn control(insn: &Insn) -> Result<u8, DecodeError> {
    match reg(insn) {
        n @ (0 | 2 | 3 | 4 | 8) => Ok(n),
        _ => Err(DecodeError::Undefined),
    }
}

fn debug(insn: &Insn) -> Result<u8, DecodeError> {
    match reg(insn) {
        n @ 0..=7 => Ok(n),
        _ => Err(DecodeError::Undefined),
    }
}
