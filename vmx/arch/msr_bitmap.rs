// SPDX-License-Identifier: GPL-2.0
//! The MSR bitmap (25.6.9): a page with a bit for each MSR and direction, 1 for those that
//! exit. MSRs that have no bit exit.

const HIGH: u32 = 0xc000_0000;
const HIGH_END: u32 = 0xc000_2000;
const RANGE: u32 = 0x2000;
/// Bytes of the bitmap for one range and direction.
const QUARTER: u32 = 0x400;

/// Byte and bit of reads of an MSR; those of writes are [`WRITES`] bytes further on. `None`
/// if it has none.
pub const fn position(msr: u32) -> Option<(usize, u8)> {
    let (index, base) = match msr {
        0..RANGE => (msr, 0),
        HIGH..HIGH_END => (msr & (RANGE.wrapping_sub(1)), QUARTER),
        _ => return None,
    };
    Some((base.wrapping_add(index >> 3) as usize, (index & 7) as u8))
}

/// From the bits of reads to those of writes.
pub const WRITES: usize = 0x800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_the_manual() {
        assert_eq!(position(0), Some((0, 0)));
        assert_eq!(position(0x1fff), Some((0x3ff, 7)));
        assert_eq!(position(0x174), Some((0x2e, 4)));
        assert_eq!(position(0xc000_0100), Some((0x420, 0)));
        assert_eq!(position(0xc000_1fff), Some((0x7ff, 7)));
        assert_eq!(position(0x2000), None);
        assert_eq!(position(0xc000_2000), None);
        assert_eq!(position(0x4b56_4d00), None);
    }
}
