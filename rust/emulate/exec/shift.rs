// SPDX-License-Identifier: GPL-2.0
//! Shifts and rotates.
//!
//! ROL, ROR, RCL, RCR, SHL, SHR, SAR, SHLD, SHRD. OF after counts other than
//! one and AF are undefined; they are computed as for a count of one, and left.

use super::flags::*;
use super::Exec;
use crate::cpu::Cpu;
use crate::decode::Op;
use crate::fault::Stop;

/// Result and flags; `count` is masked to 5 or 6 bits and not zero.
fn shift(op: Op, a: u64, count: u32, size: u8, flags: u64) -> (u64, u64) {
    match op {
        Op::Rol | Op::Ror => rotate(op, a, count, size, flags),
        Op::Rcl | Op::Rcr => rotate_carry(op, a, count, size, flags),
        _ => {
            let (r, carry, overflow) = plain(op, a, count, size);
            let kept = flags & AF;
            (r, when(carry, CF) | when(overflow, OF) | szp(r, size) | kept)
        }
    }
}

/// Result, carry and overflow of SHL, SHR, SAR.
fn plain(op: Op, a: u64, count: u32, size: u8) -> (u64, bool, bool) {
    let before = count.wrapping_sub(1);
    let msb = |v: u64| v & sign(size) != 0;
    match op {
        Op::Shl => {
            let last = a.checked_shl(before).unwrap_or(0);
            let r = (last << 1) & mask(size);
            (r, msb(last), msb(r) != msb(last))
        }
        Op::Shr => {
            let last = a.checked_shr(before).unwrap_or(0);
            (last >> 1, last & 1 != 0, msb(last))
        }
        _ => {
            let wide = sign_extend(a, size) as i64;
            let last = wide.wrapping_shr(before.min(63));
            let r = (last >> 1) as u64 & mask(size);
            (r, last & 1 != 0, false)
        }
    }
}

fn rotate(op: Op, a: u64, count: u32, size: u8, flags: u64) -> (u64, u64) {
    let width = bits(size);
    let by = count & width.wrapping_sub(1);
    let left = if op == Op::Rol { by } else { width.wrapping_sub(by) & width.wrapping_sub(1) };
    let r = if left == 0 {
        a
    } else {
        (a.wrapping_shl(left) | a.wrapping_shr(width.wrapping_sub(left))) & mask(size)
    };
    let top = r & sign(size) != 0;
    let (carry, overflow) = if op == Op::Rol {
        (r & 1 != 0, top != (r & 1 != 0))
    } else {
        (top, top != (r & sign(size) >> 1 != 0))
    };
    (r, flags & ARITH & !(CF | OF) | when(carry, CF) | when(overflow, OF))
}

/// One bit at a time: the carry is bit `size * 8` of what rotates.
fn rotate_carry(op: Op, a: u64, count: u32, size: u8, flags: u64) -> (u64, u64) {
    let count = match size {
        1 => count.wrapping_rem(9),
        2 => count.wrapping_rem(17),
        _ => count,
    };
    let mut r = a;
    let mut carry = flags & CF != 0;
    for _ in 0..count {
        if op == Op::Rcl {
            let out = r & sign(size) != 0;
            r = (r << 1 | u64::from(carry)) & mask(size);
            carry = out;
        } else {
            let out = r & 1 != 0;
            r = r >> 1 | when(carry, sign(size));
            carry = out;
        }
    }
    let top = r & sign(size) != 0;
    let overflow = if op == Op::Rcl { top != carry } else { top != (r & sign(size) >> 1 != 0) };
    (r, flags & ARITH & !(CF | OF) | when(carry, CF) | when(overflow, OF))
}

/// SHLD and SHRD; `count` is not zero.
fn double(op: Op, a: u64, b: u64, count: u32, size: u8, flags: u64) -> (u64, u64) {
    let width = bits(size);
    // A count above 16 of a 16-bit operand is undefined: the operands repeat.
    let count = if size == 2 && count > 16 { count & 15 } else { count };
    let (a, b) = if size == 2 && count == 0 { (b, a) } else { (a, b) };
    let rest = width.wrapping_sub(count);
    let (r, carry) = if op == Op::Shld {
        let low = if rest == width { 0 } else { b.checked_shr(rest).unwrap_or(0) };
        let out = a.checked_shr(rest).unwrap_or(0) & 1;
        (a.checked_shl(count).unwrap_or(0) | low, out)
    } else {
        let high = if rest == width { 0 } else { b.checked_shl(rest).unwrap_or(0) };
        let out = a.checked_shr(count.wrapping_sub(1)).unwrap_or(0) & 1;
        (a.checked_shr(count).unwrap_or(0) | high, out)
    };
    let r = r & mask(size);
    let overflow = (a ^ r) & sign(size) != 0;
    (r, when(carry != 0, CF) | when(overflow, OF) | szp(r, size) | flags & AF)
}

impl<C: Cpu> Exec<'_, C> {
    pub(super) fn shift(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        let (op, size, flags) = (insn.op, insn.op_size, self.flags());
        let is_double = matches!(op, Op::Shld | Op::Shrd);
        let by = if is_double { insn.src2 } else { insn.src };
        let limit = if size == 8 { 0x3f } else { 0x1f };
        let count = (self.load(by)? & limit) as u32;
        let other = if is_double { self.load(insn.src)? } else { 0 };
        let result = self.update(insn.dst, false, |a| match count {
            0 => (a, flags & ARITH),
            _ if is_double => double(op, a, other, count, size, flags),
            _ => shift(op, a, count, size, flags),
        })?;
        self.set_arith_flags(result.1);
        Ok(())
    }
}
