// SPDX-License-Identifier: GPL-2.0
//! A vCPU touches a frame that isn't mapped so that it may.

use super::{
    changes::Seen,
    slots::{MemSlot, Source},
    Memory,
};
use crate::{
    arch::Arch,
    mmu::{Look, SecondLevel},
};
use kernel::{error::Result, prelude::*, sync::Arc};
use kvm_paging::{
    addr::{Gfn, Gpa, Hva, PAGE_SHIFT, PAGE_SIZE},
    entry::{Access, Leaf},
    flush::FlushDebt,
    level::Level,
    map::Sizes,
};
use kvm_sys::gup::{self, HostPage, Missing, Want};

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Fault {
    /// The frame is mapped; back into the guest.
    Mapped,
    /// It was mapped already; back into the guest.
    Spurious,
    /// Something is changing; back into the guest, which faults again.
    Retry,
    /// No memory there: a device.
    Mmio,
    /// A write to memory that the guest may only read: to be treated as one to a
    /// device.
    ReadOnly,
    /// The page, which the VMM has at this address, takes I/O.
    Slow(Hva),
}

/// What one vCPU has for its faults.
pub struct VcpuMemory<A: Arch> {
    index: u32,
    spare: <A::Tables as SecondLevel>::Spare,
    /// The slot of the last fault.
    last: Option<Arc<MemSlot>>,
}

impl<A: Arch> VcpuMemory<A> {
    /// The vCPU goes on in another address space of the VM.
    pub fn moved(&mut self) {
        self.last = None;
    }
}

/// What a fault wants.
struct Attempt {
    gfn: Gfn,
    write: bool,
    /// For I/O, if it takes any.
    wait: bool,
}

/// What a fault found out, before it maps.
struct Plan<'a> {
    gfn: Gfn,
    slot: &'a MemSlot,
    /// Of the frame.
    address: Hva,
    write: bool,
    seen: Seen,
}

impl<A: Arch> Memory<A> {
    /// What the vCPU with this index needs. Once for each vCPU; calls for
    /// different ones don't overlap.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` for an index that is out of range.
    pub fn vcpu(&self, index: u32) -> Result<VcpuMemory<A>> {
        self.sections.add(index)?;
        Ok(VcpuMemory { index, spare: Default::default(), last: None })
    }

    /// Maps the frame of `gpa` for an access. In a thread of the owner's address
    /// space; may sleep.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the VMM has nothing there; `EINTR` if a signal came first;
    /// `ENOMEM`.
    #[inline]
    pub fn fault(&self, me: &mut VcpuMemory<A>, gpa: Gpa, access: Access) -> Result<Fault> {
        self.fault_at(me, gpa, access, true).map(|(fault, _)| fault)
    }

    /// As [`Self::fault`], but doesn't wait for I/O.
    ///
    /// # Errors
    ///
    /// As [`Self::fault`].
    pub fn quick_fault(&self, me: &mut VcpuMemory<A>, gpa: Gpa, access: Access) -> Result<Fault> {
        self.fault_at(me, gpa, access, false).map(|(fault, _)| fault)
    }

    /// As [`Self::fault`], with the size that the frame is mapped in.
    pub(super) fn fault_at(
        &self,
        me: &mut VcpuMemory<A>,
        gpa: Gpa,
        access: Access,
        wait: bool,
    ) -> Result<(Fault, Level)> {
        let gfn = gpa.gfn();
        let look = self.tables.look(gfn, access);
        match look {
            Look::Allowed(level) => return Ok((Fault::Spurious, level)),
            Look::Mmio => return Ok((Fault::Mmio, Level::Page4K)),
            Look::Protected(_) | Look::Lacking => {}
        }
        let is_known = me.last.as_ref().is_some_and(|slot| slot.place.contains(gfn));
        if !is_known || me.last.as_ref().is_some_and(|slot| slot.is_gone()) {
            let set = self.slots.read();
            me.last = set.find(gfn).cloned();
            if me.last.is_none() {
                let generation = set.generation;
                drop(set);
                let fault = self.without_slot(me, gfn, access, generation)?;
                return Ok((fault, Level::Page4K));
            }
        }
        let VcpuMemory { index, spare, last } = me;
        let Some(slot) = last.as_deref() else { return Ok((Fault::Retry, Level::Page4K)) };
        let write = access.contains(Access::WRITE);
        if write && slot.is_read_only() {
            return Ok((Fault::ReadOnly, Level::Page4K));
        }
        if let Look::Protected(level) = look {
            if self.allow_write(*index, slot, gfn, level) {
                return Ok((Fault::Mapped, level));
            }
        }
        self.fault_in(*index, spare, slot, Attempt { gfn, write, wait })
    }

    /// Runs `with` in the map section of a vCPU: what is mapped in it doesn't go back to
    /// the host before the end. `with` doesn't sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` without a section, which can't be.
    pub fn inside<R>(&self, me: &VcpuMemory<A>, with: impl FnOnce() -> R) -> Result<R> {
        let own = self.sections.get(me.index).ok_or(EINVAL)?;
        let _inside = own.section().enter();
        Ok(with())
    }

    /// Whether `gpa` is known to be a device's. False says nothing. Never sleeps.
    pub fn is_mmio(&self, gpa: Gpa) -> bool {
        self.tables.look(gpa.gfn(), Access::READ) == Look::Mmio
    }

    /// Marks a frame without memory, so that its next access is recognised; or maps the
    /// hypervisor's own page, if that is there.
    fn without_slot(
        &self,
        me: &mut VcpuMemory<A>,
        gfn: Gfn,
        access: Access,
        generation: u64,
    ) -> Result<Fault> {
        if gfn.raw() >= self.tables.frames() {
            return Ok(Fault::Mmio);
        }
        A::Tables::top_up(&mut me.spare)?;
        let own = self.sections.get(me.index).ok_or(EINVAL)?;
        let inside = own.section().enter();
        if self.generation() != generation {
            return Ok(Fault::Mmio);
        }
        let Some(leaf) = self.own_leaf(gfn) else {
            // Only a mark: without it the next access takes this way again.
            let _ = self.tables.mark_mmio(gfn, &mut me.spare);
            return Ok(Fault::Mmio);
        };
        if !leaf.access.contains(access) {
            return Ok(Fault::Mmio);
        }
        let mut sizes = Sizes::default();
        let mapped = self.tables.map(gfn, Level::Page4K, leaf, &mut me.spare, &mut sizes);
        own.count(&sizes);
        drop(inside);
        let Ok((_, debt)) = mapped else { return Ok(Fault::Retry) };
        self.pay(debt);
        Ok(Fault::Mapped)
    }

    /// Lets the guest write to a page that only the log protects; whether that was
    /// all.
    fn allow_write(&self, index: u32, slot: &MemSlot, gfn: Gfn, level: Level) -> bool {
        // The log is about single pages.
        let largest = if slot.log.is_some() { Level::Page4K } else { level };
        let Some(own) = self.sections.get(index) else { return false };
        {
            let _inside = own.section().enter();
            if slot.is_gone() || self.tables.allow_write(gfn, largest).is_none() {
                return false;
            }
        }
        slot.mark_dirty(gfn, self.writer(index));
        true
    }

    /// Finds the page and maps it.
    fn fault_in(
        &self,
        index: u32,
        spare: &mut <A::Tables as SecondLevel>::Spare,
        slot: &MemSlot,
        attempt: Attempt,
    ) -> Result<(Fault, Level)> {
        let Attempt { gfn, write, wait } = attempt;
        A::Tables::top_up(spare)?;
        self.tables.prepare(gfn)?;
        let address = slot.address_of(gfn).ok_or(EFAULT)?;
        const RETRY: (Fault, Level) = (Fault::Retry, Level::Page4K);
        let Some(seen) = self.changes.begin(address.raw()) else { return Ok(RETRY) };
        let plan = Plan { gfn, slot, address, write, seen };
        let want = match (slot.source, write) {
            (Source::Memory, true) => Want::Write,
            (Source::Memory, false) => Want::ReadMaybeWrite,
            (Source::ReadOnly, _) => Want::Read,
            (Source::File, _) => return self.fault_in_file(index, spare, &plan),
        };
        let page = match gup::get(address, want, wait) {
            Ok(page) => page,
            Err(Missing::Signal) => return Err(EINTR),
            Err(Missing::Poisoned) => {
                gup::signal_poisoned(address);
                return Ok(RETRY);
            }
            Err(Missing::NeedsIo) => return Ok((Fault::Slow(address), Level::Page4K)),
            Err(Missing::Fault) => return Err(EFAULT),
        };
        match self.map(index, spare, &plan, &page) {
            Some((leaf, level, debt)) => {
                self.pay(debt);
                if leaf.access.contains(Access::WRITE) {
                    slot.mark_dirty(gfn, self.writer(index));
                }
                page.mapped(leaf.may_write);
                Ok((Fault::Mapped, level))
            }
            None => Ok(RETRY),
        }
    }

    /// Finds the file's page and maps it. The file may be closed by now.
    #[cold]
    fn fault_in_file(
        &self,
        index: u32,
        spare: &mut <A::Tables as SecondLevel>::Spare,
        plan: &Plan<'_>,
    ) -> Result<(Fault, Level)> {
        let file = plan.slot.file.as_ref().ok_or(EFAULT)?;
        let number = file.page_of(plan.gfn).ok_or(EFAULT)?;
        let changes = &file.backing.changes;
        let Some(seen) = changes.begin(number) else { return Ok((Fault::Retry, Level::Page4K)) };
        let page = file.backing.page(number)?;
        let (first, end) = (plan.address.raw(), plan.address.raw().saturating_add(PAGE_SIZE));
        let is_current = || {
            changes.is_current(seen, number, number.saturating_add(1))
                && self.changes.is_current(plan.seen, first, end)
        };
        match self.install(index, spare, plan, (&page, Level::Page4K), is_current) {
            Some((leaf, _, debt)) => {
                self.pay(debt);
                // Says no more than that the page matters: should it break, processes that
                // have it mapped are told at once.
                page.mapped(leaf.may_write);
                Ok((Fault::Mapped, Level::Page4K))
            }
            None => Ok((Fault::Retry, Level::Page4K)),
        }
    }

    /// Maps the page unless something changed meanwhile.
    fn map(
        &self,
        index: u32,
        spare: &mut <A::Tables as SecondLevel>::Spare,
        plan: &Plan<'_>,
        page: &HostPage,
    ) -> Option<(Leaf, Level, FlushDebt)> {
        let level = self.level(plan, page);
        let size = A::Tables::GEOMETRY.frames(level).wrapping_mul(PAGE_SIZE);
        let first = plan.address.raw() & size.wrapping_neg();
        let end = first.saturating_add(size);
        let is_current = || self.changes.is_current(plan.seen, first, end);
        self.install(index, spare, plan, (page, level), is_current)
    }

    /// Maps the page, in this size or a smaller one, if `is_current` still says so.
    #[inline]
    fn install(
        &self,
        index: u32,
        spare: &mut <A::Tables as SecondLevel>::Spare,
        plan: &Plan<'_>,
        (page, level): (&HostPage, Level),
        is_current: impl FnOnce() -> bool,
    ) -> Option<(Leaf, Level, FlushDebt)> {
        let geometry = A::Tables::GEOMETRY;
        let mut leaf = Leaf {
            pfn: kvm_paging::addr::Pfn::new(
                page.pfn().raw() & geometry.frames(level).wrapping_neg(),
            ),
            access: Access::READ | Access::EXEC,
            may_write: page.is_writable() && !plan.slot.is_read_only(),
            memory_type: if page.is_device() {
                self.tables.device_memory()
            } else {
                self.tables.ordinary_memory()
            },
        };
        // A page that is logged becomes writable when it is written to.
        let write = leaf.may_write && (plan.write || plan.slot.log.is_none());
        leaf.access.set(Access::WRITE, write);
        let own = self.sections.get(index)?;
        let mut sizes = Sizes::default();
        let _inside = own.section().enter();
        if plan.slot.is_gone() || !is_current() {
            return None;
        }
        let mapped = self.tables.map(plan.gfn, level, leaf, spare, &mut sizes);
        own.count(&sizes);
        let (mapped, debt) = mapped.ok()?;
        Some((leaf, mapped.level(), debt))
    }

    /// The largest size that guest, slot and host agree on.
    fn level(&self, plan: &Plan<'_>, page: &HostPage) -> Level {
        let Plan { gfn, slot, address, .. } = *plan;
        if slot.log.is_some() || self.tables.largest() == Level::Page4K {
            return Level::Page4K;
        }
        let geometry = A::Tables::GEOMETRY;
        let host = gup::host_page_shift(&self.space, address);
        let fits = |level: Level| {
            let first = geometry.align(level, gfn).raw();
            let frames = geometry.frames(level);
            let mask = frames.wrapping_sub(1);
            let memory = address.raw() >> PAGE_SHIFT;
            level <= self.tables.largest()
                && geometry.shift(level) <= host
                && first >= slot.place.first.raw()
                && first.saturating_add(frames) <= slot.place.end()
                && (gfn.raw() ^ memory) & mask == 0
                && (gfn.raw() ^ page.pfn().raw()) & mask == 0
        };
        [Level::Page1G, Level::Page2M]
            .into_iter()
            .find(|level| fits(*level))
            .unwrap_or(Level::Page4K)
    }
}
