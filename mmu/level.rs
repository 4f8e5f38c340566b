// SPDX-License-Identifier: GPL-2.0
//! Levels of a page table with 512 entries each: NPT, EPT and x86's own.
//!
//! Leaves are at the first three levels; the upper two hold tables only (AMD APM
//! vol. 2, 5.3 and 15.25; Intel SDM vol. 3, 31.3).

use crate::addr::{Gfn, Gpa};

/// Entries of one table.
pub const ENTRIES: usize = 512;

/// One level of a table, from the leaves up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Level 1, maps 4 KiB.
    Page4K = 1,
    /// Level 2, maps 2 MiB or holds a table.
    Page2M = 2,
    /// Level 3, maps 1 GiB or holds a table.
    Page1G = 3,
    /// Level 4, the root of a four-level table.
    Table512G = 4,
    /// Level 5, the root of a five-level table.
    Table256T = 5,
}

impl Level {
    /// The level's number, 1 to 5.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The next level towards the leaves; `None` below level 1.
    pub const fn below(self) -> Option<Self> {
        match self {
            Self::Page4K => None,
            Self::Page2M => Some(Self::Page4K),
            Self::Page1G => Some(Self::Page2M),
            Self::Table512G => Some(Self::Page1G),
            Self::Table256T => Some(Self::Table512G),
        }
    }

    /// The next level towards the root; `None` above level 5.
    pub const fn above(self) -> Option<Self> {
        match self {
            Self::Page4K => Some(Self::Page2M),
            Self::Page2M => Some(Self::Page1G),
            Self::Page1G => Some(Self::Table512G),
            Self::Table512G => Some(Self::Table256T),
            Self::Table256T => None,
        }
    }

    /// log2 of the bytes that one entry of this level spans.
    pub const fn shift(self) -> u32 {
        match self {
            Self::Page4K => 12,
            Self::Page2M => 21,
            Self::Page1G => 30,
            Self::Table512G => 39,
            Self::Table256T => 48,
        }
    }

    /// 4 KiB frames that one entry of this level spans.
    pub const fn frames(self) -> u64 {
        match self {
            Self::Page4K => 1,
            Self::Page2M => 1 << 9,
            Self::Page1G => 1 << 18,
            Self::Table512G => 1 << 27,
            Self::Table256T => 1 << 36,
        }
    }

    /// Index of the entry that `gpa` goes through in a table of this level.
    pub const fn index(self, gpa: Gpa) -> usize {
        self.index_of(gpa.gfn())
    }

    /// Index of the entry that `gfn` goes through in a table of this level.
    pub const fn index_of(self, gfn: Gfn) -> usize {
        gfn.raw().wrapping_shr(self.frames().trailing_zeros()) as usize & 0x1ff
    }

    /// First frame of the naturally aligned block around `gfn`.
    pub const fn align(self, gfn: Gfn) -> Gfn {
        Gfn::new(gfn.raw() & self.frames().wrapping_neg())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometry() {
        let mut level = Some(Level::Table256T);
        while let Some(l) = level {
            assert_eq!(l.frames(), 1 << (l.shift() - 12));
            assert_eq!(l.shift(), 12 + 9 * (u32::from(l.number()) - 1));
            level = l.below();
        }
    }

    #[test]
    fn indices_rebuild_the_address() {
        let gpa = Gpa::new(0x00ab_cdef_1234_5678);
        let mut level = Some(Level::Table256T);
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
        assert_eq!(Level::Page2M.align(Gfn::new(0x12ff)), Gfn::new(0x1200));
    }
}
