// SPDX-License-Identifier: GPL-2.0
//! Levels of a page table with 512 entries each: NPT, EPT and x86's own.
//!
//! Level 1 maps 4 KiB, level 2 2 MiB, level 3 1 GiB; levels 4 and 5 hold tables
//! only (AMD APM vol. 2, 5.3 and 15.25; Intel SDM vol. 3, 31.3).

use crate::addr::{Gfn, Gpa, PAGE_SHIFT};

const INDEX_BITS: u32 = 9;

/// One level of a table.
///
/// # Invariants
///
/// Between 1 (leaf) and 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// Maps 4 KiB.
    pub const PAGE_4K: Self = Self(1);
    /// Maps 2 MiB.
    pub const PAGE_2M: Self = Self(2);
    /// Maps 1 GiB.
    pub const PAGE_1G: Self = Self(3);
    /// Root of a four-level table.
    pub const ROOT_4: Self = Self(4);
    /// Root of a five-level table.
    pub const ROOT_5: Self = Self(5);

    /// The level's number, 1 to 5.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The next level towards the leaves; `None` below level 1.
    pub const fn below(self) -> Option<Self> {
        // INVARIANT: one less than a level above 1 is at least 1.
        if self.0 > 1 {
            Some(Self(self.0 - 1))
        } else {
            None
        }
    }

    /// log2 of the bytes that one entry of this level spans.
    pub const fn shift(self) -> u32 {
        PAGE_SHIFT + INDEX_BITS * (self.0 as u32 - 1)
    }

    /// 4 KiB frames that one entry of this level spans.
    pub const fn frames(self) -> u64 {
        1 << (self.shift() - PAGE_SHIFT)
    }

    /// Index of the entry that `gpa` goes through in a table of this level.
    pub const fn index(self, gpa: Gpa) -> usize {
        (gpa.raw() >> self.shift()) as usize & ((1 << INDEX_BITS) - 1)
    }

    /// First frame of the naturally aligned block around `gfn`.
    pub const fn align(self, gfn: Gfn) -> Gfn {
        Gfn::new(gfn.raw() & !(self.frames() - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometry() {
        assert_eq!(Level::PAGE_4K.frames(), 1);
        assert_eq!(Level::PAGE_2M.frames(), 512);
        assert_eq!(Level::PAGE_1G.shift(), 30);
        assert_eq!(Level::ROOT_5.shift(), 48);
    }

    #[test]
    fn indices_rebuild_the_address() {
        let gpa = Gpa::new(0x00ab_cdef_1234_5678);
        let mut level = Some(Level::ROOT_5);
        let mut rebuilt = gpa.page_offset();
        while let Some(l) = level {
            rebuilt |= (l.index(gpa) as u64) << l.shift();
            level = l.below();
        }
        // Five levels cover 57 bits.
        assert_eq!(rebuilt, gpa.raw() & ((1 << 57) - 1));
    }

    #[test]
    fn align_clears_the_low_frames() {
        assert_eq!(Level::PAGE_2M.align(Gfn::new(0x12ff)), Gfn::new(0x1200));
    }
}
