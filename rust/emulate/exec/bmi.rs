// SPDX-License-Identifier: GPL-2.0
//! BMI1, BMI2, ADX and CRC32.
//!
//! All of them can read memory; none writes it.

use super::flags::*;
use super::muldiv::mul_unsigned;
use super::Exec;
use crate::cpu::Cpu;
use crate::decode::{Op, Operand};
use crate::fault::Stop;

impl<C: Cpu> Exec<'_, C> {
    pub(super) fn bmi(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        let size = self.size_of(insn.dst);
        match insn.op {
            Op::Adcx | Op::Adox => return self.add_carry(size),
            Op::Crc32 => return self.crc32(),
            Op::Mulx => return self.mulx(size),
            Op::Blsr | Op::Blsmsk | Op::Blsi => return self.lowest_bit(size),
            _ => {}
        }
        let a = self.load(insn.src)?;
        let b = match insn.src2 {
            Operand::Imm => insn.imm,
            other => self.load(other)?,
        };
        let width = bits(size);
        let count = (b as u32) & width.wrapping_sub(1);
        let (result, flags) = match insn.op {
            Op::Andn => {
                let r = !a & b & mask(size);
                (r, Some(szp(r, size) & (SF | ZF)))
            }
            Op::Bextr => {
                let r = extract(a, b);
                (r, Some(when(r == 0, ZF)))
            }
            Op::Bzhi => {
                let from = (b & 0xff) as u32;
                let r = if from >= width { a } else { a & 1u64.wrapping_shl(from).wrapping_sub(1) };
                (r, Some(szp(r, size) & (SF | ZF) | when(from >= width, CF)))
            }
            Op::Pdep => (deposit(a, b), None),
            Op::Pext => (gather(a, b), None),
            Op::Rorx => (rotate_right(a, count, width), None),
            Op::Sarx => ((sign_extend(a, size) as i64).wrapping_shr(count) as u64, None),
            Op::Shlx => (a.wrapping_shl(count), None),
            _ => (a.wrapping_shr(count), None),
        };
        self.store_reg(insn.dst, result & mask(size))?;
        if let Some(flags) = flags {
            // PF and AF are undefined and left.
            let kept = self.flags() & (PF | AF);
            self.set_arith_flags(flags | kept);
        }
        Ok(())
    }

    /// BLSR, BLSMSK, BLSI.
    fn lowest_bit(&mut self, size: u8) -> Result<(), Stop> {
        let a = self.load(self.insn.src)?;
        let below = a.wrapping_sub(1);
        let (r, carry) = match self.insn.op {
            Op::Blsr => (a & below, a == 0),
            Op::Blsmsk => (a ^ below, a == 0),
            _ => (a & a.wrapping_neg(), a != 0),
        };
        let r = r & mask(size);
        self.store_reg(self.insn.dst, r)?;
        let zero = when(r == 0 && self.insn.op != Op::Blsmsk, ZF);
        let kept = self.flags() & (PF | AF);
        self.set_arith_flags(kept | zero | when(r & sign(size) != 0, SF) | when(carry, CF));
        Ok(())
    }

    /// The low half goes to the vvvv register first: if both are the same, the high half stays.
    fn mulx(&mut self, size: u8) -> Result<(), Stop> {
        let (high, low) = mul_unsigned(self.reg(2, size), self.load(self.insn.src2)?, size);
        self.store_reg(self.insn.src, low)?;
        self.store_reg(self.insn.dst, high)
    }

    fn add_carry(&mut self, size: u8) -> Result<(), Stop> {
        let flag = if self.insn.op == Op::Adcx { CF } else { OF };
        let (a, b) = (self.load(self.insn.dst)?, self.load(self.insn.src)?);
        let carry = u64::from(self.flags() & flag != 0);
        let (r, f) = add(a, b, carry, size);
        self.store_reg(self.insn.dst, r)?;
        let flags = self.flags();
        self.set_flags(flags & !flag | when(f & CF != 0, flag));
        Ok(())
    }

    /// CRC-32C, bits in reflected order.
    fn crc32(&mut self) -> Result<(), Stop> {
        let mut data = self.load(self.insn.src)?;
        let mut crc = self.load(self.insn.dst)? as u32;
        for _ in 0..self.size_of(self.insn.src) {
            crc ^= (data & 0xff) as u32;
            for _ in 0..8 {
                crc = crc >> 1 ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 };
            }
            data >>= 8;
        }
        self.store_reg(self.insn.dst, u64::from(crc))
    }
}

/// `b` holds the start in its low byte and the length in the next.
fn extract(a: u64, b: u64) -> u64 {
    let (start, len) = ((b & 0xff) as u32, (b >> 8 & 0xff) as u32);
    let shifted = a.checked_shr(start).unwrap_or(0);
    match 1u64.checked_shl(len) {
        Some(limit) => shifted & limit.wrapping_sub(1),
        None => shifted,
    }
}

fn rotate_right(a: u64, count: u32, width: u32) -> u64 {
    match count {
        0 => a,
        _ => a.wrapping_shr(count) | a.wrapping_shl(width.wrapping_sub(count)),
    }
}

/// Low bits of `a` to the places set in `mask`.
fn deposit(a: u64, mask: u64) -> u64 {
    let (mut rest, mut source, mut out) = (mask, a, 0u64);
    while rest != 0 {
        let lowest = rest & rest.wrapping_neg();
        if source & 1 != 0 {
            out |= lowest;
        }
        source >>= 1;
        rest &= rest.wrapping_sub(1);
    }
    out
}

/// Bits of `a` at the places set in `mask`, packed.
fn gather(a: u64, mask: u64) -> u64 {
    let (mut rest, mut bit, mut out) = (mask, 1u64, 0u64);
    while rest != 0 {
        let lowest = rest & rest.wrapping_neg();
        if a & lowest != 0 {
            out |= bit;
        }
        bit = bit.wrapping_shl(1);
        rest &= rest.wrapping_sub(1);
    }
    out
}
