// SPDX-License-Identifier: GPL-2.0
//! Where tables live: the boundary between the algorithms and real memory.

use crate::addr::Pfn;
use crate::entry::Entry;
#[cfg(doc)]
use crate::level::Geometry;
use crate::level::Level;

/// Memory that holds tables, as many entries each as the format's [`Geometry`]
/// says.
///
/// Entries are read and changed atomically, by many CPUs at once and by the
/// processor's own table walker. A reader that came to a table through its
/// parent may use it until it leaves its read-side section, also when the table
/// is cut off meanwhile: that is why cut-off tables are *retired*, and freed only
/// after all such sections and a TLB flush.
pub trait Tables {
    /// One table.
    type Table: Copy + PartialEq;

    /// Reads an entry (acquire: what a table's maker wrote into it is seen).
    fn read(&self, table: Self::Table, index: usize) -> Entry;

    /// Replaces `old` by `new` (release on success); the entry that was there
    /// instead if it wasn't `old`. Where processors want translations to be purged
    /// in the same step, this does it.
    ///
    /// # Errors
    ///
    /// The present entry.
    fn compare_exchange(
        &self,
        table: Self::Table,
        index: usize,
        old: Entry,
        new: Entry,
    ) -> Result<(), Entry>;

    /// Writes `new` and returns what was there. For tables that no processor walks:
    /// new ones, and those that were cut off.
    fn swap(&self, table: Self::Table, index: usize, new: Entry) -> Entry;

    /// The frame in which the table lies.
    fn frame(&self, table: Self::Table) -> Pfn;

    /// The table of `level` in a frame that [`Self::frame`] named before.
    fn at(&self, frame: Pfn, level: Level) -> Self::Table;
}

/// Tables that were allocated before a walk, while sleeping was allowed. All
/// their entries are [`EMPTY`](crate::format::Format::EMPTY).
pub trait Spare<Table> {
    /// Takes one that is to be of `level`.
    fn take(&mut self, level: Level) -> Option<Table>;
    /// Puts one back that no walker has seen. Its entries may have been written.
    fn put_back(&mut self, table: Table);
}

/// Who is told what a zap removed.
pub trait Removed<Table> {
    /// A leaf is gone. `dirty`: the guest wrote to the page through it.
    fn leaf(&mut self, leaf: crate::entry::Leaf, level: Level, dirty: bool);
    /// A table was cut off; to be freed after a grace period and the flush.
    fn table(&mut self, table: Table);
}
