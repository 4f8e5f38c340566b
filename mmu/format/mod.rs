// SPDX-License-Identifier: GPL-2.0
//! Bit formats of second-level tables.
//!
//! A format turns [`Leaf`]s and table addresses into entries and back. It is a
//! type parameter of everything that walks tables, so that no walk branches on
//! the vendor.
//!
//! - [`npt`]: AMD nested page tables.
//! - [`ept`]: Intel extended page tables.
//! - [`dat`]: IBM Z DAT tables.

pub mod dat;
pub mod ept;
pub mod npt;

use crate::addr::{Gfn, Pfn};
use crate::entry::{Access, Entry, Leaf, MemoryType};
use crate::level::{Geometry, Level};

/// Bits 12 to 51: the address of a page or a table.
pub(crate) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// In a leaf of both x86 formats: writes are allowed.
pub(crate) const WRITE: u64 = 1 << 1;
/// In an entry above the lowest level, of both formats: it maps a large page.
pub(crate) const LARGE: u64 = 1 << 7;
/// In a leaf, ignored by both processors: [`Leaf::may_write`].
pub(crate) const SOFT_MAY_WRITE: u64 = 1 << 52;

/// Empty entry of both x86 formats.
pub(crate) const EMPTY: Entry = Entry(0);
/// Frozen entry of both: not present, and a bit that both ignore then.
pub(crate) const FROZEN: Entry = Entry(1 << 11);

/// A bit format.
///
/// For every leaf whose frame fits 40 bits, `as_leaf(leaf(x)) == Some(x)`, and
/// no encoded entry equals [`Self::EMPTY`] or [`Self::FROZEN`]; the tests of
/// each format check that.
pub trait Format {
    /// Nothing is mapped; a fault may map something. No processor takes it for a
    /// mapping.
    const EMPTY: Entry;

    /// The table that holds this entry was cut off from the root and waits to be
    /// freed. Nothing may be mapped here: whoever meets this starts over at the
    /// root. No processor takes it for a mapping.
    const FROZEN: Entry;

    /// The sizes of tables.
    const GEOMETRY: Geometry;

    /// Entry that maps `leaf` at `level`; accessed and dirty bits are set as for
    /// a page that is being touched.
    fn leaf(&self, level: Level, leaf: Leaf) -> Entry;

    /// Entry of `level` that leads to the table in frame `table`.
    fn table(&self, table: Pfn, level: Level) -> Entry;

    /// What a control block has to say of a root of `level` at a physical address.
    fn root(&self, address: u64, _level: Level) -> u64 {
        address
    }

    /// Entry that makes each access exit at once as MMIO, or `None` if the
    /// processor has no way to say so. `generation` (low 16 bits) tells entries
    /// made before a change of the slots from later ones.
    fn mmio(&self, gfn: Gfn, generation: u64) -> Option<Entry>;

    /// Whether the entry leads on or maps: neither empty, frozen nor MMIO.
    fn is_present(&self, entry: Entry) -> bool;

    /// Frame of the table below, if the entry leads to one.
    #[inline]
    fn as_table(&self, entry: Entry, level: Level) -> Option<Pfn> {
        let leads_on = self.is_present(entry) && level != Level::Page4K && entry.0 & LARGE == 0;
        leads_on.then(|| Pfn::new((entry.0 & ADDRESS) >> 12))
    }

    /// What the entry maps, if it is a leaf.
    #[inline]
    fn as_leaf(&self, entry: Entry, level: Level) -> Option<Leaf> {
        let maps = self.is_present(entry) && (level == Level::Page4K || entry.0 & LARGE != 0);
        maps.then(|| Leaf {
            pfn: Pfn::new((entry.0 & ADDRESS) >> 12),
            access: self.access(entry),
            may_write: entry.0 & SOFT_MAY_WRITE != 0,
            memory_type: self.memory_type(entry),
        })
    }

    /// What a leaf lets the guest do.
    fn access(&self, entry: Entry) -> Access;

    /// How a leaf is cached.
    fn memory_type(&self, entry: Entry) -> MemoryType;

    /// Generation of an MMIO entry.
    fn as_mmio(&self, entry: Entry) -> Option<u64>;

    /// The guest used the page since the bit was last cleared. True where the
    /// processor keeps no such bit.
    fn is_accessed(&self, entry: Entry) -> bool;

    /// The guest wrote to the page. True for any writable page where the
    /// processor keeps no such bit.
    fn is_dirty(&self, entry: Entry) -> bool;

    /// The same leaf, not accessed; `None` where the processor keeps no such
    /// bit.
    fn clear_accessed(&self, entry: Entry) -> Option<Entry>;

    /// The same leaf, clean; `None` where the processor keeps no such bit.
    fn clear_dirty(&self, entry: Entry) -> Option<Entry>;

    /// The same leaf without write permission; [`Leaf::may_write`] stays.
    #[inline]
    fn write_protect(&self, entry: Entry) -> Entry {
        Entry(entry.0 & !WRITE)
    }

    /// The leaf, one level down, that maps the `index`th part of this one.
    fn part(&self, entry: Entry, level: Level, index: usize) -> Option<Entry> {
        let below = level.below()?;
        let leaf = self.as_leaf(entry, level)?;
        let pfn =
            leaf.pfn.checked_add((index as u64).checked_mul(Self::GEOMETRY.frames(below))?)?;
        Some(self.leaf(below, Leaf { pfn, ..leaf }))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What every format owes; called by the tests of each.
    pub(crate) fn check_format<F: Format>(format: &F) {
        for level in [Level::Page4K, Level::Page2M, Level::Page1G] {
            for bits in 1..8 {
                for may_write in [false, true] {
                    for memory_type in [MemoryType::WriteBack, MemoryType::Uncached] {
                        // Only writable pages may be written, and no processor
                        // maps without reading.
                        let access = Access::from_bits_truncate(bits);
                        if !access.contains(Access::READ)
                            || access.contains(Access::WRITE) && !may_write
                        {
                            continue;
                        }
                        let pfn =
                            Pfn::new(0x12_3456_7000 & F::GEOMETRY.frames(level).wrapping_neg());
                        check_leaf(format, level, Leaf { pfn, access, may_write, memory_type });
                    }
                }
            }
        }
        check_table(format);
        check_mmio(format);
    }

    fn check_leaf<F: Format>(format: &F, level: Level, leaf: Leaf) {
        let entry = format.leaf(level, leaf);
        assert!(format.is_present(entry));
        assert!(entry != F::EMPTY && entry != F::FROZEN);
        assert_eq!(format.as_leaf(entry, level), Some(leaf), "{level:?} {entry:x?}");
        assert_eq!(format.as_table(entry, level), None);
        assert_eq!(format.as_mmio(entry), None);
        assert!(format.is_accessed(entry));
        assert_eq!(format.is_dirty(entry), leaf.access.contains(Access::WRITE));
        let protected = format.as_leaf(format.write_protect(entry), level).unwrap();
        assert_eq!(protected, Leaf { access: leaf.access - Access::WRITE, ..leaf });
        if let Some(cleared) = format.clear_accessed(entry) {
            assert!(!format.is_accessed(cleared));
            assert_eq!(format.as_leaf(cleared, level), Some(leaf));
        }
        if let Some(cleared) = format.clear_dirty(entry) {
            assert!(!format.is_dirty(cleared));
            assert_eq!(format.as_leaf(cleared, level), Some(leaf));
        }
        if let Some(below) = level.below() {
            let last = F::GEOMETRY.entries(below) - 1;
            let part = format.as_leaf(format.part(entry, level, last).unwrap(), below).unwrap();
            let offset = last as u64 * F::GEOMETRY.frames(below);
            assert_eq!(part.pfn.raw(), leaf.pfn.raw() + offset);
        }
    }

    fn check_table<F: Format>(format: &F) {
        for level in [Level::Page2M, Level::Page1G, Level::Table512G, Level::Table256T] {
            let entry = format.table(Pfn::new(0x7_6543), level);
            assert!(format.is_present(entry));
            assert_eq!(format.as_table(entry, level), Some(Pfn::new(0x7_6543)));
            assert_eq!(format.as_leaf(entry, level), None);
        }
        for entry in [F::EMPTY, F::FROZEN] {
            assert!(!format.is_present(entry));
            assert_eq!(format.as_leaf(entry, Level::Page4K), None);
            assert_eq!(format.as_table(entry, Level::Page2M), None);
            assert_eq!(format.as_mmio(entry), None);
        }
    }

    fn check_mmio<F: Format>(format: &F) {
        for generation in [0, 1, 0xffff] {
            if let Some(entry) = format.mmio(Gfn::new(0xfee00), generation) {
                assert_eq!(format.as_mmio(entry), Some(generation));
                assert!(!format.is_present(entry));
                assert!(entry != F::EMPTY && entry != F::FROZEN);
            }
        }
    }
}
