// SPDX-License-Identifier: GPL-2.0
//! Intel extended page tables (SDM vol. 3, 31.3.2, tables 31-2 to 31-7).

use super::{Format, ADDRESS, EMPTY, FROZEN, LARGE, SOFT_MAY_WRITE, WRITE};
use crate::addr::{Gfn, Pfn};
use crate::entry::{Access, Entry, Leaf, MemoryType};
use crate::level::{Geometry, Level};

const READ: u64 = 1 << 0;
const EXECUTE: u64 = 1 << 2;
const ANY_ACCESS: u64 = READ | WRITE | EXECUTE;
const TYPE_WRITE_BACK: u64 = 6 << 3;
/// The entry's memory type counts alone, not the guest's PAT.
const IGNORE_PAT: u64 = 1 << 6;
const ACCESSED: u64 = 1 << 8;
const DIRTY: u64 = 1 << 9;

/// Write and execute without read: a misconfiguration (31.3.3.1), which exits at
/// once, wherever the entry is.
const MMIO: u64 = WRITE | EXECUTE;
/// Where an MMIO entry keeps its generation: bits 32 to 47.
const GENERATION_SHIFT: u32 = 32;

/// The format, for one processor.
#[derive(Clone, Copy, Debug)]
pub struct Ept {
    /// The processor keeps accessed and dirty bits.
    accessed_dirty: bool,
}

impl Ept {
    /// For a processor with or without accessed and dirty bits
    /// (IA32_VMX_EPT_VPID_CAP bit 21), which EPTP bit 6 turns on.
    pub const fn new(accessed_dirty: bool) -> Self {
        Self { accessed_dirty }
    }
}

impl Format for Ept {
    const EMPTY: Entry = EMPTY;
    const FROZEN: Entry = FROZEN;
    const GEOMETRY: Geometry = Geometry::X86;

    #[inline]
    fn leaf(&self, level: Level, leaf: Leaf) -> Entry {
        let mut raw = READ | ACCESSED | (leaf.pfn.raw() << 12 & ADDRESS);
        if leaf.access.contains(Access::WRITE) {
            raw |= WRITE | DIRTY;
        }
        if leaf.access.contains(Access::EXEC) {
            raw |= EXECUTE;
        }
        if leaf.may_write {
            raw |= SOFT_MAY_WRITE;
        }
        raw |= match leaf.memory_type {
            MemoryType::WriteBack => TYPE_WRITE_BACK,
            MemoryType::AlwaysWriteBack => TYPE_WRITE_BACK | IGNORE_PAT,
            MemoryType::Uncached => IGNORE_PAT,
        };
        if level != Level::Page4K {
            raw |= LARGE;
        }
        Entry(raw)
    }

    #[inline]
    fn table(&self, table: Pfn, _level: Level) -> Entry {
        Entry(ANY_ACCESS | ACCESSED | (table.raw() << 12 & ADDRESS))
    }

    #[inline]
    fn mmio(&self, _gfn: Gfn, generation: u64) -> Option<Entry> {
        Some(Entry(MMIO | (generation & 0xffff) << GENERATION_SHIFT))
    }

    #[inline]
    fn is_present(&self, entry: Entry) -> bool {
        entry.0 & READ != 0
    }

    #[inline]
    fn access(&self, entry: Entry) -> Access {
        let mut access = Access::READ;
        access.set(Access::WRITE, entry.0 & WRITE != 0);
        access.set(Access::EXEC, entry.0 & EXECUTE != 0);
        access
    }

    #[inline]
    fn memory_type(&self, entry: Entry) -> MemoryType {
        if entry.0 & IGNORE_PAT == 0 {
            MemoryType::WriteBack
        } else if entry.0 & TYPE_WRITE_BACK != 0 {
            MemoryType::AlwaysWriteBack
        } else {
            MemoryType::Uncached
        }
    }

    #[inline]
    fn as_mmio(&self, entry: Entry) -> Option<u64> {
        let is_mmio = entry.0 & ANY_ACCESS == MMIO;
        is_mmio.then_some(entry.0 >> GENERATION_SHIFT & 0xffff)
    }

    #[inline]
    fn is_accessed(&self, entry: Entry) -> bool {
        !self.accessed_dirty || entry.0 & ACCESSED != 0
    }

    #[inline]
    fn is_dirty(&self, entry: Entry) -> bool {
        let bit = if self.accessed_dirty { DIRTY } else { WRITE };
        entry.0 & bit != 0
    }

    #[inline]
    fn clear_accessed(&self, entry: Entry) -> Option<Entry> {
        self.accessed_dirty.then_some(Entry(entry.0 & !ACCESSED))
    }

    #[inline]
    fn clear_dirty(&self, entry: Entry) -> Option<Entry> {
        self.accessed_dirty.then_some(Entry(entry.0 & !DIRTY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::check_format;

    #[test]
    fn holds_what_a_format_owes() {
        check_format(&Ept::new(true));
        check_format(&Ept::new(false));
    }

    #[test]
    fn bits_are_where_the_manual_has_them() {
        let leaf = Leaf {
            pfn: Pfn::new(0x1234),
            access: Access::READ | Access::WRITE | Access::EXEC,
            may_write: true,
            memory_type: MemoryType::WriteBack,
        };
        assert_eq!(Ept::new(true).leaf(Level::Page4K, leaf).0, 1 << 52 | 0x0123_4337);
        let always = Leaf { memory_type: MemoryType::AlwaysWriteBack, ..leaf };
        let entry = Ept::new(true).leaf(Level::Page4K, always);
        assert_eq!(entry.0, 1 << 52 | 0x0123_4377);
        assert_eq!(Ept::new(true).memory_type(entry), MemoryType::AlwaysWriteBack);
        assert_eq!(Ept::new(true).table(Pfn::new(0x1234), Level::Page2M).0, 0x0123_4107);
    }
}
