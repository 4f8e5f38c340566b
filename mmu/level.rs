// SPDX-License-Identifier: GPL-2.0
//! Levels of a page table, and how many entries the tables of each have.
//!
//! Leaves are at the first three levels; the upper two hold tables only (AMD APM
//! vol. 2, 5.3 and 15.25; Intel SDM vol. 3, 31.3; z/Architecture Principles of
//! Operation, "Dynamic Address Translation").

use crate::addr::{Gfn, Gpa, PAGE_SHIFT};

/// One level of a table, from the leaves up. The names are those of tables with
/// 512 entries; see [`Geometry`] for what others map at the same level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Level 1, maps 4 KiB.
    Page4K = 1,
    /// Level 2, maps 2 MiB (s390: 1 MiB) or holds a table.
    Page2M = 2,
    /// Level 3, maps 1 GiB (s390: 2 GiB) or holds a table.
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
}

/// How many entries tables have, and so what an entry of each level spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// log2 of the entries of a table of level 1.
    lowest: u32,
    /// log2 of the entries of a table above.
    upper: u32,
}

impl Geometry {
    /// 512 entries at every level: NPT, EPT and x86's own tables.
    pub const X86: Self = Self { lowest: 9, upper: 9 };

    /// Page tables of 256 entries, segment and region tables of 2048: s390.
    pub const DAT: Self = Self { lowest: 8, upper: 11 };

    /// Entries of a table of `level`.
    #[inline]
    pub const fn entries(self, level: Level) -> usize {
        match level {
            Level::Page4K => 1_usize.wrapping_shl(self.lowest),
            _ => 1_usize.wrapping_shl(self.upper),
        }
    }

    /// log2 of the frames that one entry of `level` spans.
    #[inline]
    const fn frame_shift(self, level: Level) -> u32 {
        match level {
            Level::Page4K => 0,
            Level::Page2M => self.lowest,
            Level::Page1G => self.lowest.wrapping_add(self.upper),
            Level::Table512G => self.lowest.wrapping_add(self.upper.wrapping_mul(2)),
            Level::Table256T => self.lowest.wrapping_add(self.upper.wrapping_mul(3)),
        }
    }

    /// log2 of the bytes that one entry of `level` spans.
    #[inline]
    pub const fn shift(self, level: Level) -> u32 {
        self.frame_shift(level).wrapping_add(PAGE_SHIFT)
    }

    /// 4 KiB frames that one entry of `level` spans.
    #[inline]
    pub const fn frames(self, level: Level) -> u64 {
        1_u64.wrapping_shl(self.frame_shift(level))
    }

    /// Frames that a table of `level` reaches.
    #[inline]
    pub const fn reach(self, level: Level) -> u64 {
        self.frames(level).saturating_mul(self.entries(level) as u64)
    }

    /// Index of the entry that `gpa` goes through in a table of `level`.
    #[inline]
    pub const fn index(self, level: Level, gpa: Gpa) -> usize {
        self.index_of(level, gpa.gfn())
    }

    /// Index of the entry that `gfn` goes through in a table of `level`.
    #[inline]
    pub const fn index_of(self, level: Level, gfn: Gfn) -> usize {
        let mask = self.entries(level).wrapping_sub(1);
        gfn.raw().wrapping_shr(self.frame_shift(level)) as usize & mask
    }

    /// First frame of the naturally aligned block of `level` around `gfn`.
    #[inline]
    pub const fn align(self, level: Level, gfn: Gfn) -> Gfn {
        Gfn::new(gfn.raw() & self.frames(level).wrapping_neg())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Level; 5] =
        [Level::Page4K, Level::Page2M, Level::Page1G, Level::Table512G, Level::Table256T];

    #[test]
    fn geometry() {
        let shifts = |geometry: Geometry| ALL.map(|level| geometry.shift(level));
        assert_eq!(shifts(Geometry::X86), [12, 21, 30, 39, 48]);
        assert_eq!(shifts(Geometry::DAT), [12, 20, 31, 42, 53]);
        assert_eq!(Geometry::DAT.entries(Level::Page4K), 256);
        assert_eq!(Geometry::DAT.entries(Level::Page2M), 2048);
        assert_eq!(Geometry::X86.reach(Level::Table512G), 1 << 36);
        assert_eq!(Geometry::DAT.reach(Level::Table512G), 1 << 41);
    }

    #[test]
    fn indices_rebuild_the_address() {
        let gpa = Gpa::new(0x00ab_cdef_1234_5678);
        for geometry in [Geometry::X86, Geometry::DAT] {
            let mut rebuilt = gpa.page_offset();
            for level in ALL {
                rebuilt |= (geometry.index(level, gpa) as u64) << geometry.shift(level);
            }
            // Five levels of x86 cover 57 bits, those of s390 all 64.
            let covered = if geometry == Geometry::X86 { (1 << 57) - 1 } else { u64::MAX };
            assert_eq!(rebuilt, gpa.raw() & covered);
        }
    }

    #[test]
    fn align_clears_the_low_frames() {
        let gfn = Gfn::new(0x13ff);
        assert_eq!(Geometry::X86.align(Level::Page2M, gfn), Gfn::new(0x1200));
        assert_eq!(Geometry::DAT.align(Level::Page2M, gfn), Gfn::new(0x1300));
    }
}
