// SPDX-License-Identifier: GPL-2.0
//! A bit of guest memory that says that something happened.

/// Bytes of a page.
const PAGE: u64 = 4096;

/// The bit, counted from the first one of its page.
///
/// # Invariants
///
/// `page` is a multiple of the size of a page; `bit` is in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indicator {
    page: u64,
    bit: u64,
}

impl Indicator {
    /// The bit that is so many bits behind the beginning of an address; `None` if
    /// that isn't in the address's page.
    pub const fn new(address: u64, offset: u64) -> Option<Self> {
        let in_page = address & (PAGE - 1);
        if offset / 8 >= PAGE.wrapping_sub(in_page) {
            return None;
        }
        // INVARIANT: just checked.
        let page = address & !(PAGE - 1);
        Some(Self { page, bit: in_page.wrapping_mul(8).wrapping_add(offset) })
    }

    /// The byte that it is in, and the bit in that byte. With `from_left` bits count
    /// from the left of each byte on, as in the manuals. Otherwise they count as
    /// Linux has them: from the right of each word of 64.
    pub const fn byte(&self, from_left: bool) -> (u64, u8) {
        let byte = self.bit / 8;
        let number = (self.bit % 8) as u32;
        if from_left {
            (self.page | byte, 0x80_u8.wrapping_shr(number))
        } else {
            (self.page | byte ^ 7, 1_u8.wrapping_shl(number))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_have_bytes() {
        let bit = Indicator::new(0x2010, 9).unwrap();
        assert_eq!(bit.byte(true), (0x2011, 0x40));
        // 16 bytes are two words; bit 9 is the second of the last byte but one.
        assert_eq!(bit.byte(false), (0x2016, 0x02));
    }

    #[test]
    fn the_bit_is_in_the_page() {
        assert!(Indicator::new(0x2ff8, 63).is_some());
        assert!(Indicator::new(0x2ff8, 64).is_none());
        assert!(Indicator::new(0x2000, u64::MAX).is_none());
    }
}
