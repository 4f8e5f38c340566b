// SPDX-License-Identifier: GPL-2.0
//! A guest's address space: a tree of tables below one root.
//!
//! # Protocol
//!
//! No lock is held while tables are read or changed. What keeps that sound:
//!
//! 1. A walk runs inside a read-side section; tables met on the way stay valid
//!    until it ends ([`Tables`]).
//! 2. An entry changes by compare-and-exchange from the value that was looked
//!    at, or by a swap whose old value is accounted for. Whoever loses a race
//!    looks again.
//! 3. A table is cut off by swapping the entry that leads to it; then all its
//!    entries are swapped to [`Format::FROZEN`]. A walker that still holds the
//!    table can't map anything into it any more, and starts over.
//! 4. What was removed is in TLBs until the [`FlushDebt`] is paid. Frames of
//!    retired tables, and of pages whose owner waits for the removal, are reused
//!    only afterwards.

use crate::addr::Gfn;
use crate::entry::Entry;
use crate::flush::FlushDebt;
use crate::format::Format;
use crate::level::Level;
use crate::tables::Tables;

/// One root with its format and memory.
pub struct Space<'a, F, T: Tables> {
    pub(crate) format: &'a F,
    pub(crate) tables: &'a T,
    pub(crate) root: T::Table,
    pub(crate) top: Level,
}

/// The deepest entry on the way to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where the walk ended.
    pub level: Level,
    /// A leaf, empty, frozen or MMIO.
    pub entry: Entry,
}

/// A place in a table, and the entry that was seen there.
pub(crate) struct Place<Table> {
    pub(crate) table: Table,
    pub(crate) index: usize,
    pub(crate) level: Level,
    /// First frame that the entry spans.
    pub(crate) gfn: Gfn,
    pub(crate) entry: Entry,
}

impl<'a, F: Format, T: Tables> Space<'a, F, T> {
    /// The space below `root`, a table of level `top`.
    pub fn new(format: &'a F, tables: &'a T, root: T::Table, top: Level) -> Self {
        Self { format, tables, root, top }
    }

    /// First frame number that the tables can't reach.
    pub fn frames(&self) -> u64 {
        F::GEOMETRY.reach(self.top)
    }

    /// Follows the tables towards `gfn`, which must be below [`Self::frames`].
    pub fn find(&self, gfn: Gfn) -> Found {
        let place = self.descend(gfn, Level::Page4K);
        Found { level: place.level, entry: place.entry }
    }

    /// Follows the tables towards `gfn`, no further than level `goal`.
    pub(crate) fn descend(&self, gfn: Gfn, goal: Level) -> Place<T::Table> {
        let mut place = self.place(self.root, self.top, gfn);
        while place.level > goal {
            let below = place.level.below();
            let table = self.format.as_table(place.entry, place.level);
            let (Some(below), Some(frame)) = (below, table) else { break };
            place = self.place(self.tables.at(frame, below), below, gfn);
        }
        place
    }

    /// The entry for `gfn` in `table` of `level`.
    pub(crate) fn place(&self, table: T::Table, level: Level, gfn: Gfn) -> Place<T::Table> {
        let index = F::GEOMETRY.index_of(level, gfn);
        let entry = self.tables.read(table, index);
        Place { table, index, level, gfn: F::GEOMETRY.align(level, gfn), entry }
    }

    /// What is owed for the block of `level` around `gfn`.
    pub(crate) fn owed(gfn: Gfn, level: Level) -> FlushDebt {
        FlushDebt::frames(F::GEOMETRY.align(level, gfn), F::GEOMETRY.frames(level))
    }

    /// Changes an entry that was seen at `place`.
    pub(crate) fn replace(&self, place: &Place<T::Table>, new: Entry) -> Result<(), Entry> {
        self.tables.compare_exchange(place.table, place.index, place.entry, new)
    }
}
