// SPDX-License-Identifier: GPL-2.0
//! Dirty rings: each vCPU tells userspace which pages it wrote to, in the order of the
//! writes (`KVM_CAP_DIRTY_LOG_RING`).
//!
//! An entry goes round: free; written to by the kernel, flag `DIRTY`; harvested by
//! userspace, flag `RESET`; free again, by `KVM_RESET_DIRTY_RINGS`, which takes write
//! permission from the page. Userspace looks at the page only after that, so a write
//! that came before the reset needs no second entry.
//!
//! Anyone may add at any time without a lock: a place is taken by counting, and shown by
//! its flag. Entries of a vCPU that isn't through with one wait for it. One thread at a
//! time resets. A ring has some entries more than a vCPU fills before it looks whether it
//! has to leave its guest; userspace that has the kernel write to more pages without
//! running the vCPU loses them.

use crate::{
    arch::Arch,
    request::{Request, Requests},
    vm::Vm,
};
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::{current, error::Result, new_mutex, prelude::*, sync::Arc, sync::Mutex};
use kvm_paging::{
    flush::FlushDebt,
    ring::{Batch, Refused, RingSize},
};
use kvm_sys::{
    anon_file::Mapping,
    process,
    shared_page::SharedPage,
    trace::{kvm_dirty_ring_push, kvm_dirty_ring_reset, Ring},
};
use kvm_uapi::memory::{dirty_gfn, DIRTY_GFN_DIRTY, DIRTY_GFN_RESET};

/// The ring of a vCPU, on pages that userspace maps.
pub(crate) struct DirtyRing {
    size: RingSize,
    /// The vCPU's, for who traces.
    index: u32,
    pages: KVec<SharedPage>,
    /// Entries that were ever added.
    added: AtomicU32,
    /// How many of them are free again.
    reset: AtomicU32,
    /// The vCPU's, which has to leave its guest when the ring is nearly full.
    requests: Arc<Requests>,
}

impl DirtyRing {
    fn new(size: RingSize, index: u32, requests: Arc<Requests>) -> Result<Self> {
        let mut pages = KVec::with_capacity(size.pages(), GFP_KERNEL_ACCOUNT)?;
        for _ in 0..size.pages() {
            pages.push(SharedPage::new()?, GFP_KERNEL_ACCOUNT)?;
        }
        let (added, reset) = (AtomicU32::new(0), AtomicU32::new(0));
        Ok(Self { size, index, pages, added, reset, requests })
    }

    /// Notes a write to a page of a slot, after the write became possible.
    pub(crate) fn push(&self, slot: u32, page: u64) {
        let mut at = self.added.load(Ordering::Relaxed);
        loop {
            let used = at.wrapping_sub(self.reset.load(Ordering::Acquire));
            if self.size.is_full(used) || used != 0 && self.waits(at.wrapping_sub(1), slot, page) {
                return;
            }
            let next = at.wrapping_add(1);
            match self.added.compare_exchange_weak(at, next, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => at = now,
            }
        }
        if let Some(entry) = self.entry(at) {
            entry.set(slot, page);
            kvm_dirty_ring_push(|| self.state(), slot, page);
        }
        if self.is_nearly_full() {
            self.requests.set(Request::RING_FULL);
        }
    }

    /// Where it stands.
    fn state(&self) -> Ring {
        let (added, reset) = (&self.added, &self.reset);
        Ring {
            index: self.index,
            added: added.load(Ordering::Relaxed),
            reset: reset.load(Ordering::Relaxed),
        }
    }

    /// Whether userspace still has to harvest this entry, and it says this page: the
    /// emulator writes to the same one again and again.
    fn waits(&self, count: u32, slot: u32, page: u64) -> bool {
        // The write comes before the look at the flag.
        core::sync::atomic::fence(Ordering::SeqCst);
        self.entry(count).is_some_and(|entry| {
            entry.flags.load(Ordering::Acquire) == DIRTY_GFN_DIRTY && entry.get() == (slot, page)
        })
    }

    /// Whether the vCPU has to leave its guest.
    pub(crate) fn is_nearly_full(&self) -> bool {
        let added = self.added.load(Ordering::Relaxed);
        self.size.is_nearly_full(added.wrapping_sub(self.reset.load(Ordering::Relaxed)))
    }

    /// Frees the oldest entry if userspace has harvested it; slot and page as it left
    /// them, which may be anything. One thread at a time.
    fn take_harvested(&self) -> Option<(u32, u64)> {
        let count = self.reset.load(Ordering::Relaxed);
        if count == self.added.load(Ordering::Acquire) {
            return None;
        }
        let entry = self.entry(count)?;
        if entry.flags.load(Ordering::Acquire) & DIRTY_GFN_RESET == 0 {
            return None;
        }
        let taken = entry.get();
        entry.flags.store(0, Ordering::Release);
        self.reset.store(count.wrapping_add(1), Ordering::Release);
        Some(taken)
    }

    fn entry(&self, count: u32) -> Option<Entry<'_>> {
        let (page, offset) = self.size.place(count);
        let page = self.pages.get(page)?;
        Some(Entry {
            flags: page.u32_at(offset.wrapping_add(dirty_gfn::FLAGS))?,
            slot: page.u32_at(offset.wrapping_add(dirty_gfn::SLOT))?,
            page: page.u64_at(offset.wrapping_add(dirty_gfn::OFFSET))?,
        })
    }

    /// The page at an offset from the ring's begin.
    pub(crate) fn page(&self, offset: usize) -> Option<&SharedPage> {
        self.pages.get(offset)
    }

    /// Whether userspace may map it in this way, if it lies at page `begin` of the file.
    pub(crate) fn may_map(&self, begin: usize, mapping: &Mapping) -> bool {
        let is_here =
            |page: usize| page.checked_sub(begin).is_some_and(|offset| offset < self.size.pages());
        let concerned = is_here(mapping.first) || is_here(mapping.last);
        !concerned || mapping.is_shared && !mapping.is_executable
    }
}

/// An entry, which userspace may change at any moment.
struct Entry<'a> {
    flags: &'a AtomicU32,
    slot: &'a AtomicU32,
    page: &'a core::sync::atomic::AtomicU64,
}

impl Entry<'_> {
    fn get(&self) -> (u32, u64) {
        (self.slot.load(Ordering::Relaxed), self.page.load(Ordering::Relaxed))
    }

    /// Fills it and shows it.
    fn set(&self, slot: u32, page: u64) {
        self.slot.store(slot, Ordering::Relaxed);
        self.page.store(page, Ordering::Relaxed);
        self.flags.store(DIRTY_GFN_DIRTY, Ordering::Release);
    }
}

/// What a VM chose for its rings.
#[pin_data]
pub(crate) struct Rings {
    /// Of each, in bytes; 0: none.
    bytes: AtomicU32,
    /// Held by the one who resets; outside of all locks of the memory.
    #[pin]
    resetting: Mutex<()>,
}

impl Rings {
    /// None.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            bytes: AtomicU32::new(0),
            resetting <- new_mutex!((), "kvm_dirty_rings"),
        })
    }

    /// Whether vCPUs have rings.
    pub(crate) fn are_used(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) != 0
    }

    /// A ring for a new vCPU, if the VM has them.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn ring(
        &self,
        index: u32,
        requests: &Arc<Requests>,
    ) -> Result<Option<Arc<DirtyRing>>> {
        let Ok(size) = RingSize::of_bytes(self.bytes.load(Ordering::Relaxed)) else {
            return Ok(None);
        };
        let ring = DirtyRing::new(size, index, requests.clone())?;
        Ok(Some(Arc::new(ring, GFP_KERNEL_ACCOUNT)?))
    }
}

/// `KVM_CAP_DIRTY_LOG_RING`: vCPUs get rings of so many bytes. Once, and before there are
/// any.
///
/// # Errors
///
/// `EINVAL` for a size that can't be, or too late; `E2BIG` for one that is too large.
pub(crate) fn enable<A: Arch>(vm: &Vm<A>, bytes: u64) -> Result<u32> {
    if A::DIRTY_RING_PAGE.is_none() {
        return Err(EINVAL);
    }
    let bytes = bytes as u32;
    RingSize::of_bytes(bytes).map_err(|refused| match refused {
        Refused::Invalid => EINVAL,
        Refused::TooLarge => E2BIG,
    })?;
    vm.with_creation_locked(|| {
        if vm.rings().are_used() || vm.vcpus().count() != 0 {
            return Err(EINVAL);
        }
        vm.rings().bytes.store(bytes, Ordering::Relaxed);
        vm.each_memory(|memory| memory.use_rings());
        Ok(0)
    })
}

/// `KVM_RESET_DIRTY_RINGS`: frees the entries that userspace has harvested, and has the
/// next writes to their pages noted again; how many. A signal ends it early.
///
/// # Errors
///
/// `EINVAL` if the VM has no rings.
pub(crate) fn reset<A: Arch>(vm: &Vm<A>) -> Result<u32> {
    if !vm.rings().are_used() {
        return Err(EINVAL);
    }
    let _resetting = vm.rings().resetting.lock();
    let mut debt = FlushDebt::NONE;
    let mut count = 0_u32;
    for ring in vm.vcpus().iter().filter_map(|vcpu| vcpu.ring()) {
        let mut batch: Option<Batch> = None;
        while !current!().signal_pending() && count < i32::MAX as u32 {
            let Some((slot, page)) = ring.take_harvested() else { break };
            count = count.wrapping_add(1);
            if batch.as_mut().is_some_and(|batch| batch.add(slot, page)) {
                continue;
            }
            if let Some(full) = batch.replace(Batch::new(slot, page)) {
                debt = debt.merge(vm.protect_batch(&full));
                process::cond_resched();
            }
        }
        if let Some(last) = batch {
            debt = debt.merge(vm.protect_batch(&last));
        }
        kvm_dirty_ring_reset(|| ring.state());
    }
    vm.memory().pay(debt);
    Ok(count)
}
