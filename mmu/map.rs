// SPDX-License-Identifier: GPL-2.0
//! Mapping a page: what a fault does.

use crate::addr::Gfn;
use crate::entry::{Access, Leaf};
use crate::flush::FlushDebt;
use crate::format::Format;
use crate::level::Level;
use crate::space::{Place, Space};
use crate::tables::{Spare, Tables};

/// How a mapping went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// The leaf is new at this level.
    New(Level),
    /// The page was mapped; it allows more now.
    Upgraded(Level),
    /// Another CPU had mapped it as wanted: the fault came too late.
    Spurious(Level),
}

impl Mapped {
    /// The level of the leaf.
    pub const fn level(self) -> Level {
        match self {
            Self::New(level) | Self::Upgraded(level) | Self::Spurious(level) => level,
        }
    }
}

/// Why nothing was mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Another CPU changed the way; look at the fault again.
    Raced,
    /// No spare table left; refill and try again.
    NoSpare,
    /// The frame lies beyond what the tables reach.
    OutOfReach,
}

/// How the number of mappings changed, by size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Of 4 KiB, 2 MiB and 1 GiB.
    pub changes: [i64; 3],
}

impl Sizes {
    /// Whether nothing changed.
    pub fn is_none(&self) -> bool {
        self.changes == [0; 3]
    }

    /// `count` more of a level, or fewer.
    pub fn add(&mut self, level: Level, count: i64) {
        let index = usize::from(level.number().saturating_sub(1));
        if let Some(change) = self.changes.get_mut(index) {
            *change = change.saturating_add(count);
        }
    }
}

impl<F: Format, T: Tables> Space<'_, F, T> {
    /// Maps the block of `level` around `gfn` to `leaf`. Where smaller mappings
    /// exist already, only the part around `gfn` is mapped, as large as fits in;
    /// where a larger one exists, it is split. Tables on the way come from
    /// `spare`; `sizes` counts.
    ///
    /// # Errors
    ///
    /// [`Failed`]; nothing but empty tables may have been added.
    pub fn map(
        &self,
        gfn: Gfn,
        level: Level,
        leaf: Leaf,
        spare: &mut impl Spare<T::Table>,
        sizes: &mut Sizes,
    ) -> Result<(Mapped, FlushDebt), Failed> {
        if gfn.raw() >= self.frames() {
            return Err(Failed::OutOfReach);
        }
        let mut debt = FlushDebt::NONE;
        loop {
            let place = self.descend(gfn, level);
            if place.entry == F::FROZEN {
                return Err(Failed::Raced);
            }
            if place.level > level {
                debt = debt.merge(self.deepen(&place, spare, sizes)?);
                continue;
            }
            if self.format.as_table(place.entry, place.level).is_some() {
                return self.map_smaller(gfn, level, leaf, spare, sizes, debt);
            }
            let (mapped, owed) = self.set_leaf(&place, leaf, sizes)?;
            return Ok((mapped, debt.merge(owed)));
        }
    }

    /// The goal is taken by a table: maps the part around `gfn` one level down.
    fn map_smaller(
        &self,
        gfn: Gfn,
        level: Level,
        leaf: Leaf,
        spare: &mut impl Spare<T::Table>,
        sizes: &mut Sizes,
        debt: FlushDebt,
    ) -> Result<(Mapped, FlushDebt), Failed> {
        // A table was seen at this level, so there is one below.
        let below = level.below().ok_or(Failed::Raced)?;
        let offset =
            F::GEOMETRY.align(below, gfn).raw().wrapping_sub(F::GEOMETRY.align(level, gfn).raw());
        let pfn = leaf.pfn.checked_add(offset).ok_or(Failed::OutOfReach)?;
        let (mapped, owed) = self.map(gfn, below, Leaf { pfn, ..leaf }, spare, sizes)?;
        Ok((mapped, debt.merge(owed)))
    }

    /// Puts a table where `place` has a leaf or nothing. A leaf is split: the
    /// table maps the same.
    fn deepen(
        &self,
        place: &Place<T::Table>,
        spare: &mut impl Spare<T::Table>,
        sizes: &mut Sizes,
    ) -> Result<FlushDebt, Failed> {
        let below = place.level.below().ok_or(Failed::Raced)?;
        let table = spare.take(below).ok_or(Failed::NoSpare)?;
        let is_split = self.format.as_leaf(place.entry, place.level).is_some();
        if is_split {
            for index in 0..F::GEOMETRY.entries(below) {
                let part = self.format.part(place.entry, place.level, index);
                self.tables.swap(table, index, part.unwrap_or(F::EMPTY));
            }
        }
        match self.replace(place, self.format.table(self.tables.frame(table), place.level)) {
            Ok(()) if is_split => {
                sizes.add(place.level, -1);
                sizes.add(below, F::GEOMETRY.entries(below) as i64);
                Ok(Self::owed(place.gfn, place.level))
            }
            Ok(()) => Ok(FlushDebt::NONE),
            Err(_) => {
                // Somebody else was quicker; the caller looks again.
                spare.put_back(table);
                Ok(FlushDebt::NONE)
            }
        }
    }

    /// Writes the leaf over whatever non-table `place` has.
    fn set_leaf(
        &self,
        place: &Place<T::Table>,
        leaf: Leaf,
        sizes: &mut Sizes,
    ) -> Result<(Mapped, FlushDebt), Failed> {
        let level = place.level;
        let Some(old) = self.format.as_leaf(place.entry, level) else {
            // Empty or MMIO: processors don't cache either.
            self.replace(place, self.format.leaf(level, leaf)).map_err(|_| Failed::Raced)?;
            sizes.add(level, 1);
            return Ok((Mapped::New(level), FlushDebt::NONE));
        };
        let same_page = old.pfn == leaf.pfn && old.memory_type == leaf.memory_type;
        if same_page && old.access.contains(leaf.access) {
            return Ok((Mapped::Spurious(level), FlushDebt::NONE));
        }
        let new = if same_page {
            Leaf {
                access: old.access | leaf.access,
                may_write: old.may_write || leaf.may_write,
                ..leaf
            }
        } else {
            leaf
        };
        self.replace(place, self.format.leaf(level, new)).map_err(|_| Failed::Raced)?;
        if same_page {
            // More rights need no flush: a processor that faults looks again.
            return Ok((Mapped::Upgraded(level), FlushDebt::NONE));
        }
        Ok((Mapped::New(level), Self::owed(place.gfn, level)))
    }

    /// Lets the guest write to a page that only the dirty log protects, if it is
    /// mapped at `largest` or below; the level, or `None` if the page is mapped
    /// larger than that or the host has a say.
    pub fn allow_write(&self, gfn: Gfn, largest: Level) -> Option<Level> {
        loop {
            let place = self.descend(gfn, Level::Page4K);
            let leaf = self.format.as_leaf(place.entry, place.level)?;
            if leaf.access.contains(Access::WRITE) {
                return Some(place.level);
            }
            if !leaf.may_write || place.level > largest {
                return None;
            }
            let writable = Leaf { access: leaf.access | Access::WRITE, ..leaf };
            if self.replace(&place, self.format.leaf(place.level, writable)).is_ok() {
                return Some(place.level);
            }
        }
    }

    /// Marks a frame without memory as MMIO, so that accesses to it exit without
    /// a look at the slots. Does nothing where the processor can't or where
    /// something is mapped meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Self::map`].
    pub fn map_mmio(
        &self,
        gfn: Gfn,
        generation: u64,
        spare: &mut impl Spare<T::Table>,
    ) -> Result<(), Failed> {
        let Some(mmio) = self.format.mmio(gfn, generation) else { return Ok(()) };
        if gfn.raw() >= self.frames() {
            return Err(Failed::OutOfReach);
        }
        loop {
            let place = self.descend(gfn, Level::Page4K);
            if place.entry == F::FROZEN || self.format.is_present(place.entry) {
                return Err(Failed::Raced);
            }
            if place.level == Level::Page4K {
                return self.replace(&place, mmio).map_err(|_| Failed::Raced);
            }
            // Above level 1 something empty: nothing to split, nothing owed.
            let _ = self.deepen(&place, spare, &mut Sizes::default())?;
        }
    }
}
