// SPDX-License-Identifier: GPL-2.0
//! Slots in an order, as a value that shares most of its memory with the one it
//! was made from.
//!
//! A list of chunks, each a sorted array. A change copies the list and one chunk:
//! with 32764 slots that is a few thousand words, where a copy of everything is a
//! hundred thousand. A few slots, the usual case, are one chunk, and looking one
//! up is a binary search in one small array.

use super::slots::MemSlot;
use core::marker::PhantomData;
use kernel::{error::Result, prelude::*, sync::Arc};

/// Most slots of a chunk.
const MOST: usize = 64;

/// Where a slot belongs, with its number to tell equals apart.
pub(super) type Key = (u64, u16);

/// An order of slots by a range of numbers that each has.
pub(super) trait Order {
    /// First number of the slot.
    fn first(slot: &MemSlot) -> u64;
    /// First number behind it.
    fn end(slot: &MemSlot) -> u64;

    /// Where it belongs.
    fn key(slot: &MemSlot) -> Key {
        (Self::first(slot), slot.place.id)
    }
}

/// A sorted array of slots.
///
/// # Invariants
///
/// `keys` are those of `slots`, ascending; neither is empty.
struct Chunk {
    keys: KVec<Key>,
    slots: KVec<Arc<MemSlot>>,
}

/// A chunk, and what a search needs to know of it.
#[derive(Clone)]
struct Link {
    /// The key of its first slot.
    first: Key,
    /// The highest end of its slots.
    end: u64,
    chunk: Arc<Chunk>,
}

impl Link {
    /// A chunk of these slots, which are in order and not none.
    fn new<O: Order>(slots: KVec<Arc<MemSlot>>) -> Result<Self> {
        let mut keys = KVec::with_capacity(slots.len(), GFP_KERNEL_ACCOUNT)?;
        let mut end = 0;
        for slot in &slots {
            keys.push(O::key(slot), GFP_KERNEL_ACCOUNT)?;
            end = end.max(O::end(slot));
        }
        let first = *keys.first().ok_or(EINVAL)?;
        // INVARIANT: as the caller says.
        let chunk = Arc::new(Chunk { keys, slots }, GFP_KERNEL_ACCOUNT)?;
        Ok(Self { first, end, chunk })
    }
}

/// Slots in order `O`.
pub(super) struct Sorted<O> {
    links: KVec<Link>,
    _order: PhantomData<fn() -> O>,
}

impl<O: Order> Sorted<O> {
    /// No slots.
    pub(super) const fn new() -> Self {
        Self { links: KVec::new(), _order: PhantomData }
    }

    /// The last slot that begins at `at` or before.
    #[inline]
    pub(super) fn last_before(&self, at: u64) -> Option<&Arc<MemSlot>> {
        let key = (at, u16::MAX);
        let link = match self.links.as_slice() {
            [only] => only,
            links => links.get(links.partition_point(|link| link.first <= key).checked_sub(1)?)?,
        };
        let keys = &link.chunk.keys;
        let index = keys.partition_point(|other| *other <= key).checked_sub(1)?;
        link.chunk.slots.get(index)
    }

    /// Calls `f` with each slot that has a number from `first` up to `end`.
    pub(super) fn for_each_in(&self, first: u64, end: u64, mut f: impl FnMut(&Arc<MemSlot>)) {
        for link in &self.links {
            if link.first.0 >= end {
                break;
            }
            if link.end <= first {
                continue;
            }
            for slot in &link.chunk.slots {
                if O::first(slot) < end && first < O::end(slot) {
                    f(slot);
                }
            }
        }
    }

    /// The same slots without `gone` and with `new`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn changed(
        &self,
        gone: Option<&MemSlot>,
        new: Option<&Arc<MemSlot>>,
    ) -> Result<Self> {
        let room = self.links.len().saturating_add(1);
        let mut links = KVec::with_capacity(room, GFP_KERNEL_ACCOUNT)?;
        for link in &self.links {
            links.push(link.clone(), GFP_KERNEL_ACCOUNT)?;
        }
        let mut changed = Self { links, _order: PhantomData };
        if let Some(gone) = gone {
            changed.remove(O::key(gone))?;
        }
        if let Some(new) = new {
            changed.insert(new)?;
        }
        Ok(changed)
    }

    /// Index of the chunk that has `key`, or would get it.
    fn chunk_of(&self, key: Key) -> usize {
        self.links.partition_point(|link| link.first <= key).saturating_sub(1)
    }

    fn remove(&mut self, key: Key) -> Result {
        let index = self.chunk_of(key);
        let Some(link) = self.links.get_mut(index) else { return Ok(()) };
        let mut rest = KVec::with_capacity(MOST, GFP_KERNEL_ACCOUNT)?;
        for slot in link.chunk.slots.iter().filter(|slot| O::key(slot) != key) {
            rest.push(slot.clone(), GFP_KERNEL_ACCOUNT)?;
        }
        if rest.is_empty() {
            self.links.remove(index).map_err(|_| EINVAL)?;
        } else {
            *link = Link::new::<O>(rest)?;
        }
        Ok(())
    }

    fn insert(&mut self, new: &Arc<MemSlot>) -> Result {
        let key = O::key(new);
        let index = self.chunk_of(key);
        let Some(link) = self.links.get_mut(index) else {
            let mut only = KVec::with_capacity(1, GFP_KERNEL_ACCOUNT)?;
            only.push(new.clone(), GFP_KERNEL_ACCOUNT)?;
            return self.add(0, Link::new::<O>(only)?);
        };
        let at = link.chunk.keys.partition_point(|other| *other < key);
        // The lower part stays; the upper one becomes a chunk of its own if both
        // together are too many.
        let is_full = link.chunk.slots.len() >= MOST;
        // Slots often come in order: leave full chunks behind.
        let middle = if is_full && at < MOST { MOST / 2 } else { MOST };
        let mut lower = KVec::with_capacity(MOST, GFP_KERNEL_ACCOUNT)?;
        let mut upper = KVec::new();
        let before = link.chunk.slots.iter().take(at);
        let after = link.chunk.slots.iter().skip(at);
        let with_new = Iterator::chain(before, core::iter::once(new));
        for slot in Iterator::chain(with_new, after) {
            let part = if lower.len() < middle { &mut lower } else { &mut upper };
            part.push(slot.clone(), GFP_KERNEL_ACCOUNT)?;
        }
        *link = Link::new::<O>(lower)?;
        if !upper.is_empty() {
            self.add(index.saturating_add(1), Link::new::<O>(upper)?)?;
        }
        Ok(())
    }

    fn add(&mut self, index: usize, link: Link) -> Result {
        self.links.reserve(1, GFP_KERNEL_ACCOUNT)?;
        self.links.insert_within_capacity(index, link).map_err(|_| EINVAL)
    }
}
