// SPDX-License-Identifier: GPL-2.0
//! Access and dirty tracking over ranges: aging, write protection, collecting
//! dirty bits.

use crate::addr::Gfn;
use crate::cursor::Cursor;
use crate::entry::{Access, Entry};
use crate::flush::FlushDebt;
use crate::format::Format;
use crate::level::Level;
use crate::space::{Place, Space};
use crate::tables::Tables;

impl<F: Format, T: Tables> Space<'_, F, T> {
    /// Whether the guest used any page from `first` up to `end`.
    pub fn is_young(&self, first: Gfn, end: Gfn) -> bool {
        let mut young = false;
        let _ = self.change_leaves(first, end, |place| {
            young |= self.format.is_accessed(place.entry);
            None
        });
        young
    }

    /// Whether the guest used any page from `first` up to `end`; clears the
    /// accessed bits. TLBs may go on using a page unnoticed until they forget it,
    /// which makes it look older than it is, no more; so nothing is owed. `None`
    /// where the processor keeps no accessed bits: zap the range instead.
    pub fn age(&self, first: Gfn, end: Gfn) -> Option<bool> {
        let mut young = false;
        let mut known = true;
        // Old translations may stay.
        let _ = self.change_leaves(first, end, |place| {
            if !self.format.is_accessed(place.entry) {
                return None;
            }
            young = true;
            let cleared = self.format.clear_accessed(place.entry);
            known &= cleared.is_some();
            cleared
        });
        known.then_some(young)
    }

    /// Takes write permission from every page from `first` up to `end`. Until the
    /// debt is paid, the guest may still write.
    pub fn write_protect(&self, first: Gfn, end: Gfn) -> FlushDebt {
        self.change_leaves(first, end, |place| {
            let is_writable = self.format.access(place.entry).contains(Access::WRITE);
            is_writable.then(|| self.format.write_protect(place.entry))
        })
    }

    /// Clears the dirty bits of pages from `first` up to `end`, so that the processor
    /// notes the next write to each. Larger ones than of 4 KiB lose write permission:
    /// which part of them was written to isn't noted. Until the debt is paid, the guest
    /// may still write unnoticed. Only where the processor keeps dirty bits.
    pub fn clean(&self, first: Gfn, end: Gfn) -> FlushDebt {
        self.change_leaves(first, end, |place| {
            let is_writable = self.format.access(place.entry).contains(Access::WRITE);
            let is_small = place.level == Level::Page4K;
            if !is_writable || is_small && !self.format.is_dirty(place.entry) {
                return None;
            }
            let clean = self.format.clear_dirty(place.entry).filter(|_| is_small);
            Some(clean.unwrap_or_else(|| self.format.write_protect(place.entry)))
        })
    }

    /// Clears the dirty bits of every page from `first` up to `end` and calls
    /// `dirty` with the first frame and the number of frames of each one that had
    /// it set. Where the processor keeps no dirty bits, write permission is taken
    /// instead. Writes made before the debt is paid may be missed.
    pub fn collect_dirty(
        &self,
        first: Gfn,
        end: Gfn,
        mut dirty: impl FnMut(Gfn, u64),
    ) -> FlushDebt {
        self.change_leaves(first, end, |place| {
            if !self.format.is_dirty(place.entry) {
                return None;
            }
            dirty(place.gfn, F::GEOMETRY.frames(place.level));
            let clean = self.format.clear_dirty(place.entry);
            Some(clean.unwrap_or_else(|| self.format.write_protect(place.entry)))
        })
    }

    /// Calls `change` with each leaf that overlaps the range, and writes what it
    /// returns; the debt is for all these. A change that loses a race is made again on
    /// the new entry, so `change` may be called more than once for a place; what it
    /// notes, and what is owed, is then noted more often, never less.
    fn change_leaves(
        &self,
        first: Gfn,
        end: Gfn,
        mut change: impl FnMut(&Place<T::Table>) -> Option<Entry>,
    ) -> FlushDebt {
        let mut debt = FlushDebt::NONE;
        let mut cursor = Cursor::new(self, first, end);
        while let Some(place) = cursor.next() {
            if cursor.enter(&place) {
                continue;
            }
            if self.format.as_leaf(place.entry, place.level).is_some() {
                if let Some(new) = change(&place) {
                    debt = debt.merge(FlushDebt::frames(place.gfn, cursor.span()));
                    if self.replace(&place, new).is_err() {
                        continue;
                    }
                }
            }
            cursor.pass(&place);
        }
        debt
    }
}
