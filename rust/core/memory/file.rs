// SPDX-License-Identifier: GPL-2.0
//! Files of memory (`KVM_CREATE_GUEST_MEMFD`), and the slots that have their pages.
//!
//! The file keeps its VM, and a slot doesn't keep the file: once it is closed, its pages
//! are gone from the guest, and faults in the slot fail. What both know is a [`Backing`].
//!
//! A page goes away as the VMM's memory does ([`super::changes`]): the file has its own
//! [`Changes`], by page, and a fault looks at both.

use super::{changes::Changes, Memory};
use crate::{arch::Arch, vm::Vm};
use core::any::Any;
use kernel::{
    error::Result,
    new_mutex,
    prelude::*,
    sync::{Arc, ArcBorrow, Mutex},
};
use kvm_paging::{
    addr::{Gfn, PAGE_SIZE},
    binding::Binding,
    slot::Slot,
};
use kvm_sys::{
    gup::HostPage,
    memory_file::{self, Holder, Modes, OpenFile, WeakFile},
    user,
};
use kvm_uapi::memory::{CreateGuestMemfd, GUEST_MEMFD_FLAG_INIT_SHARED, GUEST_MEMFD_FLAG_MMAP};

/// Whether there are such files.
pub(crate) const EXIST: bool = cfg!(CONFIG_X86_64);

/// The flags that they can have.
pub(crate) const FLAGS: u64 = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;

/// A file, or one that was closed, and the slots that are bound to it.
#[pin_data]
pub(super) struct Backing {
    file: WeakFile,
    /// Which pages go away right now.
    #[pin]
    pub(super) changes: Changes,
    /// Taken inside the lock of the slots' changes and inside that of the file's.
    #[pin]
    bound: Mutex<KVVec<Bound>>,
}

/// A slot that is bound to pages of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Bound {
    /// The VM's address space that the slot is in.
    space: u16,
    binding: Binding,
    /// The guest has the pages, and not the VMM's memory in their place.
    is_mapped: bool,
}

impl Backing {
    /// A page of the file.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the file was closed; those of [`OpenFile::page`].
    pub(super) fn page(&self, number: u64) -> Result<HostPage> {
        self.file.get().ok_or(EFAULT)?.page(number)
    }

    fn bind(&self, new: Bound) -> Result {
        let mut bound = self.bound.lock();
        if bound.iter().any(|other| other.binding.overlaps(&new.binding)) {
            return Err(EEXIST);
        }
        Ok(bound.push(new, GFP_KERNEL_ACCOUNT)?)
    }

    fn unbind(&self, old: Bound) {
        let mut bound = self.bound.lock();
        if let Some(at) = bound.iter().position(|other| *other == old) {
            // It is there.
            let _ = bound.remove(at);
        }
    }
}

/// The pages of a file that a slot is bound to.
pub(super) struct Part {
    pub(super) backing: Arc<Backing>,
    bound: Bound,
}

impl Part {
    /// The page that a frame of the slot has.
    pub(super) fn page_of(&self, gfn: Gfn) -> Option<u64> {
        self.bound.binding.page_of(gfn)
    }

    /// Whether the guest has the file's pages in all of the slot, and none of the VMM's
    /// memory.
    pub(super) fn is_mapped(&self) -> bool {
        self.bound.is_mapped
    }

    /// From now on the pages are this slot's.
    ///
    /// # Errors
    ///
    /// `EEXIST` if some are another one's; `ENOMEM`.
    pub(super) fn bind(&self) -> Result {
        self.backing.bind(self.bound)
    }

    /// The slot is gone, and nothing in it is mapped.
    pub(super) fn unbind(&self) {
        self.backing.unbind(self.bound);
    }
}

/// What a file has of its VM.
struct View<A: Arch> {
    vm: Arc<Vm<A>>,
    backing: Arc<Backing>,
}

impl<A: Arch> Holder for View<A> {
    fn file(&self) -> &WeakFile {
        &self.backing.file
    }

    fn invalidate_start(&self, first: u64, end: u64) {
        self.backing.changes.raise(first, end);
        // Those of both address spaces.
        self.vm.memory().wait_for_sections();
        for bound in self.backing.bound.lock().iter().filter(|bound| bound.is_mapped) {
            if let Some((first, end)) = bound.binding.frames_of(first, end) {
                self.vm.memory_of(bound.space != 0).zap(first, end, true);
            }
        }
    }

    fn invalidate_end(&self) {
        self.backing.changes.lower();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Makes a file as the structure at `arg` says (`KVM_CREATE_GUEST_MEMFD`).
///
/// # Errors
///
/// `EFAULT` if it can't be read; `EINVAL` for flags that there aren't and a size that
/// isn't pages; those of [`memory_file::create`].
pub(crate) fn create<A: Arch>(vm: ArcBorrow<'_, Vm<A>>, arg: usize) -> Result<u32> {
    let CreateGuestMemfd { size, flags, .. } = user::read(arg)?;
    let is_size = size != 0 && size % PAGE_SIZE == 0 && i64::try_from(size).is_ok();
    if flags & !FLAGS != 0 || !is_size {
        return Err(EINVAL);
    }
    let modes = Modes {
        mappable: flags & GUEST_MEMFD_FLAG_MMAP != 0,
        shared: flags & GUEST_MEMFD_FLAG_INIT_SHARED != 0,
    };
    let backing = Arc::pin_init(
        pin_init!(Backing {
            file: WeakFile::new(),
            changes <- Changes::new(),
            bound <- new_mutex!(KVVec::new(), "kvm_memory_file"),
        }),
        GFP_KERNEL_ACCOUNT,
    )?;
    let view = Arc::new(View { vm: vm.into(), backing }, GFP_KERNEL_ACCOUNT)?;
    memory_file::create::<A::Module>(size, modes, view)
}

impl<A: Arch> Memory<A> {
    /// The pages from `offset` (in bytes) on of a file of this VM's, for a slot that isn't
    /// there yet.
    ///
    /// # Errors
    ///
    /// `EBADF` if the descriptor isn't open; `EINVAL` if it isn't that of such a file, or
    /// the file ends before.
    pub(super) fn part(&self, place: &Slot, descriptor: u32, offset: u64) -> Result<Part> {
        let file = OpenFile::from_descriptor(descriptor)?;
        let view = file.holder().and_then(|holder| holder.as_any().downcast_ref::<View<A>>());
        let view = view.ok_or(EINVAL)?;
        // Both address spaces of a VM have the same.
        if !Arc::ptr_eq(&view.vm.memory().sections, &self.sections) {
            return Err(EINVAL);
        }
        let binding = Binding::new(place.first, place.frames, offset, file.size()).ok_or(EINVAL)?;
        let is_mapped = file.modes().mappable;
        let bound = Bound { space: self.number, binding, is_mapped };
        Ok(Part { backing: view.backing.clone(), bound })
    }
}
