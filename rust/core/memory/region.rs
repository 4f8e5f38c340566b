// SPDX-License-Identifier: GPL-2.0
//! Slots come, move and go (`KVM_SET_USER_MEMORY_REGION` and its successor).

use super::{
    dirty::DirtyBitmap,
    file,
    slots::{Log, MemSlot, Source},
    Memory, Settings,
};
use crate::{arch::Arch, mmu::SecondLevel};
use core::sync::atomic::Ordering;
use kernel::{error::Result, prelude::*, sync::Arc};
use kvm_paging::{
    addr::{Gfn, PAGE_SIZE},
    slot::{self, Refused, Slot},
};
use kvm_sys::{process, user};
use kvm_uapi::memory::{MemFlags, UserspaceMemoryRegion, UserspaceMemoryRegion2};

/// What a slot may have that isn't bound to a file.
const ALLOWED: MemFlags = if cfg!(CONFIG_X86_64) {
    MemFlags::LOG_DIRTY_PAGES.union(MemFlags::READONLY)
} else {
    MemFlags::LOG_DIRTY_PAGES
};

/// The pages of a file that a slot is to be bound to.
#[derive(Clone, Copy)]
struct Wanted {
    descriptor: u32,
    /// In bytes.
    offset: u64,
}

impl<A: Arch> Memory<A> {
    /// `KVM_SET_USER_MEMORY_REGION` with the structure at `arg`.
    ///
    /// # Errors
    ///
    /// `EFAULT` if it can't be read; `EINVAL` for flags, numbers or changes that
    /// aren't allowed; `EEXIST` if another slot is in the way; `ENOMEM`.
    pub(super) fn set_region(&self, arg: usize) -> Result<u32> {
        let region: UserspaceMemoryRegion = user::read(arg)?;
        self.change(&region, None)
    }

    /// `KVM_SET_USER_MEMORY_REGION2` with the structure at `arg`.
    ///
    /// # Errors
    ///
    /// As [`Self::set_region`]; `EBADF` for a file that isn't open; `EEXIST` also if its
    /// pages are another slot's.
    pub(super) fn set_region2(&self, arg: usize) -> Result<u32> {
        let region: UserspaceMemoryRegion2 = user::read(arg)?;
        let mut flags = MemFlags::from_bits(region.flags).ok_or(EINVAL)?;
        let mut wanted = None;
        if file::EXIST && flags.contains(MemFlags::GUEST_MEMFD) {
            let offset = region.guest_memfd_offset;
            let has_end = offset.checked_add(region.memory_size).is_some();
            // Writes are neither logged nor kept from such a slot.
            if flags != MemFlags::GUEST_MEMFD || offset % PAGE_SIZE != 0 || !has_end {
                return Err(EINVAL);
            }
            flags = MemFlags::empty();
            wanted = Some(Wanted { descriptor: region.guest_memfd, offset });
        }
        let region = UserspaceMemoryRegion {
            slot: region.slot,
            flags: flags.bits(),
            guest_phys_addr: region.guest_phys_addr,
            memory_size: region.memory_size,
            userspace_addr: region.userspace_addr,
        };
        self.change(&region, wanted)
    }

    fn change(&self, region: &UserspaceMemoryRegion, wanted: Option<Wanted>) -> Result<u32> {
        let id = self.slot_id(region.slot)?;
        let flags = MemFlags::from_bits(region.flags).ok_or(EINVAL)?;
        if !ALLOWED.contains(flags)
            || !process::may_access(region.userspace_addr, region.memory_size)
        {
            return Err(EINVAL);
        }
        let request = slot::Request {
            id,
            guest_address: region.guest_phys_addr,
            size: region.memory_size,
            memory: region.userspace_addr,
        };
        let place = slot::check(request).map_err(errno)?;
        let mut settings = self.changing.lock();
        let old = settings.numbers.get(id).cloned();
        match (place, old) {
            (None, None) => Err(EINVAL),
            (None, Some(old)) => self.delete(&mut settings, &old),
            (Some(place), None) => {
                self.check_place(&place, None)?;
                let slot = match wanted {
                    Some(Wanted { descriptor, offset }) => {
                        MemSlot::with_file(place, self.part(&place, descriptor, offset)?)
                    }
                    None => self.new_slot(&settings, place, flags)?,
                };
                self.add(&mut settings, slot)
            }
            // What is bound stays so until it is deleted.
            (Some(_), Some(old)) if wanted.is_some() || old.file.is_some() => Err(EINVAL),
            (Some(place), Some(old)) => self.alter(&mut settings, &old, place, flags),
        }
    }

    fn new_slot(&self, settings: &Settings, place: Slot, flags: MemFlags) -> Result<MemSlot> {
        let log = new_log(settings, &place, flags, None)?;
        if log.is_some() {
            // What was noted of a slot that was here isn't about this one.
            self.take_notes();
        }
        Ok(MemSlot::new(place, source(flags), log))
    }

    fn add(&self, settings: &mut Settings, slot: MemSlot) -> Result<u32> {
        let place = slot.place;
        let slot = Arc::new(slot, GFP_KERNEL_ACCOUNT)?;
        settings.numbers.reserve(place.id)?;
        if let Some(file) = &slot.file {
            file.bind()?;
        }
        let published = self.publish(None, Some(&slot));
        if let (Err(_), Some(file)) = (&published, &slot.file) {
            file.unbind();
        }
        published?;
        self.forget_marks(&place);
        settings.numbers.set(place.id, Some(slot));
        Ok(0)
    }

    fn delete(&self, settings: &mut Settings, old: &MemSlot) -> Result<u32> {
        self.publish(Some(old), None)?;
        settings.numbers.set(old.place.id, None);
        self.zap(old.place.first, Gfn::new(old.place.end()), true);
        if let Some(file) = &old.file {
            file.unbind();
        }
        Ok(0)
    }

    /// A slot that is there gets another place or other flags.
    fn alter(
        &self,
        settings: &mut Settings,
        old: &MemSlot,
        place: Slot,
        flags: MemFlags,
    ) -> Result<u32> {
        let was = &old.place;
        let source = source(flags);
        if was.frames != place.frames || was.memory != place.memory || old.source != source {
            return Err(EINVAL);
        }
        let moves = was.first != place.first;
        if moves {
            self.check_place(&place, Some(place.id))?;
        } else if old.log.is_some() == flags.contains(MemFlags::LOG_DIRTY_PAGES) {
            return Ok(0);
        }
        let log = new_log(settings, &place, flags, old.log.as_ref())?;
        let logs = log.is_some();
        if logs && old.log.is_none() {
            // What was written before isn't for the new log.
            self.take_notes();
        }
        let slot = Arc::new(MemSlot::new(place, source, log), GFP_KERNEL_ACCOUNT)?;
        self.publish(Some(old), Some(&slot))?;
        let (first, end) = (was.first, Gfn::new(was.end()));
        if moves {
            self.zap(first, end, true);
            self.forget_marks(&place);
        } else if logs {
            // If all is dirty at first, pages are protected as they are cleared.
            if settings.rings || !settings.initially_set {
                self.watch(&slot, self.has_notes() && !settings.rings);
            }
        } else {
            // Faults bring back large pages.
            self.zap(first, end, true);
        }
        settings.numbers.set(slot.place.id, Some(slot));
        Ok(0)
    }

    /// Lets no slot reach the frames from `end` on.
    ///
    /// # Errors
    ///
    /// `EBUSY` if one does.
    pub fn limit(&self, end: Gfn) -> Result {
        let _changing = self.changing.lock();
        let mut is_free = true;
        self.slots.read().for_each_in(end, Gfn::new(u64::MAX), |_, _, _| is_free = false);
        if !is_free {
            return Err(EBUSY);
        }
        self.limit.store(end.raw(), Ordering::Relaxed);
        Ok(())
    }

    /// First frame that no slot can have.
    pub fn frames(&self) -> u64 {
        self.tables.frames().min(self.limit.load(Ordering::Relaxed))
    }

    /// Whether a slot may be at `place`.
    fn check_place(&self, place: &Slot, except: Option<u16>) -> Result {
        if place.end() > self.frames() {
            return Err(EINVAL);
        }
        if self.slots.read().overlaps(place, except) {
            return Err(EEXIST);
        }
        Ok(())
    }

    /// Puts a changed set in place. On return nobody uses a slot that went, or
    /// takes a frame of one that came for a device's.
    fn publish(&self, gone: Option<&MemSlot>, new: Option<&Arc<MemSlot>>) -> Result {
        let set = self.slots.read().changed(gone, new)?;
        let generation = set.generation;
        let set = KBox::new(set, GFP_KERNEL_ACCOUNT)?;
        // Waits for readers of the old set.
        drop(self.slots.replace(set));
        self.generation.store(generation, Ordering::Relaxed);
        if let Some(slot) = gone {
            slot.set_gone();
        }
        self.wait_for_sections();
        Ok(())
    }

    /// Removes what says that the frames of a new slot are a device's.
    fn forget_marks(&self, place: &Slot) {
        self.zap(place.first, Gfn::new(place.end()), true);
    }
}

/// What the guest has in a slot with `flags` that isn't bound to a file.
fn source(flags: MemFlags) -> Source {
    if flags.contains(MemFlags::READONLY) {
        Source::ReadOnly
    } else {
        Source::Memory
    }
}

/// The log of a slot that is to have `flags`: that of the slot before it, if that
/// had one.
fn new_log(
    settings: &Settings,
    place: &Slot,
    flags: MemFlags,
    old: Option<&Log>,
) -> Result<Option<Log>> {
    if !flags.contains(MemFlags::LOG_DIRTY_PAGES) {
        return Ok(None);
    }
    if let Some(old) = old {
        return Ok(Some(old.clone()));
    }
    if settings.rings {
        return Ok(Some(Log::Ring));
    }
    let log = DirtyBitmap::new(place.frames, settings.initially_set)?;
    Ok(Some(Log::Bitmap(Arc::new(log, GFP_KERNEL_ACCOUNT)?)))
}

fn errno(refused: Refused) -> Error {
    match refused {
        Refused::Invalid => EINVAL,
        Refused::Overlap => EEXIST,
    }
}
