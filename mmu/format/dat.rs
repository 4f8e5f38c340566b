// SPDX-License-Identifier: GPL-2.0
//! IBM Z DAT tables (Principles of Operation, "Dynamic Address Translation"), as
//! a guest's host tables under SIE.
//!
//! Page tables have 256 entries in the first half of a page; the second half has
//! a status entry for each of them. Segment and region tables have 2048. An entry
//! that may be in use is changed by an instruction that purges what processors
//! remember of it, so nothing is owed afterwards ([`crate::tables::Tables`]).

use super::Format;
use crate::addr::{Gfn, Pfn};
use crate::entry::{Access, Entry, Leaf, MemoryType};
use crate::level::{Geometry, Level};

/// Frame of a page or a table.
const ADDRESS: u64 = !0xfff;
/// Segment or region entry: invalid.
const UPPER_INVALID: u64 = 0x20;
/// Page entry: invalid. In a valid segment or region entry: it maps memory
/// (format control, with enhanced DAT).
const PAGE_INVALID: u64 = 0x400;
const LARGE: u64 = 0x400;
/// Writes are refused.
const PROTECTED: u64 = 0x200;
/// Segment or region entry: the table below has all its entries (length, offset).
const FULL: u64 = 0x3;

/// Ignored by processors in a valid page entry (bits 56 to 63); in a large one
/// eight bits further up, where the key is that isn't used. None is
/// [`UPPER_INVALID`].
const SOFT_MAY_WRITE: u64 = 0x80;
const SOFT_NO_EXECUTE: u64 = 0x40;
const SOFT_UNCACHED: u64 = 0x10;
const LARGE_SOFT_SHIFT: u32 = 8;

/// Invalid as an entry of any level, which has all other bits to itself.
const INVALID: u64 = UPPER_INVALID | PAGE_INVALID;

/// The format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dat;

impl Dat {
    /// Byte offset of the status entries of a page table.
    pub const STATUS: usize = 2048;

    /// Whether a processor may remember an entry.
    #[inline]
    pub const fn may_be_cached(entry: Entry) -> bool {
        entry.0 & UPPER_INVALID == 0
    }

    /// The address-space-control element for tables whose root, of `level`, is at
    /// a physical address: a private space.
    pub const fn space(root: u64, level: Level) -> u64 {
        const PRIVATE: u64 = 0x100;
        root & ADDRESS | PRIVATE | type_of(level) | FULL
    }
}

/// The type of a table of this level, as entries and control elements have it.
const fn type_of(level: Level) -> u64 {
    match level {
        Level::Page4K | Level::Page2M => 0,
        Level::Page1G => 0x4,
        Level::Table512G => 0x8,
        Level::Table256T => 0xc,
    }
}

const fn soft_shift(level: Level) -> u32 {
    match level {
        Level::Page4K => 0,
        _ => LARGE_SOFT_SHIFT,
    }
}

impl Format for Dat {
    const EMPTY: Entry = Entry(INVALID);
    const FROZEN: Entry = Entry(INVALID | 1);
    const GEOMETRY: Geometry = Geometry::DAT;

    #[inline]
    fn leaf(&self, level: Level, leaf: Leaf) -> Entry {
        let mut soft = 0;
        if leaf.may_write {
            soft |= SOFT_MAY_WRITE;
        }
        if !leaf.access.contains(Access::EXEC) {
            soft |= SOFT_NO_EXECUTE;
        }
        if leaf.memory_type == MemoryType::Uncached {
            soft |= SOFT_UNCACHED;
        }
        let mut raw = leaf.pfn.raw() << 12 & ADDRESS | soft << soft_shift(level);
        if !leaf.access.contains(Access::WRITE) {
            raw |= PROTECTED;
        }
        if level != Level::Page4K {
            raw |= LARGE | type_of(level);
        }
        Entry(raw)
    }

    #[inline]
    fn table(&self, table: Pfn, level: Level) -> Entry {
        let length = if level == Level::Page2M { 0 } else { FULL };
        Entry(table.raw() << 12 & ADDRESS | type_of(level) | length)
    }

    fn root(&self, address: u64, level: Level) -> u64 {
        Self::space(address, level)
    }

    fn mmio(&self, _gfn: Gfn, _generation: u64) -> Option<Entry> {
        None
    }

    #[inline]
    fn is_present(&self, entry: Entry) -> bool {
        Self::may_be_cached(entry)
    }

    #[inline]
    fn as_table(&self, entry: Entry, level: Level) -> Option<Pfn> {
        let leads_on = self.is_present(entry) && level != Level::Page4K && entry.0 & LARGE == 0;
        leads_on.then(|| Pfn::new((entry.0 & ADDRESS) >> 12))
    }

    #[inline]
    fn as_leaf(&self, entry: Entry, level: Level) -> Option<Leaf> {
        let is_page = level == Level::Page4K;
        let maps = self.is_present(entry) && (is_page || entry.0 & LARGE != 0);
        if !maps {
            return None;
        }
        let soft = entry.0 >> soft_shift(level);
        let mut access = self.access(entry);
        access.set(Access::EXEC, soft & SOFT_NO_EXECUTE == 0);
        // The software bits of a large entry lie where no address is.
        let address = if is_page { ADDRESS } else { ADDRESS & !0xf_ffff };
        Some(Leaf {
            pfn: Pfn::new((entry.0 & address) >> 12),
            access,
            may_write: soft & SOFT_MAY_WRITE != 0,
            memory_type: if soft & SOFT_UNCACHED == 0 {
                MemoryType::WriteBack
            } else {
                MemoryType::Uncached
            },
        })
    }

    #[inline]
    fn access(&self, entry: Entry) -> Access {
        let mut access = Access::READ;
        access.set(Access::WRITE, entry.0 & PROTECTED == 0);
        access
    }

    fn memory_type(&self, _entry: Entry) -> MemoryType {
        MemoryType::WriteBack
    }

    fn as_mmio(&self, _entry: Entry) -> Option<u64> {
        None
    }

    #[inline]
    fn is_accessed(&self, _entry: Entry) -> bool {
        true
    }

    #[inline]
    fn is_dirty(&self, entry: Entry) -> bool {
        entry.0 & PROTECTED == 0
    }

    fn clear_accessed(&self, _entry: Entry) -> Option<Entry> {
        None
    }

    fn clear_dirty(&self, _entry: Entry) -> Option<Entry> {
        None
    }

    #[inline]
    fn write_protect(&self, entry: Entry) -> Entry {
        Entry(entry.0 | PROTECTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::check_format;

    #[test]
    fn holds_what_a_format_owes() {
        check_format(&Dat);
    }

    #[test]
    fn bits_are_where_the_manual_has_them() {
        let leaf = Leaf {
            pfn: Pfn::new(0x1234),
            access: Access::READ | Access::WRITE | Access::EXEC,
            may_write: true,
            memory_type: MemoryType::WriteBack,
        };
        assert_eq!(Dat.leaf(Level::Page4K, leaf).0, 0x0123_4080);
        let read_only = Leaf { access: Access::READ | Access::EXEC, may_write: false, ..leaf };
        assert_eq!(Dat.leaf(Level::Page4K, read_only).0, 0x0123_4200);
        let large = Leaf { pfn: Pfn::new(0x1200), ..read_only };
        assert_eq!(Dat.leaf(Level::Page2M, large).0, 0x0120_0600);
        assert_eq!(Dat.table(Pfn::new(0x1234), Level::Page2M).0, 0x0123_4000);
        assert_eq!(Dat.table(Pfn::new(0x1234), Level::Page1G).0, 0x0123_4007);
        assert_eq!(Dat.table(Pfn::new(0x1234), Level::Table512G).0, 0x0123_400b);
        assert_eq!(Dat::space(0x0123_4000, Level::Table512G), 0x0123_410b);
    }
}
