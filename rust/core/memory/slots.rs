// SPDX-License-Identifier: GPL-2.0
//! A slot as the VM keeps it, and the set of all of them.
//!
//! A set never changes: a change of the slots makes a new one. What is looked up
//! in one may have been deleted meanwhile; [`MemSlot::is_gone`] tells, and is
//! asked inside a map section.

use super::dirty::DirtyBitmap;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::{error::Result, prelude::*, sync::Arc};
use kvm_paging::{
    addr::{Gfn, Hva, PAGE_SHIFT},
    slot::Slot,
};

/// A slot, its rights and its dirty log.
pub(crate) struct MemSlot {
    pub(crate) place: Slot,
    pub(crate) read_only: bool,
    /// Writes are logged here.
    pub(crate) dirty: Option<Arc<DirtyBitmap>>,
    gone: AtomicBool,
}

impl MemSlot {
    pub(crate) fn new(place: Slot, read_only: bool, dirty: Option<Arc<DirtyBitmap>>) -> Self {
        Self { place, read_only, dirty, gone: AtomicBool::new(false) }
    }

    /// Whether it was deleted or replaced. A map section that begins after
    /// [`Self::set_gone`] and the barrier that follows it sees that.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Notes a write to a frame of the slot. After the write became possible, so
    /// that a harvest that takes the bit away takes the permission as well.
    #[inline]
    pub(crate) fn mark_dirty(&self, gfn: Gfn) {
        if let Some(dirty) = &self.dirty {
            dirty.set(gfn.raw().wrapping_sub(self.place.first.raw()));
        }
    }

    /// The frames whose memory overlaps a range of the VMM's addresses: first and
    /// first behind.
    fn frames_at(&self, first: u64, end: u64) -> Option<(Gfn, Gfn)> {
        let memory = self.place.memory.raw();
        let size = self.place.frames << PAGE_SHIFT;
        let from = first.max(memory).wrapping_sub(memory);
        let to = end.min(memory.wrapping_add(size)).checked_sub(memory)?;
        if from >= to {
            return None;
        }
        let last = to.wrapping_sub(1) >> PAGE_SHIFT;
        let base = self.place.first.raw();
        let end = base.wrapping_add(last).wrapping_add(1);
        Some((Gfn::new(base.wrapping_add(from >> PAGE_SHIFT)), Gfn::new(end)))
    }

    /// Where the VMM has a frame of the slot.
    #[inline]
    pub(crate) fn address_of(&self, gfn: Gfn) -> Option<Hva> {
        self.place.address_of(gfn)
    }
}

/// The slots of one address space.
pub(crate) struct SlotSet {
    /// Counts the changes that led to this set.
    pub(crate) generation: u64,
    /// By first frame.
    by_frame: KVVec<Arc<MemSlot>>,
}

impl SlotSet {
    pub(crate) const fn new() -> Self {
        Self { generation: 0, by_frame: KVVec::new() }
    }

    /// The slot that holds `gfn`.
    pub(crate) fn find(&self, gfn: Gfn) -> Option<&Arc<MemSlot>> {
        let after = self.by_frame.partition_point(|slot| slot.place.first <= gfn);
        let slot = self.by_frame.get(after.checked_sub(1)?)?;
        slot.place.contains(gfn).then_some(slot)
    }

    /// The slot with a number.
    pub(crate) fn by_id(&self, id: u16) -> Option<&Arc<MemSlot>> {
        self.by_frame.iter().find(|slot| slot.place.id == id)
    }

    /// Whether any slot but `except` has a frame of `place`.
    pub(crate) fn overlaps(&self, place: &Slot, except: Option<u16>) -> bool {
        let from = self.by_frame.partition_point(|slot| slot.place.end() <= place.first.raw());
        self.by_frame
            .iter()
            .skip(from)
            .take_while(|slot| slot.place.first.raw() < place.end())
            .any(|slot| Some(slot.place.id) != except)
    }

    /// The next set: without slot `gone` and with slot `new`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn changed(&self, gone: Option<u16>, new: Option<&Arc<MemSlot>>) -> Result<Self> {
        let room = self.by_frame.len().saturating_add(1);
        let mut by_frame = KVVec::with_capacity(room, GFP_KERNEL_ACCOUNT)?;
        let mut coming = new;
        for slot in self.by_frame.iter().filter(|slot| Some(slot.place.id) != gone) {
            if let Some(new) = coming.take_if(|new| new.place.first < slot.place.first) {
                by_frame.push(new.clone(), GFP_KERNEL_ACCOUNT)?;
            }
            by_frame.push(slot.clone(), GFP_KERNEL_ACCOUNT)?;
        }
        if let Some(new) = coming {
            by_frame.push(new.clone(), GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Self { generation: self.generation.wrapping_add(1), by_frame })
    }

    /// Calls `f` with each range of frames whose memory overlaps a range of the
    /// VMM's addresses.
    pub(crate) fn for_each_at(&self, first: u64, end: u64, mut f: impl FnMut(Gfn, Gfn)) {
        for slot in &self.by_frame {
            if let Some((first, end)) = slot.frames_at(first, end) {
                f(first, end);
            }
        }
    }
}
