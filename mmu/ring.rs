// SPDX-License-Identifier: GPL-2.0
//! Dirty rings: how large one may be, and which harvested entries are reset together.

use crate::addr::PAGE_SIZE;

/// Bytes of an entry (`struct kvm_dirty_gfn`).
pub const ENTRY_BYTES: u32 = 16;

/// Most entries of a ring.
pub const MAX_ENTRIES: u32 = 65536;

/// Most bytes of a ring; what the capability says.
pub const MAX_BYTES: u32 = MAX_ENTRIES.saturating_mul(ENTRY_BYTES);

/// Entries that stay free when a vCPU has to leave its guest: what one turn of its loop
/// may still add.
const RESERVED: u32 = 64;

/// Why a size is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No power of two, or too small.
    Invalid,
    /// Too large.
    TooLarge,
}

/// The size of a ring.
///
/// # Invariants
///
/// A power of two of entries, at least a page of them, at most [`MAX_ENTRIES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize(u32);

impl RingSize {
    /// The size of a ring of so many bytes.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub const fn of_bytes(bytes: u32) -> Result<Self, Refused> {
        let least = RESERVED.saturating_mul(ENTRY_BYTES);
        if !bytes.is_power_of_two() || bytes < least || (bytes as u64) < PAGE_SIZE {
            return Err(Refused::Invalid);
        }
        if bytes > MAX_BYTES {
            return Err(Refused::TooLarge);
        }
        // INVARIANT: checked above.
        Ok(Self(bytes / ENTRY_BYTES))
    }

    /// Pages that it takes.
    pub const fn pages(self) -> usize {
        (self.0.saturating_mul(ENTRY_BYTES) as u64 / PAGE_SIZE) as usize
    }

    /// Page of an entry, and its offset in bytes there. `count` counts entries, those of
    /// earlier rounds as well.
    #[inline]
    pub const fn place(self, count: u32) -> (usize, usize) {
        let bytes = (count & self.0.wrapping_sub(1)).wrapping_mul(ENTRY_BYTES) as u64;
        ((bytes / PAGE_SIZE) as usize, (bytes % PAGE_SIZE) as usize)
    }

    /// Whether nothing can be added when so many entries are in use.
    #[inline]
    pub const fn is_full(self, used: u32) -> bool {
        used >= self.0
    }

    /// Whether so many entries in use are a reason to leave the guest.
    #[inline]
    pub const fn is_nearly_full(self, used: u32) -> bool {
        used >= self.0.saturating_sub(RESERVED)
    }
}

/// Pages of one slot that are reset together, all within the reach of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The slot as userspace numbers it, with its address space.
    pub slot: u32,
    /// The page, from the begin of the slot, that the lowest bit stands for.
    pub first: u64,
    /// The pages.
    pub pages: u64,
}

impl Batch {
    /// One page.
    pub const fn new(slot: u32, page: u64) -> Self {
        Self { slot, first: page, pages: 1 }
    }

    /// Adds a page, if it fits; whether it does.
    pub fn add(&mut self, slot: u32, page: u64) -> bool {
        if slot != self.slot {
            return false;
        }
        if let Some(ahead) = page.checked_sub(self.first) {
            let Some(bit) = bit(ahead) else { return false };
            self.pages |= bit;
            return true;
        }
        let behind = self.first.wrapping_sub(page);
        // What there is has to be in reach still.
        if behind > u64::from(self.pages.leading_zeros()) {
            return false;
        }
        let Some(moved) = self.pages.checked_shl(behind as u32) else { return false };
        self.pages = moved | 1;
        self.first = page;
        true
    }

    /// Whether all of it lies in a slot of so many pages.
    pub fn is_within(&self, frames: u64) -> bool {
        let last = u64::from(63_u32.saturating_sub(self.pages.leading_zeros()));
        self.first.checked_add(last).is_some_and(|last| last < frames)
    }
}

/// The bit of a page that is so many behind the first.
fn bit(ahead: u64) -> Option<u64> {
    u32::try_from(ahead).ok().and_then(|ahead| 1_u64.checked_shl(ahead))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    #[test]
    fn sizes_are_powers_of_two_from_a_page_on() {
        for bytes in [0, 1024, 2048, 4096 + 16, 12288, u32::MAX] {
            assert_eq!(RingSize::of_bytes(bytes), Err(Refused::Invalid), "{bytes}");
        }
        assert_eq!(RingSize::of_bytes(MAX_BYTES * 2), Err(Refused::TooLarge));
        let least = RingSize::of_bytes(4096).unwrap();
        assert_eq!((least.pages(), least.place(255)), (1, (0, 4080)));
        assert_eq!(least.place(256), (0, 0));
        let most = RingSize::of_bytes(MAX_BYTES).unwrap();
        assert_eq!((most.pages(), most.place(u32::MAX)), (256, (255, 4080)));
    }

    #[test]
    fn room_is_left_for_a_turn() {
        let size = RingSize::of_bytes(4096).unwrap();
        assert!(!size.is_nearly_full(191) && size.is_nearly_full(192));
        assert!(!size.is_full(255) && size.is_full(256));
    }

    /// The pages of a batch.
    fn pages(batch: &Batch) -> impl Iterator<Item = (u32, u64)> + use<> {
        let Batch { slot, first, pages } = *batch;
        (0..64).filter(move |bit| pages >> bit & 1 != 0).map(move |bit| (slot, first + bit))
    }

    proptest! {
        #[test]
        fn batches_hold_what_was_added_and_no_more(
            entries in prop::collection::vec((0..2_u32, 0..200_u64), 1..300)
        ) {
            let mut batches: Vec<Batch> = Vec::new();
            for (slot, page) in &entries {
                if !batches.last_mut().is_some_and(|batch| batch.add(*slot, *page)) {
                    batches.push(Batch::new(*slot, *page));
                }
            }
            let held: BTreeSet<(u32, u64)> = batches.iter().flat_map(pages).collect();
            prop_assert_eq!(held, entries.into_iter().collect());
            for batch in &batches {
                let last = pages(batch).map(|(_, page)| page).max().unwrap();
                prop_assert!(batch.is_within(last + 1) && !batch.is_within(last));
            }
        }
    }

    #[test]
    fn a_scan_in_either_direction_is_one_batch() {
        for pages in [(0..64).collect::<Vec<u64>>(), (0..64).rev().collect()] {
            let mut batch = Batch::new(7, pages[0]);
            assert!(pages.iter().all(|page| batch.add(7, *page)));
            assert_eq!(batch, Batch { slot: 7, first: 0, pages: u64::MAX });
            assert!(!batch.add(7, 64) && !batch.add(8, 0));
        }
    }

    #[test]
    fn nonsense_of_userspace_is_within_nothing() {
        let mut batch = Batch::new(0, u64::MAX);
        assert!(!batch.is_within(1 << 31));
        assert!(batch.add(0, u64::MAX - 63) && !batch.add(0, 0));
        assert!(!batch.is_within(u64::MAX));
    }
}
