// SPDX-License-Identifier: GPL-2.0
//! Going through all entries of a range, each before the table below it.

use crate::addr::Gfn;
use crate::format::Format;
use crate::level::Level;
use crate::space::{Place, Space};
use crate::tables::Tables;

/// Position in a [`Space`], moving upwards through a range of frames.
///
/// Most steps go to the next entry of the same table, so what there is to know of its
/// level is kept.
pub(crate) struct Cursor<'s, 'a, F, T: Tables> {
    space: &'s Space<'a, F, T>,
    /// Tables on the way down, by [`Level::number`]; those at `level` and above
    /// are valid.
    path: [T::Table; 6],
    table: T::Table,
    level: Level,
    /// Of the entry that it is at, in `table`.
    index: usize,
    /// Entries of `table`, and frames that each spans.
    entries: usize,
    span: u64,
    gfn: u64,
    end: u64,
}

impl<'s, 'a, F: Format, T: Tables> Cursor<'s, 'a, F, T> {
    /// At the root, over the frames from `first` up to `end` (exclusive).
    pub(crate) fn new(space: &'s Space<'a, F, T>, first: Gfn, end: Gfn) -> Self {
        let (level, root) = (space.top, space.root);
        Self {
            space,
            path: [root; 6],
            table: root,
            level,
            index: F::GEOMETRY.index_of(level, first),
            entries: F::GEOMETRY.entries(level),
            span: F::GEOMETRY.frames(level),
            gfn: first.raw(),
            end: end.raw().min(space.frames()),
        }
    }

    /// The next entry of the range, whatever it holds.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Place<T::Table>> {
        if self.gfn >= self.end {
            return None;
        }
        let (table, index, level) = (self.table, self.index, self.level);
        let gfn = Gfn::new(self.gfn & self.span.wrapping_neg());
        Some(Place { table, index, level, gfn, entry: self.space.tables.read(table, index) })
    }

    /// The frame that it is at.
    pub(crate) fn position(&self) -> Gfn {
        Gfn::new(self.gfn)
    }

    /// Frames that the entry spans that it is at.
    #[inline]
    pub(crate) fn span(&self) -> u64 {
        self.span
    }

    /// Whether the whole block of `place` lies in the range.
    #[inline]
    pub(crate) fn covers(&self, place: &Place<T::Table>) -> bool {
        place.gfn.raw() >= self.gfn && self.end.saturating_sub(place.gfn.raw()) >= self.span
    }

    /// Goes into the table that `place`, the entry it is at, leads to, if it does.
    #[inline]
    pub(crate) fn enter(&mut self, place: &Place<T::Table>) -> bool {
        let frame = self.space.format.as_table(place.entry, place.level);
        let (Some(frame), Some(below)) = (frame, place.level.below()) else { return false };
        let Some(slot) = self.path.get_mut(usize::from(below.number())) else { return false };
        *slot = self.space.tables.at(frame, below);
        let table = *slot;
        self.go_to(table, below);
        true
    }

    /// Goes past `place`, the entry it is at, up as far as its table ends there.
    #[inline]
    pub(crate) fn pass(&mut self, place: &Place<T::Table>) {
        self.gfn = place.gfn.raw().saturating_add(self.span);
        self.index = self.index.wrapping_add(1);
        if self.index >= self.entries {
            self.ascend();
        }
    }

    /// Its table ends before `gfn`: up to one that doesn't.
    fn ascend(&mut self) {
        while self.level < self.space.top {
            let Some(above) = self.level.above() else { break };
            let Some(table) = self.path.get(usize::from(above.number())) else { break };
            self.go_to(*table, above);
            if self.index != 0 {
                break;
            }
        }
    }

    /// Is at the entry for `gfn` of a table now.
    fn go_to(&mut self, table: T::Table, level: Level) {
        (self.table, self.level) = (table, level);
        self.index = F::GEOMETRY.index_of(level, Gfn::new(self.gfn));
        self.entries = F::GEOMETRY.entries(level);
        self.span = F::GEOMETRY.frames(level);
    }
}
