// SPDX-License-Identifier: GPL-2.0
//! AMD nested page tables: the long-mode format (APM vol. 2, 5.3.3 and 15.25.5).
//!
//! Every access of a guest counts as a user access (15.25.6), so the user bit is
//! always set.

use super::{Format, ADDRESS, EMPTY, FROZEN, LARGE, SOFT_MAY_WRITE, WRITE};
use crate::addr::{Gfn, Pfn};
use crate::entry::{Access, Entry, Leaf, MemoryType};
use crate::level::{Geometry, Level};

const PRESENT: u64 = 1 << 0;
const USER: u64 = 1 << 2;
const CACHE_DISABLE: u64 = 1 << 4;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const NO_EXECUTE: u64 = 1 << 63;

/// Where an MMIO entry keeps its generation: bits 32 to 47.
const GENERATION_SHIFT: u32 = 32;

/// The format, for one processor.
#[derive(Clone, Copy, Debug)]
pub struct Npt {
    /// A physical-address bit that the processor doesn't have: an entry with it
    /// faults as malformed. 0 if it has all 52.
    reserved: u64,
}

impl Npt {
    /// For a processor with `physical_bits` of physical address, as CPUID
    /// Fn8000_0008 EAX says, less those that memory encryption takes.
    pub const fn new(physical_bits: u32) -> Self {
        let reserved = if physical_bits < 52 { 1 << 51 } else { 0 };
        Self { reserved }
    }
}

impl Format for Npt {
    const EMPTY: Entry = EMPTY;
    const FROZEN: Entry = FROZEN;
    const GEOMETRY: Geometry = Geometry::X86;

    #[inline]
    fn leaf(&self, level: Level, leaf: Leaf) -> Entry {
        let mut raw = PRESENT | USER | ACCESSED | (leaf.pfn.raw() << 12 & ADDRESS);
        if leaf.access.contains(Access::WRITE) {
            raw |= WRITE | DIRTY;
        }
        if !leaf.access.contains(Access::EXEC) {
            raw |= NO_EXECUTE;
        }
        if leaf.may_write {
            raw |= SOFT_MAY_WRITE;
        }
        if leaf.memory_type == MemoryType::Uncached {
            raw |= CACHE_DISABLE;
        }
        if level != Level::Page4K {
            raw |= LARGE;
        }
        Entry(raw)
    }

    #[inline]
    fn table(&self, table: Pfn, _level: Level) -> Entry {
        Entry(PRESENT | WRITE | USER | ACCESSED | (table.raw() << 12 & ADDRESS))
    }

    #[inline]
    fn mmio(&self, _gfn: Gfn, generation: u64) -> Option<Entry> {
        if self.reserved == 0 {
            return None;
        }
        let generation = (generation & 0xffff) << GENERATION_SHIFT;
        Some(Entry(PRESENT | WRITE | USER | self.reserved | generation))
    }

    #[inline]
    fn is_present(&self, entry: Entry) -> bool {
        entry.0 & PRESENT != 0 && entry.0 & self.reserved == 0
    }

    #[inline]
    fn access(&self, entry: Entry) -> Access {
        let mut access = Access::READ;
        access.set(Access::WRITE, entry.0 & WRITE != 0);
        access.set(Access::EXEC, entry.0 & NO_EXECUTE == 0);
        access
    }

    #[inline]
    fn memory_type(&self, entry: Entry) -> MemoryType {
        if entry.0 & CACHE_DISABLE == 0 {
            MemoryType::WriteBack
        } else {
            MemoryType::Uncached
        }
    }

    #[inline]
    fn as_mmio(&self, entry: Entry) -> Option<u64> {
        let is_mmio = entry.0 & self.reserved != 0;
        is_mmio.then_some(entry.0 >> GENERATION_SHIFT & 0xffff)
    }

    #[inline]
    fn is_accessed(&self, entry: Entry) -> bool {
        entry.0 & ACCESSED != 0
    }

    #[inline]
    fn is_dirty(&self, entry: Entry) -> bool {
        entry.0 & DIRTY != 0
    }

    #[inline]
    fn clear_accessed(&self, entry: Entry) -> Option<Entry> {
        Some(Entry(entry.0 & !ACCESSED))
    }

    #[inline]
    fn clear_dirty(&self, entry: Entry) -> Option<Entry> {
        Some(Entry(entry.0 & !DIRTY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::check_format;

    #[test]
    fn holds_what_a_format_owes() {
        check_format(&Npt::new(48));
        check_format(&Npt::new(52));
    }

    #[test]
    fn a_full_address_space_has_no_mmio_entries() {
        assert_eq!(Npt::new(52).mmio(Gfn::new(0), 0), None);
    }

    #[test]
    fn bits_are_where_the_manual_has_them() {
        let leaf = Leaf {
            pfn: Pfn::new(0x1234),
            access: Access::READ | Access::WRITE | Access::EXEC,
            may_write: true,
            memory_type: MemoryType::WriteBack,
        };
        let soft = 1 << 52;
        assert_eq!(Npt::new(48).leaf(Level::Page4K, leaf).0, soft | 0x0123_4067);
        let read_only = Leaf { access: Access::READ, may_write: false, ..leaf };
        assert_eq!(Npt::new(48).leaf(Level::Page2M, read_only).0, 1 << 63 | 0x0123_40a5);
    }
}
