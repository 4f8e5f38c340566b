// SPDX-License-Identifier: GPL-2.0
//! Multiplication and division.
//!
//! The 128-by-64-bit division is done bit by bit: the kernel has no 128-bit
//! division to link with.

use super::flags::*;
use super::Exec;
use crate::cpu::Cpu;
use crate::decode::Op;
use crate::fault::Stop;

/// High and low half of the unsigned product of two operands.
pub(super) fn mul_unsigned(a: u64, b: u64, size: u8) -> (u64, u64) {
    if size == 8 {
        let wide = u128::from(a).wrapping_mul(u128::from(b));
        return ((wide >> 64) as u64, wide as u64);
    }
    let wide = a.wrapping_mul(b);
    (wide.wrapping_shr(bits(size)) & mask(size), wide & mask(size))
}

/// High and low half of the signed product, and whether it needs the high half.
fn mul_signed(a: u64, b: u64, size: u8) -> (u64, u64, bool) {
    let (a, b) = (sign_extend(a, size), sign_extend(b, size));
    let (high, low) = if size == 8 {
        let (high, low) = mul_unsigned(a, b, 8);
        let fix = |x: u64, y: u64| if (x as i64) < 0 { y } else { 0 };
        (high.wrapping_sub(fix(a, b)).wrapping_sub(fix(b, a)), low)
    } else {
        let wide = a.wrapping_mul(b);
        (wide.wrapping_shr(bits(size)) & mask(size), wide & mask(size))
    };
    let extension = if low & sign(size) != 0 { mask(size) } else { 0 };
    (high, low, high != extension)
}

/// Quotient and remainder of `high:low / divisor`, `None` on overflow.
fn div_unsigned(high: u64, low: u64, divisor: u64, size: u8) -> Option<(u64, u64)> {
    if divisor == 0 || high >= divisor {
        return None;
    }
    if size != 8 {
        let wide = high.wrapping_shl(bits(size)) | low;
        return Some((wide.checked_div(divisor)?, wide.checked_rem(divisor)?));
    }
    if high == 0 {
        return Some((low.checked_div(divisor)?, low.checked_rem(divisor)?));
    }
    let (mut rest, mut quotient) = (high, low);
    for _ in 0..64 {
        let carry = rest >> 63 != 0;
        rest = rest << 1 | quotient >> 63;
        quotient <<= 1;
        if carry || rest >= divisor {
            rest = rest.wrapping_sub(divisor);
            quotient |= 1;
        }
    }
    Some((quotient, rest))
}

/// Signed division: magnitudes, then signs.
fn div_signed(high: u64, low: u64, divisor: u64, size: u8) -> Option<(u64, u64)> {
    let dividend_negative = high & sign(size) != 0;
    let divisor_negative = divisor & sign(size) != 0;
    let (mut h, mut l) = (high, low);
    if dividend_negative {
        l = low.wrapping_neg() & mask(size);
        h = (!high).wrapping_add(u64::from(l == 0)) & mask(size);
    }
    let d = if divisor_negative { divisor.wrapping_neg() & mask(size) } else { divisor };
    let (q, r) = div_unsigned(h, l, d, size)?;
    let negative = dividend_negative != divisor_negative;
    let limit = if negative { sign(size) } else { sign(size).wrapping_sub(1) };
    if q > limit {
        return None;
    }
    let q = if negative { q.wrapping_neg() } else { q };
    let r = if dividend_negative { r.wrapping_neg() } else { r };
    Some((q & mask(size), r & mask(size)))
}

impl<C: Cpu> Exec<'_, C> {
    pub(super) fn muldiv(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        let size = insn.op_size;
        match insn.op {
            Op::Mul => {
                let (high, low) = mul_unsigned(self.reg(0, size), self.load(insn.src)?, size);
                self.set_wide(high, low, size);
                self.set_product_flags(low, high != 0, size);
            }
            Op::Imul1 => {
                let (high, low, carry) = mul_signed(self.reg(0, size), self.load(insn.src)?, size);
                self.set_wide(high, low, size);
                self.set_product_flags(low, carry, size);
            }
            Op::Imul2 | Op::Imul3 => {
                let other = if insn.op == Op::Imul2 { insn.dst } else { insn.src2 };
                let (a, b) = (self.load(insn.src)?, self.load(other)?);
                let (_, low, carry) = mul_signed(a, b, size);
                self.store_reg(insn.dst, low)?;
                self.set_product_flags(low, carry, size);
            }
            _ => {
                let divisor = self.load(insn.src)?;
                let (high, low) = self.wide(size);
                let divide = if insn.op == Op::Div { div_unsigned } else { div_signed };
                let (q, r) = divide(high, low, divisor, size).ok_or(Stop::DE)?;
                self.set_wide(r, q, size);
            }
        }
        Ok(())
    }

    /// rDX:rAX, or AH:AL.
    fn wide(&self, size: u8) -> (u64, u64) {
        if size == 1 {
            return (self.cpu.gpr(0) >> 8 & 0xff, self.reg(0, 1));
        }
        (self.reg(2, size), self.reg(0, size))
    }

    fn set_wide(&mut self, high: u64, low: u64, size: u8) {
        if size == 1 {
            self.set_reg(0, 2, high << 8 | low);
            return;
        }
        self.set_reg(0, size, low);
        self.set_reg(2, size, high);
    }

    /// CF and OF tell whether the product needs the upper half; the rest is
    /// undefined and left as it was.
    fn set_product_flags(&mut self, _low: u64, carry: bool, _size: u8) {
        let kept = self.flags() & ARITH & !(CF | OF);
        self.set_arith_flags(kept | when(carry, CF | OF));
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn unsigned_division_agrees_with_128_bits(high: u64, low: u64, divisor: u64) {
            let wide = u128::from(high) << 64 | u128::from(low);
            let expected = (divisor != 0 && high < divisor)
                .then(|| ((wide / u128::from(divisor)) as u64, (wide % u128::from(divisor)) as u64));
            prop_assert_eq!(div_unsigned(high, low, divisor, 8), expected);
        }

        #[test]
        fn signed_division_agrees_with_128_bits(high in -1000i64..1000, low: u64, divisor: i64) {
            let wide = i128::from(high) << 64 | i128::from(low);
            let expected = wide.checked_div(i128::from(divisor)).filter(|q| i64::try_from(*q).is_ok())
                .map(|q| (q as u64, (wide % i128::from(divisor)) as u64));
            prop_assert_eq!(div_signed(high as u64, low, divisor as u64, 8), expected);
        }

        #[test]
        fn signed_product_agrees_with_128_bits(a: i64, b: i64) {
            let wide = i128::from(a) * i128::from(b);
            let (high, low, carry) = mul_signed(a as u64, b as u64, 8);
            prop_assert_eq!((high, low), ((wide >> 64) as u64, wide as u64));
            prop_assert_eq!(carry, i64::try_from(wide).is_err());
        }
    }
}
