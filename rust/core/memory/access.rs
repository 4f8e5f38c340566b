// SPDX-License-Identifier: GPL-2.0
//! Guest memory by guest physical address, as the VMM has it.
//!
//! For the emulator, walks through the guest's tables, and records that the guest
//! shares with the hypervisor. In a thread of the owner's address space. What is
//! written is logged.

use super::{
    slots::{MemSlot, SlotSet, Writer},
    Memory,
};
use crate::arch::Arch;
use kernel::{error::Result, prelude::*, sync::Arc};
use kvm_paging::addr::{Gfn, Gpa, Hva, PAGE_SHIFT, PAGE_SIZE};
use kvm_sys::{srcu_cell, vmm_memory};

pub use kvm_sys::vmm_memory::Wait;

/// What a guest physical address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory.
    Memory,
    /// Memory whose writes go to userspace as those of a device.
    ReadOnly,
    /// Nothing that the kernel knows: a device.
    Device,
}

/// The slots as they are now, to access memory through. Changes of the slots wait
/// for its end, so it is held for one access or one instruction, and never while
/// the slots are changed.
pub struct Guest<'a> {
    slots: srcu_cell::Reader<'a, SlotSet>,
    by: Writer<'a>,
    wait: Wait,
}

impl<A: Arch> Memory<A> {
    /// Memory as it is now; accesses may sleep. Writes are taken for the first vCPU's
    /// ([`Guest::by`]).
    #[inline]
    pub fn guest(&self) -> Guest<'_> {
        Guest { slots: self.slots.read(), by: self.writer(0), wait: Wait::Allowed }
    }

    /// Memory as it is now, for atomic context: accesses to what isn't there at
    /// once fail.
    #[inline]
    pub fn guest_atomic(&self) -> Guest<'_> {
        Guest { slots: self.slots.read(), by: self.writer(0), wait: Wait::Never }
    }

    /// Reads guest memory. May sleep.
    ///
    /// # Errors
    ///
    /// As [`Guest::read`].
    pub fn read(&self, gpa: Gpa, bytes: &mut [u8]) -> Result {
        self.guest().read(gpa, bytes)
    }

    /// Writes guest memory. May sleep.
    ///
    /// # Errors
    ///
    /// As [`Guest::write`].
    pub fn write(&self, gpa: Gpa, bytes: &[u8]) -> Result {
        self.guest().write(gpa, bytes)
    }

    /// What is at an address.
    pub fn kind(&self, gpa: Gpa) -> Kind {
        self.guest().kind(gpa)
    }
}

impl Guest<'_> {
    /// The same for the vCPU with this index: what it writes is noted in its dirty ring,
    /// and it is the one that stops when the ring fills.
    #[inline]
    pub fn by(mut self, vcpu: u32) -> Self {
        self.by.vcpu = vcpu;
        self
    }

    /// Whether accesses may sleep.
    #[inline]
    pub fn may_wait(&self) -> bool {
        self.wait == Wait::Allowed
    }

    /// What is at an address.
    pub fn kind(&self, gpa: Gpa) -> Kind {
        match self.slots.find(gpa.gfn()) {
            Some(slot) if slot.is_read_only() => Kind::ReadOnly,
            Some(_) => Kind::Memory,
            None => Kind::Device,
        }
    }

    /// Reads memory, over slots as they come.
    ///
    /// # Errors
    ///
    /// `EFAULT` if some of it isn't memory, or the VMM has nothing there; what
    /// comes before that was read.
    pub fn read(&self, gpa: Gpa, bytes: &mut [u8]) -> Result {
        let mut at = gpa;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (slot, address, size) = self.place(at, rest.len())?;
            let _ = slot;
            let (now, later) = rest.split_at_mut_checked(size).ok_or(EFAULT)?;
            vmm_memory::read(address, now, self.wait)?;
            at = Gpa::new(at.raw().wrapping_add(size as u64));
            rest = later;
        }
        Ok(())
    }

    /// Writes memory, over slots as they come.
    ///
    /// # Errors
    ///
    /// `EFAULT` if some of it isn't memory or is read-only, or the VMM has nothing
    /// there; what comes before that was written.
    pub fn write(&self, gpa: Gpa, bytes: &[u8]) -> Result {
        let mut at = gpa;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (slot, address, size) = self.place(at, rest.len())?;
            if slot.is_read_only() {
                return Err(EFAULT);
            }
            let (now, later) = rest.split_at_checked(size).ok_or(EFAULT)?;
            vmm_memory::write(address, now, self.wait)?;
            slot.mark_dirty(at.gfn(), self.by);
            at = Gpa::new(at.raw().wrapping_add(size as u64));
            rest = later;
        }
        Ok(())
    }

    /// Sets bits of a byte, atomically; what it was before.
    ///
    /// # Errors
    ///
    /// As [`Self::write`]; `EINTR` if a signal came while it waited.
    pub fn set_bits(&self, gpa: Gpa, bits: u8) -> Result<u8> {
        let (slot, address, _) = self.place(gpa, 1)?;
        if slot.is_read_only() {
            return Err(EFAULT);
        }
        let old = vmm_memory::set_bits(address, bits, self.wait)?;
        slot.mark_dirty(gpa.gfn(), self.by);
        Ok(old)
    }

    /// Replaces an aligned number of 1, 2, 4 or 8 bytes if it is `old`, atomically;
    /// whether it was. May sleep.
    ///
    /// # Errors
    ///
    /// As [`Self::write`]; `EINVAL` for another size or alignment.
    #[cfg(CONFIG_X86_64)]
    pub fn compare_exchange(&self, gpa: Gpa, size: usize, old: u64, new: u64) -> Result<bool> {
        let (slot, address, now) = self.place(gpa, size)?;
        if slot.is_read_only() || now != size {
            return Err(EFAULT);
        }
        let exchanged = vmm_memory::compare_exchange(address, size, old, new)?;
        if exchanged {
            slot.mark_dirty(gpa.gfn(), self.by);
        }
        Ok(exchanged)
    }

    /// Lets `change` change `size` bytes of one page in its own way, at the address where
    /// the VMM has them; it says whether it did.
    ///
    /// # Errors
    ///
    /// As [`Self::write`]; `EFAULT` for bytes of two pages; those of `change`.
    pub fn change(
        &self,
        gpa: Gpa,
        size: usize,
        change: impl FnOnce(Hva) -> Result<bool>,
    ) -> Result<bool> {
        let (slot, address, now) = self.place(gpa, size)?;
        if slot.is_read_only() || now != size {
            return Err(EFAULT);
        }
        let changed = change(address)?;
        if changed {
            slot.mark_dirty(gpa.gfn(), self.by);
        }
        Ok(changed)
    }

    /// Shows where the VMM has the memory of the frames from `first` up to `end`:
    /// address and bytes of each piece. What isn't memory is left out.
    pub fn for_each_piece(&self, first: Gfn, end: Gfn, mut show: impl FnMut(Hva, u64)) {
        self.slots.for_each_in(first, end, |slot, first, end| {
            if let Some(address) = slot.address_of(first) {
                show(address, end.raw().wrapping_sub(first.raw()) << PAGE_SHIFT);
            }
        });
    }

    /// Where the VMM has an address, and how many of `size` bytes are in the same
    /// page.
    fn place(&self, gpa: Gpa, size: usize) -> Result<(&Arc<MemSlot>, Hva, usize)> {
        let slot = self.slots.find(gpa.gfn()).ok_or(EFAULT)?;
        let page = slot.address_of(gpa.gfn()).ok_or(EFAULT)?;
        let in_page = PAGE_SIZE.wrapping_sub(gpa.page_offset()) as usize;
        let address = Hva::new(page.raw() | gpa.page_offset());
        Ok((slot, address, size.min(in_page)))
    }
}

/// Guest memory for a walk through the guest's tables and what comes after it, which
/// mostly lie in the same slot.
#[cfg(CONFIG_X86_64)]
pub struct Path<'g> {
    guest: &'g Guest<'g>,
    last: Option<&'g MemSlot>,
}

#[cfg(CONFIG_X86_64)]
impl<'g> Path<'g> {
    /// Nothing was read yet.
    #[inline]
    pub fn new(guest: &'g Guest<'g>) -> Self {
        Self { guest, last: None }
    }

    /// Where the VMM has `size` bytes that lie in one page.
    #[inline(always)]
    fn find(&mut self, gpa: Gpa, size: u64) -> Result<Hva> {
        if gpa.page_offset() > PAGE_SIZE.wrapping_sub(size) {
            return Err(EFAULT);
        }
        let page = match self.last.and_then(|slot| slot.address_of(gpa.gfn())) {
            Some(page) => page,
            None => self.enter(gpa.gfn())?,
        };
        Ok(Hva::new(page.raw() | gpa.page_offset()))
    }

    /// The path leads to another slot: where the VMM has that page.
    #[inline(never)]
    fn enter(&mut self, gfn: Gfn) -> Result<Hva> {
        let slot = self.guest.slots.find(gfn).ok_or(EFAULT)?;
        self.last = Some(slot);
        slot.address_of(gfn).ok_or(EFAULT)
    }

    /// Reads eight bytes.
    ///
    /// # Errors
    ///
    /// As [`Guest::read`]; `EFAULT` if they lie in two pages.
    #[inline(always)]
    pub fn word(&mut self, gpa: Gpa) -> Result<u64> {
        vmm_memory::read_word(self.find(gpa, 8)?, self.guest.wait)
    }
}

#[cfg(CONFIG_X86_64)]
impl kvm_paging::guest::walk::GuestMemory for Path<'_> {
    type Error = Error;

    fn read_u32(&mut self, at: Gpa) -> Result<u32> {
        let mut bytes = [0; 4];
        vmm_memory::read(self.find(at, 4)?, &mut bytes, self.guest.wait)?;
        Ok(u32::from_le_bytes(bytes))
    }

    #[inline]
    fn read_u64(&mut self, at: Gpa) -> Result<u64> {
        self.word(at)
    }

    fn set_bits(&mut self, at: Gpa, old: u32, bits: u32) -> Result<bool> {
        if self.guest.wait == Wait::Never {
            return Err(EFAULT);
        }
        // Tables in memory that can't be written keep their bits.
        if self.guest.kind(at) != Kind::Memory {
            return Ok(true);
        }
        self.guest.compare_exchange(at, 4, u64::from(old), u64::from(old | bits))
    }
}

/// A few bytes that guest and hypervisor share, accessed often. Keeps the way to
/// them until the slots change.
pub struct GuestRecord {
    gpa: Gpa,
    len: usize,
    /// The generation of the slots that `slot` was found in.
    generation: u64,
    /// `None`: the record isn't all in one slot.
    slot: Option<Arc<MemSlot>>,
}

impl GuestRecord {
    /// The `len` bytes from `gpa` on. Nothing is looked up yet.
    pub const fn new(gpa: Gpa, len: usize) -> Self {
        // No set has this generation.
        Self { gpa, len, generation: u64::MAX, slot: None }
    }

    /// Where it is.
    pub fn gpa(&self) -> Gpa {
        self.gpa
    }

    /// Reads a part of the record.
    ///
    /// # Errors
    ///
    /// As [`Guest::read`]; `EINVAL` for a part that isn't in it.
    pub fn read(&mut self, guest: &Guest<'_>, offset: usize, bytes: &mut [u8]) -> Result {
        match self.find(guest, offset, bytes.len())? {
            Some((_, address)) => vmm_memory::read(address, bytes, guest.wait),
            None => guest.read(self.at(offset), bytes),
        }
    }

    /// Writes a part of the record.
    ///
    /// # Errors
    ///
    /// As [`Guest::write`]; `EINVAL` for a part that isn't in it.
    pub fn write(&mut self, guest: &Guest<'_>, offset: usize, bytes: &[u8]) -> Result {
        let at = self.at(offset);
        match self.find(guest, offset, bytes.len())? {
            Some((slot, address)) if !slot.is_read_only() => {
                vmm_memory::write(address, bytes, guest.wait)?;
                slot.mark_dirty(at.gfn(), guest.by);
                let last = at.raw().wrapping_add(bytes.len().saturating_sub(1) as u64);
                slot.mark_dirty(Gpa::new(last).gfn(), guest.by);
                Ok(())
            }
            _ => guest.write(at, bytes),
        }
    }

    /// The slot, and where the VMM has the byte at `offset`; `None` if the record
    /// isn't all in one slot.
    fn find(
        &mut self,
        guest: &Guest<'_>,
        offset: usize,
        len: usize,
    ) -> Result<Option<(&MemSlot, Hva)>> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(EINVAL);
        }
        if guest.slots.generation != self.generation {
            self.generation = guest.slots.generation;
            let last = self.gpa.checked_add(self.len.saturating_sub(1) as u64);
            let holds =
                |slot: &&Arc<MemSlot>| last.is_some_and(|last| slot.place.contains(last.gfn()));
            self.slot = guest.slots.find(self.gpa.gfn()).filter(holds).cloned();
        }
        let Some(slot) = &self.slot else { return Ok(None) };
        let page = slot.address_of(self.gpa.gfn()).ok_or(EFAULT)?;
        let address = (page.raw() | self.gpa.page_offset()).wrapping_add(offset as u64);
        Ok(Some((slot, Hva::new(address))))
    }

    fn at(&self, offset: usize) -> Gpa {
        Gpa::new(self.gpa.raw().wrapping_add(offset as u64))
    }
}
