// SPDX-License-Identifier: GPL-2.0
//! Removing mappings: what a notifier or the deletion of a slot does.

use crate::addr::Gfn;
use crate::cursor::Cursor;
use crate::entry::Entry;
use crate::flush::FlushDebt;
use crate::format::Format;
use crate::level::{Level, ENTRIES};
use crate::space::Space;
use crate::tables::{Removed, Tables};

impl<F: Format, T: Tables> Space<'_, F, T> {
    /// Removes every mapping that overlaps the frames from `first` up to `end`.
    /// A large page goes as a whole; a fault brings the rest back. MMIO marks go
    /// as well.
    pub fn zap(&self, first: Gfn, end: Gfn, removed: &mut impl Removed<T::Table>) -> FlushDebt {
        let mut debt = FlushDebt::NONE;
        let mut cursor = Cursor::new(self, first, end);
        while let Some(place) = cursor.next() {
            let is_table = self.format.as_table(place.entry, place.level).is_some();
            if is_table && !cursor.covers(&place) && cursor.enter(&place) {
                continue;
            }
            let is_gone = place.entry == Entry::EMPTY || place.entry == Entry::FROZEN;
            if !is_gone {
                if self.replace(&place, Entry::EMPTY).is_err() {
                    // Changed under us, if only by the processor: look again.
                    continue;
                }
                debt = debt.merge(self.removed(place.entry, place.level, place.gfn, removed));
            }
            cursor.pass(&place);
        }
        debt
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
            return FlushDebt::block(gfn, level);
        }
        if let (Some(frame), Some(below)) = (self.format.as_table(entry, level), level.below()) {
            self.freeze(self.tables.at(frame), below, removed);
            return FlushDebt::block(gfn, level);
        }
        FlushDebt::NONE
    }

    /// Freezes a table that was cut off, and those below; at most four levels
    /// deep.
    fn freeze(&self, table: T::Table, level: Level, removed: &mut impl Removed<T::Table>) {
        for index in 0..ENTRIES {
            let entry = self.tables.swap(table, index, Entry::FROZEN);
            if let Some(leaf) = self.format.as_leaf(entry, level) {
                removed.leaf(leaf, level, self.format.is_dirty(entry));
            } else if let (Some(frame), Some(below)) =
                (self.format.as_table(entry, level), level.below())
            {
                self.freeze(self.tables.at(frame), below, removed);
            }
        }
        removed.table(table);
    }
}
