// SPDX-License-Identifier: GPL-2.0
//! A slot as the VM keeps it, and the set of all of them.
//!
//! A set never changes: a change of the slots makes a new one. What is looked up
//! in one may have been deleted meanwhile; [`MemSlot::is_gone`] tells, and is
//! asked inside a map section.

use super::{
    dirty::DirtyBitmap,
    file::Part,
    section::{Own, Sections},
    sorted::{Order, Sorted},
    SPACE_SHIFT,
};
use crate::dirty_ring::DirtyRing;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::{error::Result, prelude::*, sync::Arc};
use kvm_paging::{
    addr::{Gfn, Hva, PAGE_SHIFT},
    slot::Slot,
};

/// Where writes to a slot are noted.
#[derive(Clone)]
pub(crate) enum Log {
    /// In a bitmap, unless the vCPU has a ring.
    Bitmap(Arc<DirtyBitmap>),
    /// In the ring of the vCPU that writes.
    Ring,
}

impl Log {
    fn note(&self, page: u64, slot: u16, by: Writer<'_>) {
        match (by.ring(), self) {
            (Some(ring), _) => {
                ring.push(u32::from(by.space) << SPACE_SHIFT | u32::from(slot), page)
            }
            (None, Self::Bitmap(bitmap)) => bitmap.set(page),
            // Without vCPUs nobody has harvested anything yet.
            (None, Self::Ring) => {}
        }
    }
}

/// Who writes.
#[derive(Clone, Copy)]
pub(crate) struct Writer<'a> {
    /// What the vCPUs have.
    pub(super) sections: &'a Sections,
    /// The vCPU's index.
    pub(super) vcpu: u32,
    /// The address space that is written to.
    pub(super) space: u16,
}

impl<'a> Writer<'a> {
    fn ring(self) -> Option<&'a Arc<DirtyRing>> {
        self.sections.get(self.vcpu).and_then(Own::ring)
    }
}

/// What the guest has in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The VMM's memory.
    Memory,
    /// The same, to read; writes go to userspace as those of a device.
    ReadOnly,
    /// A file's pages. The hypervisor still finds them where the VMM says.
    File,
}

/// A slot, what is in it, and its dirty log.
pub(crate) struct MemSlot {
    pub(crate) place: Slot,
    pub(crate) source: Source,
    /// What it is bound to, whether or not that is what the guest has.
    pub(super) file: Option<Part>,
    /// Writes are logged here.
    pub(crate) log: Option<Log>,
    gone: AtomicBool,
}

impl MemSlot {
    pub(crate) fn new(place: Slot, source: Source, log: Option<Log>) -> Self {
        Self { place, source, file: None, log, gone: AtomicBool::new(false) }
    }

    /// A slot that is bound to pages of a file.
    pub(super) fn with_file(place: Slot, file: Part) -> Self {
        let source = if file.is_mapped() { Source::File } else { Source::Memory };
        Self { file: Some(file), ..Self::new(place, source, None) }
    }

    /// Whether the guest's writes go to userspace.
    #[inline]
    pub(crate) fn is_read_only(&self) -> bool {
        self.source == Source::ReadOnly
    }

    /// Whether the guest has the VMM's memory, and with it what becomes of that.
    fn follows_memory(&self) -> bool {
        self.source != Source::File
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
    pub(crate) fn mark_dirty(&self, gfn: Gfn, by: Writer<'_>) {
        if let Some(log) = &self.log {
            log.note(gfn.raw().wrapping_sub(self.place.first.raw()), self.place.id, by);
        }
    }

    /// Notes a write in the bitmap, if there is one.
    pub(crate) fn set_bit(&self, gfn: Gfn) {
        if let Some(Log::Bitmap(bitmap)) = &self.log {
            bitmap.set(gfn.raw().wrapping_sub(self.place.first.raw()));
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

/// By guest frame; no two overlap.
struct ByFrame;

impl Order for ByFrame {
    #[inline]
    fn first(slot: &MemSlot) -> u64 {
        slot.place.first.raw()
    }

    #[inline]
    fn end(slot: &MemSlot) -> u64 {
        slot.place.end()
    }
}

/// By the VMM's address; the same memory may be in several slots. Those whose pages are a
/// file's aren't there.
struct ByAddress;

impl Order for ByAddress {
    fn first(slot: &MemSlot) -> u64 {
        slot.place.memory.raw()
    }

    fn end(slot: &MemSlot) -> u64 {
        slot.place.memory.raw().wrapping_add(slot.place.frames << PAGE_SHIFT)
    }
}

/// The slots of one address space.
pub(crate) struct SlotSet {
    /// Counts the changes that led to this set.
    pub(crate) generation: u64,
    by_frame: Sorted<ByFrame>,
    by_address: Sorted<ByAddress>,
}

impl SlotSet {
    pub(crate) const fn new() -> Self {
        Self { generation: 0, by_frame: Sorted::new(), by_address: Sorted::new() }
    }

    /// The slot that holds `gfn`.
    #[inline]
    pub(crate) fn find(&self, gfn: Gfn) -> Option<&Arc<MemSlot>> {
        self.by_frame.last_before(gfn.raw()).filter(|slot| slot.place.contains(gfn))
    }

    /// Whether any slot but `except` has a frame of `place`.
    pub(crate) fn overlaps(&self, place: &Slot, except: Option<u16>) -> bool {
        let mut overlaps = false;
        self.by_frame.for_each_in(place.first.raw(), place.end(), |slot| {
            overlaps |= Some(slot.place.id) != except;
        });
        overlaps
    }

    /// Calls `f` with each slot that has frames from `first` up to `end`, and those
    /// frames: first and first behind.
    pub(crate) fn for_each_in(&self, first: Gfn, end: Gfn, mut f: impl FnMut(&MemSlot, Gfn, Gfn)) {
        self.by_frame.for_each_in(first.raw(), end.raw(), |slot| {
            let from = slot.place.first.raw().max(first.raw());
            let to = slot.place.end().min(end.raw());
            f(slot, Gfn::new(from), Gfn::new(to));
        });
    }

    /// The next set: without slot `gone` and with slot `new`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn changed(
        &self,
        gone: Option<&MemSlot>,
        new: Option<&Arc<MemSlot>>,
    ) -> Result<Self> {
        Ok(Self {
            generation: self.generation.wrapping_add(1),
            by_frame: self.by_frame.changed(gone, new)?,
            by_address: self.by_address.changed(
                gone.filter(|slot| slot.follows_memory()),
                new.filter(|slot| slot.follows_memory()),
            )?,
        })
    }

    /// Calls `f` with each range of frames whose memory overlaps a range of the
    /// VMM's addresses.
    pub(crate) fn for_each_at(&self, first: u64, end: u64, mut f: impl FnMut(Gfn, Gfn)) {
        self.by_address.for_each_in(first, end, |slot| {
            if let Some((first, end)) = slot.frames_at(first, end) {
                f(first, end);
            }
        });
    }
}

/// The slots by number. For whoever changes them.
#[derive(Default)]
pub(crate) struct Numbers(KVVec<Option<Arc<MemSlot>>>);

impl Numbers {
    /// The slot with a number.
    pub(crate) fn get(&self, id: u16) -> Option<&Arc<MemSlot>> {
        self.0.get(usize::from(id))?.as_ref()
    }

    /// Makes room for a number, so that [`Self::set`] can't fail.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn reserve(&mut self, id: u16) -> Result {
        let needed = usize::from(id).saturating_add(1);
        let missing = needed.saturating_sub(self.0.len());
        // Grows by half, so that a slot more each time costs little.
        if self.0.capacity() < needed {
            let room = missing.max(self.0.len() / 2);
            self.0.reserve(room, GFP_KERNEL_ACCOUNT)?;
        }
        for _ in 0..missing {
            self.0.push(None, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(())
    }

    /// The slot with a number is `slot` now. Room was reserved.
    pub(crate) fn set(&mut self, id: u16, slot: Option<Arc<MemSlot>>) {
        if let Some(place) = self.0.get_mut(usize::from(id)) {
            *place = slot;
        }
    }
}
