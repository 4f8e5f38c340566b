// SPDX-License-Identifier: GPL-2.0
//! Arithmetic of time-stamp counters: scaling, offsets, conversion to time.
//!
//! A guest's TSC is `host * ratio + offset`, the ratio a fixed-point number with
//! 32 (AMD) or 48 (Intel) fraction bits. All of it is done in 64-bit steps.
//!
//! SDM volume 3 section 26.6.5; APM volume 2 section 15.30.5.

/// The 128-bit product as high and low half.
#[inline]
const fn wide_mul(a: u64, b: u64) -> (u64, u64) {
    const LOW: u64 = 0xffff_ffff;
    let (a1, a0, b1, b0) = (a >> 32, a & LOW, b >> 32, b & LOW);
    // Products of 32-bit numbers, and sums of one with two 32-bit numbers, fit.
    let low = a0.wrapping_mul(b0);
    let mid = a1.wrapping_mul(b0).wrapping_add(low >> 32);
    let cross = a0.wrapping_mul(b1).wrapping_add(mid & LOW);
    let high = a1.wrapping_mul(b1).wrapping_add(mid >> 32).wrapping_add(cross >> 32);
    (high, cross << 32 | low & LOW)
}

/// `(a * b) >> shift` of the full product, `shift` 0 to 64; bits beyond 64 are lost.
#[inline]
pub const fn mul_shift(a: u64, b: u64, shift: u32) -> u64 {
    let (high, low) = wide_mul(a, b);
    match shift {
        0 => low,
        1..=63 => high.wrapping_shl(64u32.wrapping_sub(shift)) | low >> shift,
        _ => high,
    }
}

/// `a * mul / div`, rounded down, at most `u64::MAX`. 0 if `div` is.
#[inline]
pub const fn mul_div(a: u64, mul: u32, div: u32) -> u64 {
    let (mul, div) = (mul as u64, div as u64);
    let (Some(whole), Some(rest)) = (a.checked_div(div), a.checked_rem(div)) else { return 0 };
    let Some(fraction) = rest.wrapping_mul(mul).checked_div(div) else { return 0 };
    whole.saturating_mul(mul).saturating_add(fraction)
}

/// `(num << bits) / den`, if that fits.
const fn shift_div(num: u32, bits: u32, den: u32) -> Option<u64> {
    let den = den as u64;
    let (Some(mut quotient), Some(mut rest)) =
        ((num as u64).checked_div(den), (num as u64).checked_rem(den))
    else {
        return None;
    };
    let mut left = bits;
    while left > 0 {
        let step = if left < 32 { left } else { 32 };
        if quotient.leading_zeros() < step {
            return None;
        }
        let part = rest << step;
        let (Some(digits), Some(new_rest)) = (part.checked_div(den), part.checked_rem(den)) else {
            return None;
        };
        quotient = quotient << step | digits;
        rest = new_rest;
        left = left.saturating_sub(step);
    }
    Some(quotient)
}

/// How the host's counter becomes a guest's before the offset is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    value: u64,
    bits: u32,
}

/// What the hardware's ratio can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatioFormat {
    /// Fraction bits.
    pub bits: u32,
    /// Ratios have to be below this.
    pub max: u64,
}

impl RatioFormat {
    /// SVM: 8 integer and 32 fraction bits.
    pub const SVM: Self = Self { bits: 32, max: 0x00ff_ffff_ffff };
    /// VMX: 16 integer and 48 fraction bits.
    pub const VMX: Self = Self { bits: 48, max: u64::MAX };
}

impl Ratio {
    /// One: the guest counts as the host does.
    pub const fn one(format: RatioFormat) -> Self {
        Self { value: 1u64.wrapping_shl(format.bits), bits: format.bits }
    }

    /// The ratio for a guest of `guest_khz` on a host of `host_khz`, `None` if
    /// the hardware can't have it.
    pub fn new(guest_khz: u32, host_khz: u32, format: RatioFormat) -> Option<Self> {
        let value = shift_div(guest_khz, format.bits, host_khz)?;
        (value != 0 && value < format.max).then_some(Self { value, bits: format.bits })
    }

    /// The fixed-point number for the hardware.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.value
    }

    /// A count of the host's as one of the guest's.
    #[inline]
    pub const fn scale(self, host: u64) -> u64 {
        if self.value == 1u64.wrapping_shl(self.bits) {
            host
        } else {
            mul_shift(host, self.value, self.bits)
        }
    }

    /// The guest's counter.
    #[inline]
    pub const fn guest_tsc(self, host: u64, offset: u64) -> u64 {
        self.scale(host).wrapping_add(offset)
    }

    /// The offset with which the guest's counter is `guest` when the host's is
    /// `host`.
    #[inline]
    pub const fn offset(self, guest: u64, host: u64) -> u64 {
        guest.wrapping_sub(self.scale(host))
    }
}

/// Nanoseconds of that many cycles; `u64::MAX` if `khz` is 0 or it takes longer
/// than 64 bits can say.
#[inline]
pub const fn cycles_to_ns(cycles: u64, khz: u32) -> u64 {
    if khz == 0 {
        u64::MAX
    } else {
        mul_div(cycles, 1_000_000, khz)
    }
}

/// Cycles in that many nanoseconds.
#[inline]
pub const fn ns_to_cycles(ns: u64, khz: u32) -> u64 {
    mul_div(ns, khz, 1_000_000)
}

/// Whether a guest of `guest_khz` can run on a host of `host_khz` unscaled:
/// the two are within `ppm` millionths of each other.
pub const fn within_tolerance(guest_khz: u32, host_khz: u32, ppm: u32) -> bool {
    let off = guest_khz.abs_diff(host_khz) as u64;
    off.wrapping_mul(1_000_000) <= (host_khz as u64).wrapping_mul(ppm as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ratios_of_the_manuals() {
        assert_eq!(Ratio::one(RatioFormat::SVM).raw(), 1 << 32);
        let half = Ratio::new(1_000_000, 2_000_000, RatioFormat::SVM).unwrap();
        assert_eq!(half.raw(), 1 << 31);
        assert_eq!(half.scale(1000), 500);
        let triple = Ratio::new(3_000_000, 1_000_000, RatioFormat::VMX).unwrap();
        assert_eq!(triple.raw(), 3 << 48);
        assert!(Ratio::new(0, 1, RatioFormat::SVM).is_none());
        assert!(Ratio::new(1, 0, RatioFormat::SVM).is_none());
        assert!(Ratio::new(256, 1, RatioFormat::SVM).is_none());
        assert!(Ratio::new(u32::MAX, 1, RatioFormat::VMX).is_none());
    }

    #[test]
    fn times() {
        assert_eq!(cycles_to_ns(3_000_000, 3_000_000), 1_000_000);
        assert_eq!(cycles_to_ns(1, 0), u64::MAX);
        assert_eq!(cycles_to_ns(u64::MAX, 1), u64::MAX);
        assert_eq!(ns_to_cycles(1_000_000, 2_500_000), 2_500_000);
        assert!(within_tolerance(1_000_250, 1_000_000, 250));
        assert!(!within_tolerance(1_000_251, 1_000_000, 250));
        assert!(within_tolerance(999_750, 1_000_000, 250));
    }

    proptest! {
        #[test]
        fn product_as_with_128_bits(a: u64, b: u64, shift in 0u32..=64) {
            let wide = u128::from(a) * u128::from(b) >> shift;
            prop_assert_eq!(mul_shift(a, b, shift), wide as u64);
        }

        #[test]
        fn division_as_with_128_bits(a: u64, mul: u32, div in 1u32..) {
            let wide = u128::from(a) * u128::from(mul) / u128::from(div);
            let exact = u64::try_from(wide).unwrap_or(u64::MAX);
            prop_assert_eq!(mul_div(a, mul, div), exact);
        }

        #[test]
        fn ratio_as_with_128_bits(guest in 1u32.., host in 1u32..) {
            for format in [RatioFormat::SVM, RatioFormat::VMX] {
                let wide = (u128::from(guest) << format.bits) / u128::from(host);
                let fits = wide != 0 && wide < u128::from(format.max);
                let ratio = Ratio::new(guest, host, format).map(|r| u128::from(r.raw()));
                prop_assert_eq!(ratio, fits.then_some(wide));
            }
        }

        #[test]
        fn offset_puts_the_guest_where_it_was(guest: u64, host: u64, khz in 100_000u32..10_000_000) {
            let ratio = Ratio::new(khz, 2_000_000, RatioFormat::SVM).unwrap();
            let offset = ratio.offset(guest, host);
            prop_assert_eq!(ratio.guest_tsc(host, offset), guest);
        }
    }
}
