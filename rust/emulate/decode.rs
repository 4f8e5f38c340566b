// SPDX-License-Identifier: GPL-2.0
//! Bytes to a typed instruction, once: [`decode`] and [`Insn`].
//!
//! Table-driven: [`opcode`] holds the maps, [`prefix`] the state before the
//! opcode, [`modrm`] addressing, [`operand`] turns operand specifications
//! into operands. Intel SDM volume 2 chapter 2 and appendix A.

mod group;
mod insn;
mod modrm;
mod op;
mod opcode;
mod operand;
mod prefix;
mod sse;

pub use insn::{Insn, Mem, Operand};
pub use op::Op;
pub use prefix::{Prefixes, Rep, Vex};

use crate::cpu::Features;
use opcode::{Entry, Group};
use x86_defs::Mode;

/// Why bytes are no instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// More bytes are needed.
    Incomplete,
    /// Longer than 15 bytes: #GP(0).
    TooLong,
    /// The architecture defines this as #UD.
    Undefined,
    /// Not known to the emulator.
    Unsupported,
}

/// Longest instruction in bytes.
pub(crate) const MAX_LEN: usize = 15;

/// Reads bytes in order and keeps the count.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }

    #[inline]
    fn u8(&mut self) -> Result<u8, DecodeError> {
        if self.pos >= MAX_LEN {
            return Err(DecodeError::TooLong);
        }
        let byte = *self.bytes.get(self.pos).ok_or(DecodeError::Incomplete)?;
        self.pos = self.pos.wrapping_add(1);
        Ok(byte)
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.pos).copied()
    }

    /// A little-endian number of `size` bytes.
    fn number(&mut self, size: u8) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        let mut shift = 0u32;
        for _ in 0..size {
            value |= u64::from(self.u8()?).wrapping_shl(shift);
            shift = shift.wrapping_add(8);
        }
        Ok(value)
    }

    fn signed(&mut self, size: u8) -> Result<u64, DecodeError> {
        let raw = self.number(size)?;
        Ok(match size {
            1 => raw as u8 as i8 as u64,
            2 => raw as u16 as i16 as u64,
            4 => raw as u32 as i32 as u64,
            _ => raw,
        })
    }
}

/// Decodes the instruction at the start of `bytes`, of which at most 15 count.
///
/// # Errors
///
/// See [`DecodeError`]; `Incomplete` only if `bytes` is shorter than 15.
pub fn decode(bytes: &[u8], mode: Mode, features: Features) -> Result<Insn, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let (mut prefixes, first) = prefix::parse(&mut cursor, mode)?;
    let (entry, opcode) = lookup(&mut cursor, &mut prefixes, first, mode, &features)?;
    let mut insn = Insn::new(prefixes, opcode);
    let entry = match entry.flags & opcode::MODRM {
        0 if entry.group == Group::Nop90 => nop90(entry, &prefixes),
        0 => entry,
        _ => {
            insn.modrm = cursor.u8()?;
            let entry = group::resolve(
                movsxd(entry, mode, features.amd),
                insn.modrm,
                &insn.prefixes,
                &features,
            )?;
            if entry.flags & opcode::RM_REG != 0 {
                insn.modrm |= 0xc0;
            }
            // A register operand of a memory-only encoding is known before its bytes end.
            check_form(&entry, insn.modrm)?;
            if insn.modrm >> 6 != 3 {
                insn.mem = modrm::parse(&mut cursor, insn.modrm, &insn.prefixes, mode)?;
            }
            entry
        }
    };
    insn.op = entry.op;
    check_mode(&entry, mode, &insn.prefixes)?;
    insn.addr_size = modrm::address_size(&insn.prefixes, mode);
    insn.op_size = operand_size(&entry, &insn.prefixes, mode, features.amd);
    operand::fill(&mut insn, &entry, &mut cursor)?;
    insn.len = cursor.pos as u8;
    if insn.prefixes.lock && features.amd && alternative_cr8(&mut insn) {
        return Ok(insn);
    }
    if insn.prefixes.lock && !(entry.flags & opcode::LOCK != 0 && insn.dst.is_mem()) {
        return Err(DecodeError::Undefined);
    }
    if matches!(entry.op, Op::Ud) {
        return Err(DecodeError::Undefined);
    }
    Ok(insn)
}

/// Finds the table entry, reading the rest of the opcode.
fn lookup(
    cursor: &mut Cursor<'_>,
    prefixes: &mut Prefixes,
    first: u8,
    mode: Mode,
    features: &Features,
) -> Result<(Entry, u8), DecodeError> {
    if first == 0xc4 || first == 0xc5 {
        if let Some(opcode) = prefix::parse_vex(cursor, prefixes, first, mode)? {
            return Ok((
                sse::vex(prefixes, opcode, features).ok_or(DecodeError::Unsupported)?,
                opcode,
            ));
        }
    }
    if first == 0x62
        && (mode.is_long() || mode.is_protected() && cursor.peek().is_some_and(|b| b >> 6 == 3))
    {
        // EVEX, which shares its first byte with BOUND.
        return Err(DecodeError::Unsupported);
    }
    if first != 0x0f {
        let entry = opcode::one_byte(first);
        return Ok((known(entry)?, first));
    }
    let second = cursor.u8()?;
    let entry = match second {
        0x38 => {
            let third = cursor.u8()?;
            return Ok((
                sse::map_0f38(third, prefixes, features).ok_or(DecodeError::Unsupported)?,
                third,
            ));
        }
        0x3a => {
            cursor.u8()?;
            return Err(DecodeError::Unsupported);
        }
        _ => opcode::two_byte(second),
    };
    let entry = if entry.group == Group::Sse {
        sse::legacy(second, prefixes.mandatory()).ok_or(DecodeError::Unsupported)?
    } else {
        entry
    };
    Ok((known(entry)?, second))
}

/// AMD: LOCK MOV of CR0 is a MOV of CR8, outside 64-bit mode too.
fn alternative_cr8(insn: &mut Insn) -> bool {
    match (insn.op, insn.dst, insn.src) {
        (Op::WriteCr, Operand::Cr(0), _) => insn.dst = Operand::Cr(8),
        (Op::ReadCr, _, Operand::Cr(0)) => insn.src = Operand::Cr(8),
        _ => return false,
    }
    true
}

/// 63h is MOVSXD in 64-bit mode.
fn movsxd(entry: Entry, mode: Mode, amd: bool) -> Entry {
    if entry.op == Op::Arpl && mode.is_long() {
        // AMD reads four bytes even if two are kept.
        let source = if amd { opcode::Spec::Ed } else { opcode::Spec::Md };
        return opcode::m(Op::Movsx, opcode::Spec::Gv, source);
    }
    entry
}

/// 90h exchanges only with REX.B; it is PAUSE with F3h.
fn nop90(entry: Entry, prefixes: &Prefixes) -> Entry {
    let op = match (prefixes.b(), prefixes.rep) {
        (8, _) => return entry,
        (_, Rep::Rep) => Op::Pause,
        _ => Op::Nop,
    };
    opcode::e(op, opcode::Spec::No, opcode::Spec::No)
}

fn known(entry: Entry) -> Result<Entry, DecodeError> {
    match entry.op {
        Op::Unknown => Err(DecodeError::Unsupported),
        _ => Ok(entry),
    }
}

fn check_form(entry: &Entry, modrm: u8) -> Result<(), DecodeError> {
    let is_reg = modrm >> 6 == 3;
    if entry.flags & opcode::MEM != 0 && is_reg || entry.flags & opcode::REG != 0 && !is_reg {
        return Err(DecodeError::Undefined);
    }
    Ok(())
}

fn check_mode(entry: &Entry, mode: Mode, prefixes: &Prefixes) -> Result<(), DecodeError> {
    let bad = entry.flags & opcode::NO64 != 0 && mode.is_long()
        || entry.flags & opcode::ONLY64 != 0 && !mode.is_long()
        || entry.flags & opcode::PROT != 0 && !mode.is_protected()
        || prefixes.vex.present && !mode.is_protected();
    if bad {
        return Err(DecodeError::Undefined);
    }
    Ok(())
}

/// Operand size in bytes: 1, 2, 4 or 8.
fn operand_size(entry: &Entry, prefixes: &Prefixes, mode: Mode, amd: bool) -> u8 {
    if entry.flags & opcode::B8 != 0 {
        return 1;
    }
    match mode {
        Mode::Long64 => {
            let forced = entry.flags & opcode::FORCE64 != 0;
            let honours_66 = amd && entry.flags & opcode::BRANCH != 0;
            if prefixes.wide() || forced && !honours_66 {
                8
            } else if prefixes.opsize && !prefixes.vex.present {
                2
            } else if entry.flags & (opcode::DEF64 | opcode::FORCE64) != 0 {
                8
            } else {
                4
            }
        }
        Mode::Prot32 => {
            if prefixes.opsize {
                2
            } else {
                4
            }
        }
        _ if prefixes.vex.present => 4,
        _ if prefixes.opsize => 4,
        _ => 2,
    }
}
