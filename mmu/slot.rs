// SPDX-License-Identifier: GPL-2.0
//! Memory slots: which guest frames the VMM backs with its own memory.
//!
//! A set of slots is an array sorted by guest frame in which no two overlap.
//! [`plan`] decides what a request means for a set; carrying it out is the
//! caller's.

use crate::addr::{Gfn, Hva, PAGE_SHIFT, PAGE_SIZE};

/// Most slots of one address space that userspace may number on any architecture.
pub const MAX_SLOTS: u16 = 32766;

/// Most frames of a slot, so that page counts fit 31 bits.
pub const MAX_FRAMES: u64 = (1 << 31) - 1;

/// A memory slot.
///
/// # Invariants
///
/// `frames` is between 1 and [`MAX_FRAMES`]; neither the guest's nor the VMM's
/// range wraps around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The number that userspace gave it.
    pub id: u16,
    /// First guest frame.
    pub first: Gfn,
    /// Number of frames.
    pub frames: u64,
    /// Where the VMM has them.
    pub memory: Hva,
}

impl Slot {
    /// First frame behind the slot.
    #[inline]
    pub const fn end(&self) -> u64 {
        self.first.raw().saturating_add(self.frames)
    }

    /// Whether `gfn` lies in the slot.
    #[inline]
    pub const fn contains(&self, gfn: Gfn) -> bool {
        self.first.raw() <= gfn.raw() && gfn.raw() < self.end()
    }

    /// Where the VMM has a frame of the slot.
    #[inline]
    pub const fn address_of(&self, gfn: Gfn) -> Option<Hva> {
        // Below the slot this wraps around, to more than any slot has.
        let frame = gfn.raw().wrapping_sub(self.first.raw());
        if frame >= self.frames {
            return None;
        }
        Some(Hva::new(self.memory.raw().wrapping_add(frame << PAGE_SHIFT)))
    }

    const fn overlaps(&self, other: &Self) -> bool {
        self.first.raw() < other.end() && other.first.raw() < self.end()
    }
}

/// What userspace asks for (`struct kvm_userspace_memory_region2`), as far as it
/// concerns slots.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The slot's number.
    pub id: u16,
    /// First guest address, in bytes.
    pub guest_address: u64,
    /// Length in bytes; 0 deletes the slot.
    pub size: u64,
    /// The VMM's address, in bytes.
    pub memory: u64,
}

/// What a request means for a set. Indices are those of the set before the
/// change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The slot is new; it belongs at this index.
    Create(usize, Slot),
    /// The slot at this index goes.
    Delete(usize),
    /// The slot at this index gets another guest address.
    Move(usize, Slot),
    /// The slot is there already, just so.
    Nothing,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not aligned, wrapping, too large, or a change that slots don't allow.
    Invalid,
    /// Another slot has a part of the frames.
    Overlap,
}

/// Finds the slot that holds `gfn`.
pub fn find(set: &[Slot], gfn: Gfn) -> Option<&Slot> {
    let after = set.partition_point(|slot| slot.first <= gfn);
    let slot = set.get(after.checked_sub(1)?)?;
    slot.contains(gfn).then_some(slot)
}

/// Decides what `request` means for `set`, which is sorted by frame.
///
/// # Errors
///
/// [`Refused`].
pub fn plan(set: &[Slot], request: Request) -> Result<Change, Refused> {
    let old = set.iter().position(|slot| slot.id == request.id);
    if request.size == 0 {
        return old.map(Change::Delete).ok_or(Refused::Invalid);
    }
    let slot = slot_of(request)?;
    let Some(old) = old else {
        return place(set, &slot, None).map(|index| Change::Create(index, slot));
    };
    let was = set.get(old).ok_or(Refused::Invalid)?;
    if was.frames != slot.frames || was.memory != slot.memory {
        return Err(Refused::Invalid);
    }
    if was.first == slot.first {
        return Ok(Change::Nothing);
    }
    place(set, &slot, Some(old)).map(|_| Change::Move(old, slot))
}

/// Checks the numbers of a request; `None` if it is to delete the slot.
///
/// # Errors
///
/// [`Refused::Invalid`].
pub fn check(request: Request) -> Result<Option<Slot>, Refused> {
    if request.size == 0 {
        let is_aligned = (request.guest_address | request.memory) & PAGE_SIZE.wrapping_sub(1) == 0;
        return if request.id < MAX_SLOTS && is_aligned { Ok(None) } else { Err(Refused::Invalid) };
    }
    slot_of(request).map(Some)
}

/// Checks the numbers of a request.
fn slot_of(request: Request) -> Result<Slot, Refused> {
    let Request { id, guest_address, size, memory } = request;
    let is_aligned = (guest_address | size | memory) & (PAGE_SIZE.wrapping_sub(1)) == 0;
    let frames = size >> PAGE_SHIFT;
    if id >= MAX_SLOTS
        || !is_aligned
        || frames > MAX_FRAMES
        || guest_address.checked_add(size).is_none()
        || memory.checked_add(size).is_none()
    {
        return Err(Refused::Invalid);
    }
    // INVARIANT: checked above; a request for nothing was no concern of ours.
    Ok(Slot { id, first: Gfn::new(guest_address >> PAGE_SHIFT), frames, memory: Hva::new(memory) })
}

/// The index at which `slot` belongs, where nothing but `except` is in its way.
fn place(set: &[Slot], slot: &Slot, except: Option<usize>) -> Result<usize, Refused> {
    let index = set.partition_point(|other| other.first < slot.first);
    // Only neighbours can overlap, and `except` may be one of them.
    let from = index.saturating_sub(2);
    let neighbours = set.iter().enumerate().skip(from).take(4);
    for (at, other) in neighbours {
        if Some(at) != except && slot.overlaps(other) {
            return Err(Refused::Overlap);
        }
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const MEMORY: u64 = 0x7f00_0000_0000;

    fn request(id: u16, first: u64, frames: u64) -> Request {
        Request {
            id,
            guest_address: first * PAGE_SIZE,
            size: frames * PAGE_SIZE,
            memory: MEMORY + u64::from(id) * (1 << 30),
        }
    }

    /// Carries a request out, as the caller does.
    fn apply(set: &mut Vec<Slot>, request: Request) -> Result<Change, Refused> {
        let change = plan(set, request)?;
        match change {
            Change::Create(index, slot) => set.insert(index, slot),
            Change::Delete(index) => {
                set.remove(index);
            }
            Change::Move(index, slot) => {
                set.remove(index);
                let index = set.partition_point(|other| other.first < slot.first);
                set.insert(index, slot);
            }
            Change::Nothing => {}
        }
        Ok(change)
    }

    #[test]
    fn a_slot_comes_moves_and_goes() {
        let mut set = Vec::new();
        apply(&mut set, request(3, 16, 4)).unwrap();
        assert_eq!(apply(&mut set, request(3, 16, 4)), Ok(Change::Nothing));
        assert_eq!(find(&set, Gfn::new(19)).unwrap().id, 3);
        assert_eq!(find(&set, Gfn::new(20)), None);
        // Over its own old place.
        apply(&mut set, request(3, 18, 4)).unwrap();
        assert_eq!(find(&set, Gfn::new(17)), None);
        let slot = find(&set, Gfn::new(21)).unwrap();
        let address = slot.address_of(Gfn::new(21)).unwrap();
        assert_eq!(address.raw(), MEMORY + 3 * (1 << 30) + 3 * PAGE_SIZE);
        assert_eq!(apply(&mut set, request(3, 0, 0)), Ok(Change::Delete(0)));
        assert_eq!(plan(&set, request(3, 0, 0)), Err(Refused::Invalid));
    }

    #[test]
    fn what_makes_no_slot_is_refused() {
        let good = request(0, 1, 1);
        let bad = [
            Request { guest_address: 1, ..good },
            Request { size: 1, ..good },
            Request { memory: MEMORY + 1, ..good },
            Request { size: (MAX_FRAMES + 1) * PAGE_SIZE, ..good },
            Request { guest_address: 0u64.wrapping_sub(PAGE_SIZE), ..good },
            Request { memory: 0u64.wrapping_sub(PAGE_SIZE), ..good },
            Request { id: MAX_SLOTS, ..good },
        ];
        for request in bad {
            assert_eq!(plan(&[], request), Err(Refused::Invalid), "{request:?}");
        }
    }

    #[test]
    fn size_and_memory_of_a_slot_are_fixed() {
        let mut set = Vec::new();
        apply(&mut set, request(0, 16, 4)).unwrap();
        assert_eq!(plan(&set, request(0, 16, 5)), Err(Refused::Invalid));
        let elsewhere = Request { memory: MEMORY + (5 << 30), ..request(0, 16, 4) };
        assert_eq!(plan(&set, elsewhere), Err(Refused::Invalid));
    }

    proptest! {
        #[test]
        fn sets_stay_sorted_and_disjoint(
            requests in prop::collection::vec((0..6_u16, 0..64_u64, 0..12_u64), 1..60)
        ) {
            let mut set: Vec<Slot> = Vec::new();
            for (id, first, frames) in requests {
                let before = set.clone();
                let result = apply(&mut set, request(id, first, frames));
                for pair in set.windows(2) {
                    prop_assert!(pair[0].end() <= pair[1].first.raw());
                }
                // A refusal for overlap names a real one.
                if result == Err(Refused::Overlap) {
                    let clash = |slot: &Slot| {
                        slot.id != id && slot.first.raw() < first + frames && first < slot.end()
                    };
                    prop_assert!(before.iter().any(clash));
                }
                for gfn in 0..80 {
                    let expected = set.iter().find(|slot| slot.contains(Gfn::new(gfn)));
                    prop_assert_eq!(find(&set, Gfn::new(gfn)), expected);
                }
            }
        }
    }
}
