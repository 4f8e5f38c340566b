// SPDX-License-Identifier: GPL-2.0
//! Which device of a bus an access is for.
//!
//! A device takes accesses that lie within its range. Ranges may overlap: then
//! the one that begins last is asked first, among equal ones the oldest, and the
//! next one if that doesn't want the access.

/// A range of addresses with what is there.
#[derive(Clone, Copy, Debug)]
pub struct Ranged<D> {
    start: u64,
    length: u64,
    /// No address that this entry, or one before it in the table, covers is higher.
    reach: u64,
    /// Who is there.
    pub device: D,
}

impl<D> Ranged<D> {
    /// `length` addresses from `start` on.
    pub const fn new(start: u64, length: u64, device: D) -> Self {
        Self { start, length, reach: u64::MAX, device }
    }

    /// Whether `length` addresses from `address` on lie within, and don't wrap.
    #[inline]
    pub fn covers(&self, address: u64, length: u64) -> bool {
        let before = address.checked_sub(self.start);
        let left = before.and_then(|before| self.length.checked_sub(before));
        left.is_some_and(|left| length <= left)
            && (length == 0 || address.checked_add(length.saturating_sub(1)).is_some())
    }
}

/// Where an entry belongs in a table.
pub fn position<D>(table: &[Ranged<D>], new: &Ranged<D>) -> usize {
    // Before its equals: the search goes from the end, and the oldest is first.
    table.partition_point(|entry| entry.start < new.start)
}

/// Makes a table that was changed searchable again.
pub fn settle<D>(table: &mut [Ranged<D>]) {
    let mut reach = 0;
    for entry in table {
        reach = entry.start.saturating_add(entry.length).max(reach);
        entry.reach = reach;
    }
}

/// The devices that an access of `length` bytes concerns, in the order in which
/// they are asked.
#[inline]
pub fn find<D>(table: &[Ranged<D>], address: u64, length: u64) -> impl Iterator<Item = &D> {
    let until = table.partition_point(|entry| entry.start <= address);
    table
        .get(..until)
        .unwrap_or_default()
        .iter()
        .rev()
        .take_while(move |entry| entry.reach >= address)
        .filter(move |entry| entry.covers(address, length))
        .map(|entry| &entry.device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn table(ranges: &[(u64, u64)]) -> Vec<Ranged<usize>> {
        let mut table = Vec::new();
        for (index, (start, length)) in ranges.iter().enumerate() {
            let new = Ranged::new(*start, *length, index);
            table.insert(position(&table, &new), new);
        }
        settle(&mut table);
        table
    }

    fn all(table: &[Ranged<usize>], address: u64, length: u64) -> Vec<usize> {
        find(table, address, length).copied().collect()
    }

    #[test]
    fn only_within() {
        let table = table(&[(0x20, 2), (0xa0, 2), (0x40, 4)]);
        assert_eq!(all(&table, 0x20, 1), [0]);
        assert_eq!(all(&table, 0x20, 2), [0]);
        assert_eq!(all(&table, 0x21, 2), []);
        assert_eq!(all(&table, 0x43, 1), [2]);
        assert_eq!(all(&table, 0x44, 1), []);
        assert_eq!(all(&table, 0x1f, 1), []);
    }

    #[test]
    fn inner_before_outer_and_older_before_newer() {
        let table = table(&[(0, 0x1000), (0x10, 8), (0x10, 8), (0x10, 4)]);
        assert_eq!(all(&table, 0x10, 4), [1, 2, 3, 0]);
        assert_eq!(all(&table, 0x10, 8), [1, 2, 0]);
        assert_eq!(all(&table, 0x800, 8), [0]);
    }

    #[test]
    fn the_ends_of_the_address_space() {
        let table = table(&[(u64::MAX - 1, 100), (0, 0), (0, 1)]);
        assert_eq!(all(&table, u64::MAX, 1), [0]);
        assert_eq!(all(&table, u64::MAX, 2), []);
        assert_eq!(all(&table, 0, 1), [2]);
        assert_eq!(all(&table, 1, 1), []);
    }

    #[test]
    fn covering() {
        let range = Ranged::new(0x10, 0x10, ());
        assert!(range.covers(0x10, 0x10) && range.covers(0x18, 8) && range.covers(0x10, 0));
        assert!(!range.covers(0x10, 0x11) && !range.covers(0xf, 2) && !range.covers(u64::MAX, 2));
        assert!(range.covers(0x20, 0) && !range.covers(0x21, 0));
    }

    proptest! {
        #[test]
        fn agrees_with_asking_each(
            ranges in prop::collection::vec((0u64..40, 0u64..12), 0..30),
            address in 0u64..50,
            length in 1u64..9,
        ) {
            let table = table(&ranges);
            let mut found = all(&table, address, length);
            found.sort_unstable();
            let expected: Vec<_> = ranges.iter().enumerate()
                .filter(|(_, (start, size))| *start <= address && address + length <= start + size)
                .map(|(index, _)| index)
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
