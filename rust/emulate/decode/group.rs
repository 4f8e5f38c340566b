// SPDX-License-Identifier: GPL-2.0
//! Encodings that ModRM completes.
//!
//! Intel SDM volume 2 appendix A table A-6.

use super::opcode::*;
use super::prefix::{Prefixes, Rep};
use super::{DecodeError, Op};
use crate::cpu::Features;
use Spec::*;

/// The final entry for this ModRM byte.
#[inline]
pub(super) fn resolve(
    entry: Entry,
    modrm: u8,
    p: &Prefixes,
    features: &Features,
) -> Result<Entry, DecodeError> {
    if entry.group == Group::None {
        return Ok(entry);
    }
    let reg = modrm >> 3 & 7;
    let is_reg = modrm >> 6 == 3;
    let found = match entry.group {
        Group::G1 => arith(entry, reg),
        Group::G1a if reg == 0 => Some(entry),
        // XOP.
        Group::G1a => return Err(DecodeError::Unsupported),
        Group::G2 => shift(entry, reg),
        Group::G3b | Group::G3v => unary(entry, reg),
        Group::G4 => inc_dec(entry, reg),
        Group::G5 => group5(entry, reg),
        // LKGS.
        Group::G6 if reg == 6 && p.rep == Rep::Repne => return Err(DecodeError::Unsupported),
        Group::G6 => group6(entry, reg),
        Group::G7 => group7(modrm),
        Group::G8 => bit_test(entry, reg),
        Group::G9 => group9(entry, reg, is_reg, p, features),
        Group::G11 if reg == 0 => Some(entry),
        // XABORT and XBEGIN.
        Group::G11 if modrm == 0xf8 => return Err(DecodeError::Unsupported),
        Group::G15 => group15(reg, is_reg, p, features),
        Group::BitScan => bit_scan(entry, p, features),
        Group::Blsr => blsr(entry, reg),
        Group::X87d9 => match (is_reg, reg) {
            (false, 7) => Some(entry),
            (false, 5) => Some(m(Op::Fldcw, No, Ew)),
            _ => return Err(DecodeError::Unsupported),
        },
        Group::X87db if modrm == 0xe3 => Some(entry),
        Group::X87dd if !is_reg && reg == 7 => Some(entry),
        Group::X87df if modrm == 0xe0 => Some(entry),
        Group::X87db | Group::X87dd | Group::X87df => return Err(DecodeError::Unsupported),
        _ => None,
    };
    match found {
        Some(Entry { op: Op::Unknown, .. }) => Err(DecodeError::Unsupported),
        Some(found) => Ok(found),
        None => Err(DecodeError::Undefined),
    }
}

fn arith(entry: Entry, reg: u8) -> Option<Entry> {
    let ops = [Op::Add, Op::Or, Op::Adc, Op::Sbb, Op::And, Op::Sub, Op::Xor];
    Some(match ops.get(usize::from(reg)) {
        Some(op) => entry.op(*op).with(LOCK),
        None => entry.op(Op::Cmp),
    })
}

fn shift(entry: Entry, reg: u8) -> Option<Entry> {
    let ops = [Op::Rol, Op::Ror, Op::Rcl, Op::Rcr, Op::Shl, Op::Shr, Op::Shl, Op::Sar];
    ops.get(usize::from(reg)).map(|op| entry.op(*op))
}

fn unary(entry: Entry, reg: u8) -> Option<Entry> {
    let plain = Entry { src: No, ..entry };
    Some(match reg {
        0 | 1 => entry,
        2 => plain.op(Op::Not).with(LOCK),
        3 => plain.op(Op::Neg).with(LOCK),
        4 => to_src(plain.op(Op::Mul)),
        5 => to_src(plain.op(Op::Imul1)),
        6 => to_src(plain.op(Op::Div)),
        _ => to_src(plain.op(Op::Idiv)),
    })
}

/// The rm operand is only read.
fn to_src(entry: Entry) -> Entry {
    Entry { dst: No, src: entry.dst, ..entry }
}

fn inc_dec(entry: Entry, reg: u8) -> Option<Entry> {
    match reg {
        0 => Some(entry.op(Op::Inc).with(LOCK)),
        1 => Some(entry.op(Op::Dec).with(LOCK)),
        _ => None,
    }
}

fn group5(entry: Entry, reg: u8) -> Option<Entry> {
    match reg {
        0 | 1 => inc_dec(entry, reg),
        2 => Some(to_src(entry.op(Op::Call)).with(FORCE64 | BRANCH)),
        3 => Some(m(Op::CallFar, No, M).with(MEM)),
        4 => Some(to_src(entry.op(Op::Jmp)).with(FORCE64 | BRANCH)),
        5 => Some(m(Op::JmpFar, No, M).with(MEM)),
        6 => Some(to_src(entry.op(Op::Push)).with(DEF64)),
        _ => None,
    }
}

fn group6(entry: Entry, reg: u8) -> Option<Entry> {
    let load = Entry { dst: No, src: Ew, ..entry };
    Some(match reg {
        0 => entry.op(Op::Sldt),
        1 => entry.op(Op::Str),
        2 => load.op(Op::Lldt),
        3 => load.op(Op::Ltr),
        4 => load.op(Op::Verr),
        5 => load.op(Op::Verw),
        _ => return None,
    })
}

fn group7(modrm: u8) -> Option<Entry> {
    let simple = |op| Some(m(op, No, No));
    if modrm >> 6 == 3 {
        match modrm {
            0xc1 => return simple(Op::Vmcall),
            0xc8 => return simple(Op::Monitor),
            0xc9 => return simple(Op::Mwait),
            0xca => return simple(Op::Clac),
            0xcb => return simple(Op::Stac),
            0xd0 => return simple(Op::Xgetbv),
            0xd1 => return simple(Op::Xsetbv),
            0xd9 => return simple(Op::Vmmcall),
            0xf8 => return Some(m(Op::Swapgs, No, No).with(ONLY64)),
            0xf9 => return simple(Op::Rdtscp),
            _ => {}
        }
    }
    let is_mem = modrm >> 6 != 3;
    Some(match modrm >> 3 & 7 {
        0 if is_mem => m(Op::Sgdt, M, No).with(FORCE64),
        1 if is_mem => m(Op::Sidt, M, No).with(FORCE64),
        2 if is_mem => m(Op::Lgdt, No, M).with(FORCE64),
        3 if is_mem => m(Op::Lidt, No, M).with(FORCE64),
        4 => m(Op::Smsw, Mw, No),
        6 => m(Op::Lmsw, No, Ew),
        7 if is_mem => m(Op::Invlpg, M, No),
        _ => m(Op::Unknown, No, No),
    })
}

fn bit_test(entry: Entry, reg: u8) -> Option<Entry> {
    Some(match reg {
        4 => entry.op(Op::Bt),
        5 => entry.op(Op::Bts).with(LOCK),
        6 => entry.op(Op::Btr).with(LOCK),
        7 => entry.op(Op::Btc).with(LOCK),
        _ => return None,
    })
}

fn group9(entry: Entry, reg: u8, is_reg: bool, p: &Prefixes, features: &Features) -> Option<Entry> {
    match (reg, is_reg) {
        (1, false) if p.wide() && !features.cx16 => None,
        (1, false) => Some(entry.op(Op::Cmpxchg8b).with(LOCK)),
        (7, true) if p.rep == Rep::Rep && features.rdtscp => {
            Some(m(Op::Rdpid, Ey, No).with(FORCE64))
        }
        _ => Some(m(Op::Unknown, No, No)),
    }
}

fn group15(reg: u8, is_reg: bool, p: &Prefixes, features: &Features) -> Option<Entry> {
    let fsgs = p.rep == Rep::Rep && is_reg && features.fsgsbase;
    Some(match reg {
        0 | 1 if fsgs => m(Op::ReadFsGsBase, Ey, No).with(ONLY64),
        2 | 3 if fsgs => m(Op::WriteFsGsBase, No, Ey).with(ONLY64),
        5..=7 if is_reg && p.rep == Rep::None && !p.opsize => m(Op::Fence, No, No),
        6 if !is_reg && p.mandatory() == 1 => m(Op::Clflush, M, No),
        7 if !is_reg && p.mandatory() <= 1 => m(Op::Clflush, M, No),
        _ => m(Op::Unknown, No, No),
    })
}

/// F3h turns BSF into TZCNT and so on, if the processor knows them.
fn bit_scan(entry: Entry, p: &Prefixes, features: &Features) -> Option<Entry> {
    let rep = p.rep == Rep::Rep;
    match entry.op {
        Op::Popcnt if !rep || !features.popcnt => None,
        Op::Bsf if rep && features.bmi1 => Some(entry.op(Op::Tzcnt)),
        Op::Bsr if rep && features.lzcnt => Some(entry.op(Op::Lzcnt)),
        _ => Some(entry),
    }
}

fn blsr(entry: Entry, reg: u8) -> Option<Entry> {
    Some(match reg {
        1 => entry.op(Op::Blsr),
        2 => entry.op(Op::Blsmsk),
        3 => entry.op(Op::Blsi),
        _ => return None,
    })
}
