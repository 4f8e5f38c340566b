// SPDX-License-Identifier: GPL-2.0
//! Guest memory: the slots of a VM (`KVM_SET_USER_MEMORY_REGION`).
//!
//! Readers take a snapshot of all slots and wait for nobody. A change makes a new
//! array and puts it in place of the old one.

use kernel::{error::Result, new_mutex, prelude::*, sync::Mutex};
use kvm_paging::slot::{self, Change, Refused, Slot};
use kvm_sys::{process, srcu_cell::SrcuCell, user};
use kvm_uapi::memory::UserspaceMemoryRegion;

/// Slots in order of guest frame.
type Slots = KVec<Slot>;

/// The memory of a VM.
#[pin_data]
pub(crate) struct Memory {
    /// Held while slots change; orders changes among each other.
    #[pin]
    changing: Mutex<()>,
    #[pin]
    slots: SrcuCell<Slots>,
}

impl Memory {
    /// No memory.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            changing <- new_mutex!((), "kvm_memory"),
            slots <- SrcuCell::new(KBox::new(KVec::new(), GFP_KERNEL_ACCOUNT)?),
        })
    }

    /// `KVM_SET_USER_MEMORY_REGION` with the structure at `arg`.
    ///
    /// # Errors
    ///
    /// `EFAULT` if it can't be read; `EINVAL` for flags, numbers or changes that
    /// aren't allowed; `EEXIST` if another slot is in the way; `ENOMEM`.
    pub(crate) fn set_region(&self, arg: usize) -> Result<u32> {
        let region: UserspaceMemoryRegion = user::read(arg)?;
        // Dirty logging and read-only slots come with what makes them true, a
        // second address space with system management mode.
        let id = u16::try_from(region.slot).map_err(|_| EINVAL)?;
        if region.flags != 0 || !process::may_access(region.userspace_addr, region.memory_size) {
            return Err(EINVAL);
        }
        let request = slot::Request {
            id,
            guest_address: region.guest_phys_addr,
            size: region.memory_size,
            memory: region.userspace_addr,
        };
        let _changing = self.changing.lock();
        let old = self.slots.read();
        let change = slot::plan(&old, request).map_err(|refused| match refused {
            Refused::Invalid => EINVAL,
            Refused::Overlap => EEXIST,
        })?;
        let Some(new) = changed(&old, change)? else { return Ok(0) };
        let new = KBox::new(new, GFP_KERNEL_ACCOUNT)?;
        drop(old);
        drop(self.slots.replace(new));
        Ok(0)
    }
}

/// The slots after a change, `None` if nothing changes.
fn changed(old: &Slots, change: Change) -> Result<Option<Slots>> {
    let (gone, slot) = match change {
        Change::Nothing => return Ok(None),
        Change::Create(_, slot) => (None, Some(slot)),
        Change::Delete(index) => (Some(index), None),
        Change::Move(index, slot) => (Some(index), Some(slot)),
    };
    let mut new = KVec::with_capacity(old.len().saturating_add(1), GFP_KERNEL_ACCOUNT)?;
    let mut coming = slot;
    for (index, other) in old.iter().enumerate() {
        if Some(index) == gone {
            continue;
        }
        if let Some(slot) = coming.take_if(|slot| slot.first < other.first) {
            new.push(slot, GFP_KERNEL_ACCOUNT)?;
        }
        new.push(*other, GFP_KERNEL_ACCOUNT)?;
    }
    if let Some(slot) = coming {
        new.push(slot, GFP_KERNEL_ACCOUNT)?;
    }
    Ok(Some(new))
}
