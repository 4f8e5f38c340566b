// SPDX-License-Identifier: GPL-2.0
//! kvmclock: what is written into a guest's memory, and the numbers in it.
//!
//! Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW. A guest computes
//! `system_time + ((tsc - tsc_timestamp) << shift) * mul >> 32`, and repeats if
//! the version was odd or changed meanwhile.

use crate::tsc::mul_shift;

/// Bytes of the record.
pub const SIZE: usize = 32;
/// Offset of the version.
pub const VERSION_AT: usize = 0;
/// Offset of the flags.
pub const FLAGS_AT: usize = 29;
/// The MSR's bit that turns the clock on; the rest is the address.
pub const ENABLE: u64 = 1;

/// Flag: the clocks of all vCPUs agree.
pub const STABLE: u8 = 1;
/// Flag: the VMM stopped the guest; set by the host, cleared by the guest.
pub const GUEST_STOPPED: u8 = 1 << 1;

/// Bytes of the wall-clock record.
pub const WALL_CLOCK_SIZE: usize = 12;

/// A frequency ratio as the guest applies it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    /// 32-bit fraction.
    pub mul: u32,
    /// The count is shifted left by this, or right if negative, first.
    pub shift: i8,
}

impl Scale {
    /// The ratio `to / from`, each 1 to 2^62 Hz, to 32 bits. Zero if one is out
    /// of range.
    pub fn new(to: u64, from: u64) -> Self {
        const MAX: u64 = 1 << 62;
        if to == 0 || from == 0 || to > MAX || from > MAX {
            return Self::default();
        }
        // Bring the quotient into [1/2, 1), keeping track of the powers of two.
        let (mut num, mut den, mut shift) = (to, from, 0i8);
        while num >= den {
            // Both stay below 2^63, as den was not above num.
            den <<= 1;
            shift = shift.saturating_add(1);
        }
        while num << 1 < den {
            num <<= 1;
            shift = shift.saturating_sub(1);
        }
        // Then divide, a bit at a time.
        let mut mul = 0u32;
        for _ in 0..32 {
            num <<= 1;
            mul <<= 1;
            if num >= den {
                num = num.wrapping_sub(den);
                mul |= 1;
            }
        }
        Self { mul, shift }
    }

    /// From cycles of a counter to nanoseconds.
    pub fn to_ns(khz: u32) -> Self {
        Self::new(1_000_000_000, u64::from(khz).wrapping_mul(1000))
    }

    /// What the guest computes.
    #[inline]
    pub const fn apply(self, count: u64) -> u64 {
        let by = self.shift.unsigned_abs() as u32;
        let shifted = match self.shift {
            0.. => count.wrapping_shl(by),
            _ => count >> (by & 63),
        };
        mul_shift(shifted, self.mul as u64, 32)
    }
}

/// The contents of a vCPU's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PvClock {
    /// The guest's TSC at the moment that is described.
    pub tsc_timestamp: u64,
    /// Nanoseconds at that moment.
    pub system_time: u64,
    /// From the guest's TSC to nanoseconds.
    pub scale: Scale,
    /// [`STABLE`], [`GUEST_STOPPED`].
    pub flags: u8,
}

impl PvClock {
    /// The record as it lies in memory.
    ///
    /// To write it: store [`update_begins`] of the old version, then (after a
    /// write barrier) everything with that version, then (after another)
    /// [`update_ends`].
    pub fn encode(&self, version: u32) -> [u8; SIZE] {
        let mut image = [0; SIZE];
        let fields = version
            .to_le_bytes()
            .into_iter()
            .chain([0; 4])
            .chain(self.tsc_timestamp.to_le_bytes())
            .chain(self.system_time.to_le_bytes())
            .chain(self.scale.mul.to_le_bytes())
            .chain(self.scale.shift.to_le_bytes())
            .chain([self.flags]);
        for (byte, value) in image.iter_mut().zip(fields) {
            *byte = value;
        }
        image
    }

    /// The same with the flags that the guest hasn't seen yet.
    pub const fn keeping(mut self, flags_in_memory: u8) -> Self {
        self.flags |= flags_in_memory & GUEST_STOPPED;
        self
    }

    /// Nanoseconds when the guest's TSC is `tsc`.
    #[inline]
    pub const fn at(&self, tsc: u64) -> u64 {
        self.system_time.wrapping_add(self.scale.apply(tsc.wrapping_sub(self.tsc_timestamp)))
    }
}

/// The version while a record is written: odd, and another one than before.
#[inline]
pub const fn update_begins(old: u32) -> u32 {
    old.wrapping_add(1) | 1
}

/// The version after that.
#[inline]
pub const fn update_ends(begun: u32) -> u32 {
    begun.wrapping_add(1)
}

/// The wall-clock record: the time of day, in nanoseconds since 1970, when the
/// guest's clock stood at zero.
pub fn wall_clock(version: u32, boot_ns: u64) -> [u8; WALL_CLOCK_SIZE] {
    const SECOND: u64 = 1_000_000_000;
    // Seconds past 2106 wrap, as the field is that short.
    let seconds = (boot_ns / SECOND) as u32;
    let nanos = (boot_ns % SECOND) as u32;
    let mut image = [0; WALL_CLOCK_SIZE];
    let fields = [version, seconds, nanos];
    for (word, value) in image.chunks_exact_mut(4).zip(fields) {
        word.copy_from_slice(&value.to_le_bytes());
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layout() {
        let clock = PvClock {
            tsc_timestamp: 0x1122_3344_5566_7788,
            system_time: 0x99aa_bbcc_ddee_ff00,
            scale: Scale { mul: 0x8000_0001, shift: -2 },
            flags: STABLE,
        };
        let image = clock.encode(6);
        assert_eq!(image[..8], [6, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(image[8..16], 0x1122_3344_5566_7788u64.to_le_bytes());
        assert_eq!(image[16..24], 0x99aa_bbcc_ddee_ff00u64.to_le_bytes());
        assert_eq!(image[24..], [1, 0, 0, 0x80, 0xfe, STABLE, 0, 0]);
        assert_eq!(image[FLAGS_AT], STABLE);
        assert_eq!(clock.keeping(0xff).flags, STABLE | GUEST_STOPPED);
        let wall = wall_clock(2, 1_700_000_000_000_000_005);
        assert_eq!(wall[..8], [2, 0, 0, 0, 0x00, 0xf1, 0x53, 0x65]);
        assert_eq!(wall[8..], [5, 0, 0, 0]);
    }

    #[test]
    fn versions() {
        assert_eq!((update_begins(0), update_ends(update_begins(0))), (1, 2));
        // Junk that looks like an update in progress.
        assert_eq!((update_begins(7), update_ends(update_begins(7))), (9, 10));
        assert_eq!(update_ends(update_begins(u32::MAX)), 2);
    }

    #[test]
    fn known_scales() {
        assert_eq!(Scale::to_ns(1_000_000), Scale { mul: 1 << 31, shift: 1 });
        assert_eq!(Scale::to_ns(2_000_000), Scale { mul: 1 << 31, shift: 0 });
        assert_eq!(Scale::to_ns(0), Scale::default());
        assert_eq!(Scale::to_ns(3_000_000).apply(3_000_000_000), 999_999_999);
    }

    proptest! {
        #[test]
        fn scale_is_exact_to_32_bits(to in 1u64..1 << 62, from in 1u64..1 << 62) {
            let scale = Scale::new(to, from);
            prop_assert!(scale.mul >= 1 << 31);
            // mul * from <= to * 2^(32 - shift) < (mul + 1) * from
            let exponent = 32 - i32::from(scale.shift);
            let (mul, from, to) = (u128::from(scale.mul), u128::from(from), u128::from(to));
            let reached = |m: u128| if exponent >= 0 {
                m * from <= to << exponent.min(64)
            } else {
                (m * from) << -exponent <= to
            };
            prop_assume!(exponent <= 64);
            prop_assert!(reached(mul) && !reached(mul + 1));
        }

        #[test]
        fn clock_runs_at_the_right_speed(khz in 10_000u32..10_000_000, seconds in 1u64..1000) {
            let clock = PvClock { scale: Scale::to_ns(khz), tsc_timestamp: 77, ..PvClock::default() };
            let ns = clock.at(77 + u64::from(khz) * 1000 * seconds);
            // A part in 2^31, rounded down.
            let expected = seconds * 1_000_000_000;
            prop_assert!(ns <= expected && expected - ns <= 1 + expected / (1 << 30));
        }
    }
}
