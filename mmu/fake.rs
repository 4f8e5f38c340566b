// SPDX-License-Identifier: GPL-2.0
//! Tables in a vector, for tests: real atomics, and a record of every table.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Mutex;
use std::vec::Vec;

use crate::addr::Pfn;
use crate::entry::{Entry, Leaf};
use crate::format::Format;
use crate::level::Level;
use crate::map::Sizes;
use crate::tables::{Removed, Spare, Tables};

/// First frame number that stands for a table.
const BASE: u64 = 0x100;

/// A fixed number of tables.
pub(crate) struct FakeTables {
    /// Entries of the largest table.
    stride: usize,
    empty: Entry,
    frozen: Entry,
    entries: Vec<AtomicU64>,
    free: Mutex<Vec<usize>>,
    retired: AtomicUsize,
}

impl FakeTables {
    /// Room for `count` tables of a format.
    pub(crate) fn new<F: Format>(_format: &F, count: usize) -> Self {
        let stride = F::GEOMETRY.entries(Level::Page2M);
        Self {
            stride,
            empty: F::EMPTY,
            frozen: F::FROZEN,
            entries: (0..count * stride).map(|_| AtomicU64::new(0)).collect(),
            free: Mutex::new((0..count).rev().collect()),
            retired: AtomicUsize::new(0),
        }
    }

    /// Tables that were handed out and neither came back nor were retired.
    pub(crate) fn in_use(&self) -> usize {
        let all = self.entries.len() / self.stride;
        all - self.free.lock().unwrap().len() - self.retired.load(Ordering::SeqCst)
    }

    fn at(&self, table: usize, index: usize) -> &AtomicU64 {
        assert!(index < self.stride);
        &self.entries[table * self.stride + index]
    }
}

impl Tables for FakeTables {
    type Table = usize;

    fn read(&self, table: usize, index: usize) -> Entry {
        Entry(self.at(table, index).load(Ordering::Acquire))
    }

    fn compare_exchange(
        &self,
        table: usize,
        index: usize,
        old: Entry,
        new: Entry,
    ) -> Result<(), Entry> {
        self.at(table, index)
            .compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(Entry)
    }

    fn swap(&self, table: usize, index: usize, new: Entry) -> Entry {
        Entry(self.at(table, index).swap(new.0, Ordering::AcqRel))
    }

    fn frame(&self, table: usize) -> Pfn {
        Pfn::new(BASE + table as u64)
    }

    fn at(&self, frame: Pfn, _level: Level) -> usize {
        (frame.raw() - BASE) as usize
    }
}

/// Hands out fresh tables.
pub(crate) struct FakeSpare<'a>(pub(crate) &'a FakeTables);

impl Spare<usize> for FakeSpare<'_> {
    fn take(&mut self, _level: Level) -> Option<usize> {
        let table = self.0.free.lock().unwrap().pop()?;
        for index in 0..self.0.stride {
            self.0.at(table, index).store(self.0.empty.0, Ordering::Relaxed);
        }
        Some(table)
    }

    fn put_back(&mut self, table: usize) {
        self.0.free.lock().unwrap().push(table);
    }
}

/// Counts what was removed. Retired tables are never reused, so that a walker
/// that still holds one finds it frozen.
pub(crate) struct FakeRemoved<'a> {
    pub(crate) tables: &'a FakeTables,
    pub(crate) leaves: Vec<(Leaf, Level, bool)>,
}

impl<'a> FakeRemoved<'a> {
    pub(crate) fn new(tables: &'a FakeTables) -> Self {
        Self { tables, leaves: Vec::new() }
    }

    /// Takes what was removed off a count of mappings.
    pub(crate) fn count(&self, sizes: &mut Sizes) {
        self.leaves.iter().for_each(|(_, level, _)| sizes.add(*level, -1));
    }
}

impl Removed<usize> for FakeRemoved<'_> {
    fn leaf(&mut self, leaf: Leaf, level: Level, dirty: bool) {
        self.leaves.push((leaf, level, dirty));
    }

    fn table(&mut self, table: usize) {
        // Tables of the lowest level may have fewer entries than there is room for.
        let frozen = (0..self.tables.stride)
            .take_while(|index| self.tables.read(table, *index) == self.tables.frozen)
            .count();
        assert!(frozen == self.tables.stride || frozen == 256, "{frozen} entries are frozen");
        self.tables.retired.fetch_add(1, Ordering::SeqCst);
    }
}
