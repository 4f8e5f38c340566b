// SPDX-License-Identifier: GPL-2.0
//! What a guest may not do by itself: intercept vectors and permission maps (APM
//! vol. 2, 15.9 to 15.11, appendix B).

/// An intercept: the number of its bit in the six vectors, 32 bits each. It is
/// also the exit code it leads to, up to 0x9f.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intercept(u8);

impl Intercept {
    /// Read of a control register 0 to 15.
    pub const fn read_cr(number: u8) -> Self {
        Self(number & 0xf)
    }
    /// Write of a control register 0 to 15.
    pub const fn write_cr(number: u8) -> Self {
        Self(0x10 | number & 0xf)
    }
    /// Read of a debug register 0 to 15.
    pub const fn read_dr(number: u8) -> Self {
        Self(0x20 | number & 0xf)
    }
    /// Write of a debug register 0 to 15.
    pub const fn write_dr(number: u8) -> Self {
        Self(0x30 | number & 0xf)
    }
    /// An exception, 0 to 31.
    pub const fn exception(vector: u8) -> Self {
        Self(0x40 | vector & 0x1f)
    }
    /// Any other, by its exit code from 0x60 to 0x9f; `None` for other codes.
    pub const fn by_code(code: u8) -> Option<Self> {
        match code {
            0x60..=0x9f => Some(Self(code)),
            _ => None,
        }
    }

    /// Index of the vector and mask of the bit.
    const fn position(self) -> (usize, u32) {
        ((self.0 >> 5) as usize, 1 << (self.0 & 31))
    }
}

/// The vectors as the VMCB has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intercepts(pub [u32; 6]);

impl Intercepts {
    /// Turns an intercept on or off.
    pub fn set(&mut self, intercept: Intercept, on: bool) {
        let (vector, mask) = intercept.position();
        if let Some(word) = self.0.get_mut(vector) {
            *word = if on { *word | mask } else { *word & !mask };
        }
    }

    /// Whether it is on.
    pub fn contains(&self, intercept: Intercept) -> bool {
        let (vector, mask) = intercept.position();
        self.0.get(vector).is_some_and(|word| word & mask != 0)
    }
}

/// Bytes of the MSR permission map.
pub const MSRPM_SIZE: usize = 0x2000;
/// Bytes of the I/O permission map: a bit for each port, and the rest of a page
/// for accesses that go past the last one.
pub const IOPM_SIZE: usize = 0x3000;

/// Where an MSR's two bits are in the map: byte, and number of the bit that
/// intercepts reads; the next one intercepts writes. `None` for MSRs outside the
/// three ranges that the map covers, which are always intercepted.
pub const fn msrpm_position(msr: u32) -> Option<(usize, u8)> {
    let base = match msr >> 13 {
        0 => 0x0000,
        // 0xc000_0000 and 0xc001_0000
        0x6_0000 => 0x0800,
        0x6_0008 => 0x1000,
        _ => return None,
    };
    let index = msr & 0x1fff;
    Some((base | (index >> 2) as usize, ((index & 3) << 1) as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_where_the_manual_has_them() {
        let mut intercepts = Intercepts::default();
        // CPUID: vector 3, bit 18. VMRUN: vector 4, bit 0. CR8 write: vector 0.
        for (intercept, vector, bit) in [
            (Intercept::by_code(0x72).unwrap(), 3, 18),
            (Intercept::by_code(0x80).unwrap(), 4, 0),
            (Intercept::write_cr(8), 0, 24),
            (Intercept::exception(17), 2, 17),
            (Intercept::write_dr(7), 1, 23),
        ] {
            intercepts.set(intercept, true);
            assert!(intercepts.contains(intercept));
            assert_ne!(intercepts.0[vector] & 1 << bit, 0, "{intercept:?}");
            intercepts.set(intercept, false);
        }
        assert_eq!(intercepts, Intercepts::default());
        assert_eq!(Intercept::by_code(0x4e), None);
    }

    #[test]
    fn msrs_have_two_bits_each() {
        assert_eq!(msrpm_position(0), Some((0, 0)));
        // SYSENTER_CS
        assert_eq!(msrpm_position(0x174), Some((0x5d, 0)));
        assert_eq!(msrpm_position(0x1fff), Some((0x7ff, 6)));
        assert_eq!(msrpm_position(0x2000), None);
        // STAR, VM_CR
        assert_eq!(msrpm_position(0xc000_0081), Some((0x820, 2)));
        assert_eq!(msrpm_position(0xc001_0114), Some((0x1045, 0)));
        assert_eq!(msrpm_position(0x4b56_4d00), None);
    }
}
