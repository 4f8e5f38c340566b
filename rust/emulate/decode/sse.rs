// SPDX-License-Identifier: GPL-2.0
//! Encodings that a mandatory prefix or VEX selects: SSE and AVX moves,
//! MOVBE, ADX and BMI.
//!
//! Intel SDM volume 2 appendix A tables, and the AVX and BMI entries.

use super::opcode::*;
use super::prefix::{Prefixes, Rep};
use super::Op;
use crate::cpu::Features;
use Spec::*;

/// Moves that only exist in one direction or with memory.
const STORE: u16 = MODRM | MEM;

/// 0Fh map; `pp` is 0 none, 1 66h, 2 F3h, 3 F2h.
pub(super) fn legacy(opcode: u8, pp: u8) -> Option<Entry> {
    Some(match (opcode, pp) {
        (0xc3, 0) => m(Op::Movnti, Ey, Gy).with(MEM),
        (0xc3, _) => m(Op::Ud, No, No),
        (0x6e, 0) => m(Op::MmxFromGpr, Pq, Ey),
        (0x7e, 0) => m(Op::MmxToGpr, Ey, Pq),
        (0x6f, 0) => m(Op::MmxMov, Pq, Qq),
        (0x7f, 0) => m(Op::MmxMov, Qq, Pq),
        (0xe7, 0) => m(Op::MmxMov, Qq, Pq).with(MEM),
        _ => return shared(opcode, pp),
    })
}

/// Encodings that legacy SSE and VEX have in common.
fn shared(opcode: u8, pp: u8) -> Option<Entry> {
    Some(match (opcode, pp) {
        (0x10, 0 | 1) => m(Op::VecMov, Vx, Wx),
        (0x11, 0 | 1) => m(Op::VecMov, Wx, Vx),
        (0x10, 2) => m(Op::VecScalar, V4, W4).src2(H16),
        (0x11, 2) => m(Op::VecScalar, W4, V4).src2(H16),
        (0x10, 3) => m(Op::VecScalar, V8, W8).src2(H16),
        (0x11, 3) => m(Op::VecScalar, W8, V8).src2(H16),
        (0x12, 0) => m(Op::VecLow, V16, W8).src2(H16),
        (0x12, 1) => m(Op::VecLow, V16, W8).src2(H16).with(MEM),
        (0x13, 0 | 1) => m(Op::VecLow, W8, V16).with(STORE),
        (0x16, 0) => m(Op::VecHigh, V16, W8).src2(H16),
        (0x16, 1) => m(Op::VecHigh, V16, W8).src2(H16).with(MEM),
        (0x17, 0 | 1) => m(Op::VecHigh, W8, V16).with(STORE),
        (0x12, 2) => m(Op::VecDupEven, Vx, Wx),
        (0x16, 2) => m(Op::VecDupOdd, Vx, Wx),
        (0x12, 3) => m(Op::VecDup64, Vx, Wx),
        (0x28, 0 | 1) => m(Op::VecMovAligned, Vx, Wx),
        (0x29, 0 | 1) => m(Op::VecMovAligned, Wx, Vx),
        (0x2b, 0 | 1) => m(Op::VecMovAligned, Wx, Vx).with(STORE),
        (0x6e, 1) => m(Op::VecFromGpr, V16, Ey),
        (0x7e, 1) => m(Op::VecToGpr, Ey, V16),
        (0x6f, 1) => m(Op::VecMovAligned, Vx, Wx),
        (0x7f, 1) => m(Op::VecMovAligned, Wx, Vx),
        (0x6f, 2) => m(Op::VecMov, Vx, Wx),
        (0x7f, 2) => m(Op::VecMov, Wx, Vx),
        (0x7e, 2) => m(Op::VecMov, V8, W8),
        (0xd6, 1) => m(Op::VecMov, W8, V8),
        (0xe7, 1) => m(Op::VecMovAligned, Wx, Vx).with(STORE),
        (0xf0, 3) => m(Op::VecMov, Vx, Wx).with(MEM),
        _ => return None,
    })
}

/// 0F38h map without VEX.
pub(super) fn map_0f38(opcode: u8, p: &Prefixes, features: &Features) -> Option<Entry> {
    let crc = p.rep == Rep::Repne;
    match (opcode, p.mandatory()) {
        (0x2a, 1) => Some(m(Op::VecMovAligned, Vx, Wx).with(MEM)),
        (0x82, 1) => Some(m(Op::Invpcid, Gy, M).with(MEM | FORCE64)),
        (0xf0, _) if crc => Some(m(Op::Crc32, Gy, Eb)),
        (0xf1, _) if crc => Some(m(Op::Crc32, Gy, Ev)),
        (0xf0, 0 | 1) if features.movbe => Some(m(Op::Movbe, Gv, Ev).with(MEM)),
        (0xf1, 0 | 1) if features.movbe => Some(m(Op::Movbe, Ev, Gv).with(MEM)),
        (0xf6, 1) if features.adx => Some(m(Op::Adcx, Gy, Ey)),
        (0xf6, 2) if features.adx => Some(m(Op::Adox, Gy, Ey)),
        _ => None,
    }
}

/// Every VEX encoding.
pub(super) fn vex(p: &Prefixes, opcode: u8, features: &Features) -> Option<Entry> {
    match p.vex.map {
        1 => vex_0f(p, opcode),
        2 => vex_0f38(p, opcode, features),
        3 if opcode == 0xf0 && p.vex.pp == 3 && features.bmi2 => {
            unused_vvvv(p, scalar(p, m(Op::Rorx, Gy, Ey).src2(Ib)))
        }
        _ => None,
    }
}

fn vex_0f(p: &Prefixes, opcode: u8) -> Option<Entry> {
    let entry = shared(opcode, p.vex.pp)?;
    let three_operands = entry.src2 == H16;
    let l_is_zero = matches!(entry.op, Op::VecLow | Op::VecHigh | Op::VecFromGpr | Op::VecToGpr)
        || entry.dst == V8 && entry.op == Op::VecMov
        || entry.src == V8 && entry.op == Op::VecMov;
    if l_is_zero && p.vex.l {
        return Some(entry.op(Op::Ud));
    }
    if three_operands {
        return Some(entry);
    }
    unused_vvvv(p, Some(entry))
}

/// vvvv must be 1111b (0 once inverted) where there is no such operand.
fn unused_vvvv(p: &Prefixes, entry: Option<Entry>) -> Option<Entry> {
    match entry {
        Some(e) if !p.vex.no_vvvv => Some(e.op(Op::Ud)),
        e => e,
    }
}

/// VEX.L must be zero.
fn scalar(p: &Prefixes, entry: Entry) -> Option<Entry> {
    Some(if p.vex.l { Entry { group: Group::None, ..entry.op(Op::Ud) } } else { entry })
}

fn vex_0f38(p: &Prefixes, opcode: u8, features: &Features) -> Option<Entry> {
    let (bmi1, bmi2) = (features.bmi1, features.bmi2);
    let entry = match (opcode, p.vex.pp) {
        (0x2a, 1) => return unused_vvvv(p, Some(m(Op::VecMovAligned, Vx, Wx).with(MEM))),
        (0xf2, 0) if bmi1 => m(Op::Andn, Gy, By).src2(Ey),
        (0xf3, 0) if bmi1 => Entry { group: Group::Blsr, ..m(Op::Blsr, By, Ey) },
        (0xf7, 0) if bmi1 => m(Op::Bextr, Gy, Ey).src2(By),
        (0xf5, 0) if bmi2 => m(Op::Bzhi, Gy, Ey).src2(By),
        (0xf5, 2) if bmi2 => m(Op::Pext, Gy, By).src2(Ey),
        (0xf5, 3) if bmi2 => m(Op::Pdep, Gy, By).src2(Ey),
        (0xf6, 3) if bmi2 => m(Op::Mulx, Gy, By).src2(Ey),
        (0xf7, 1) if bmi2 => m(Op::Shlx, Gy, Ey).src2(By),
        (0xf7, 2) if bmi2 => m(Op::Sarx, Gy, Ey).src2(By),
        (0xf7, 3) if bmi2 => m(Op::Shrx, Gy, Ey).src2(By),
        _ => return None,
    };
    scalar(p, entry)
}
