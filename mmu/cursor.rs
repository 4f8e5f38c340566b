// SPDX-License-Identifier: GPL-2.0
//! Going through all entries of a range, each before the table below it.

use crate::addr::Gfn;
use crate::format::Format;
use crate::level::Level;
use crate::space::{Place, Space};
use crate::tables::Tables;

/// Position in a [`Space`], moving upwards through a range of frames.
pub(crate) struct Cursor<'s, 'a, F, T: Tables> {
    space: &'s Space<'a, F, T>,
    /// Tables on the way down, by [`Level::number`]; those at `level` and above
    /// are valid.
    path: [T::Table; 6],
    level: Level,
    gfn: u64,
    end: u64,
}

impl<'s, 'a, F: Format, T: Tables> Cursor<'s, 'a, F, T> {
    /// At the root, over the frames from `first` up to `end` (exclusive).
    pub(crate) fn new(space: &'s Space<'a, F, T>, first: Gfn, end: Gfn) -> Self {
        let end = end.raw().min(space.frames());
        Self { space, path: [space.root; 6], level: space.top, gfn: first.raw(), end }
    }

    /// The next entry of the range, whatever it holds.
    pub(crate) fn next(&mut self) -> Option<Place<T::Table>> {
        if self.gfn >= self.end {
            return None;
        }
        let table = *self.path.get(usize::from(self.level.number()))?;
        Some(self.space.place(table, self.level, Gfn::new(self.gfn)))
    }

    /// The frame that it is at.
    pub(crate) fn position(&self) -> Gfn {
        Gfn::new(self.gfn)
    }

    /// Whether the whole block of `place` lies in the range.
    pub(crate) fn covers(&self, place: &Place<T::Table>) -> bool {
        place.gfn.raw() >= self.gfn
            && self.end.saturating_sub(place.gfn.raw()) >= F::GEOMETRY.frames(place.level)
    }

    /// Goes into the table that `place` leads to, if it does.
    pub(crate) fn enter(&mut self, place: &Place<T::Table>) -> bool {
        let frame = self.space.format.as_table(place.entry, place.level);
        let (Some(frame), Some(below)) = (frame, place.level.below()) else { return false };
        let Some(slot) = self.path.get_mut(usize::from(below.number())) else { return false };
        *slot = self.space.tables.at(frame, below);
        self.level = below;
        true
    }

    /// Goes past `place`, up as far as its table ends there.
    pub(crate) fn pass(&mut self, place: &Place<T::Table>) {
        self.gfn = place.gfn.raw().saturating_add(F::GEOMETRY.frames(place.level));
        self.level = place.level;
        let gfn = Gfn::new(self.gfn);
        while self.level < self.space.top && F::GEOMETRY.index_of(self.level, gfn) == 0 {
            let Some(above) = self.level.above() else { break };
            self.level = above;
        }
    }
}
