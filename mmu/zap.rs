// SPDX-License-Identifier: GPL-2.0
//! Removing mappings: what a notifier or the deletion of a slot does.

use crate::addr::Gfn;
use crate::cursor::Cursor;
use crate::entry::{Entry, Leaf};
use crate::flush::FlushDebt;
use crate::format::Format;
use crate::level::Level;
use crate::space::Space;
use crate::tables::{Removed, Tables};

impl<F: Format, T: Tables> Space<'_, F, T> {
    /// Removes every mapping that overlaps the frames from `first` up to `end`.
    /// A large page goes as a whole; a fault brings the rest back. MMIO marks go
    /// as well.
    pub fn zap(&self, first: Gfn, end: Gfn, removed: &mut impl Removed<T::Table>) -> FlushDebt {
        self.zap_some(first, end, Level::Table256T, usize::MAX, removed).0
    }

    /// As [`Self::zap`], but looks at no more than about `budget` entries before
    /// it stops; then the second value is the frame to go on from. A budget of
    /// more than the number of levels gets further. Only tables
    /// below an entry of level `whole` or lower are cut off as a whole.
    pub fn zap_some(
        &self,
        first: Gfn,
        end: Gfn,
        whole: Level,
        budget: usize,
        removed: &mut impl Removed<T::Table>,
    ) -> (FlushDebt, Option<Gfn>) {
        let mut debt = FlushDebt::NONE;
        let mut left = budget;
        let mut cursor = Cursor::new(self, first, end);
        while let Some(place) = cursor.next() {
            if left == 0 {
                return (debt, Some(cursor.position()));
            }
            left = left.saturating_sub(1);
            let table = self.format.as_table(place.entry, place.level);
            let is_whole = place.level <= whole && cursor.covers(&place);
            if table.is_some() && !is_whole && cursor.enter(&place) {
                continue;
            }
            let is_gone = place.entry == F::EMPTY || place.entry == F::FROZEN;
            if !is_gone {
                if self.replace(&place, F::EMPTY).is_err() {
                    // Changed under us, if only by the processor: look again.
                    continue;
                }
                let mut looks = Looks {
                    removed: &mut *removed,
                    each: F::GEOMETRY.entries(Level::Page2M),
                    entries: 0,
                };
                debt = debt.merge(self.removed(place.entry, place.level, place.gfn, &mut looks));
                left = left.saturating_sub(looks.entries);
            }
            cursor.pass(&place);
        }
        (debt, None)
    }

    /// Removes all mappings and the tables below the root.
    pub fn zap_all(&self, removed: &mut impl Removed<T::Table>) -> FlushDebt {
        self.zap(Gfn::new(0), Gfn::new(self.frames()), removed)
    }

    /// Accounts for an entry that was taken out, with all below it.
    fn removed(
        &self,
        entry: Entry,
        level: Level,
        gfn: Gfn,
        removed: &mut impl Removed<T::Table>,
    ) -> FlushDebt {
        if let Some(leaf) = self.format.as_leaf(entry, level) {
            removed.leaf(leaf, level, self.format.is_dirty(entry));
            return Self::owed(gfn, level);
        }
        if let (Some(frame), Some(below)) = (self.format.as_table(entry, level), level.below()) {
            self.freeze(self.tables.at(frame, below), below, removed);
            return Self::owed(gfn, level);
        }
        FlushDebt::NONE
    }

    /// Freezes a table that was cut off, and those below; at most four levels
    /// deep.
    fn freeze(&self, table: T::Table, level: Level, removed: &mut impl Removed<T::Table>) {
        for index in 0..F::GEOMETRY.entries(level) {
            let entry = self.tables.swap(table, index, F::FROZEN);
            if let Some(leaf) = self.format.as_leaf(entry, level) {
                removed.leaf(leaf, level, self.format.is_dirty(entry));
            } else if let (Some(frame), Some(below)) =
                (self.format.as_table(entry, level), level.below())
            {
                self.freeze(self.tables.at(frame, below), below, removed);
            }
        }
        removed.table(table);
    }
}

/// Counts the entries of tables on their way to who is told of them.
struct Looks<'a, R> {
    removed: &'a mut R,
    /// Most entries that a table has.
    each: usize,
    entries: usize,
}

impl<Table, R: Removed<Table>> Removed<Table> for Looks<'_, R> {
    fn leaf(&mut self, leaf: Leaf, level: Level, dirty: bool) {
        self.removed.leaf(leaf, level, dirty);
    }

    fn table(&mut self, table: Table) {
        self.entries = self.entries.saturating_add(self.each);
        self.removed.table(table);
    }
}
