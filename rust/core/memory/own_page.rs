// SPDX-License-Identifier: GPL-2.0
//! A page of the hypervisor's that the guest finds where no slot is: at an address that the
//! processor knows, and where accesses to the page mean something to it (Intel's APIC-access
//! page).
//!
//! It is the kernel's memory. So nothing of the VMM's is pinned for it, and nothing happens to it
//! that an MMU notifier would have to tell. Each VM has one of its own: should a processor ever let
//! a guest see what is in it, that is nobody else's.

use super::Memory;
use crate::{arch::Arch, mmu::SecondLevel};
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::{error::Result, prelude::*};
use kvm_paging::{
    addr::{Gfn, Pfn, PAGE_SHIFT},
    entry::{Access, Leaf, MemoryType},
};
use kvm_sys::hw_pages::HwPages;

/// The page and its place.
pub(super) struct OwnPage {
    gfn: Gfn,
    page: HwPages<1>,
    /// How many don't want it to be there.
    objections: AtomicU32,
}

impl OwnPage {
    /// What it is mapped as. Nothing can be executed there.
    fn leaf(&self, memory_type: MemoryType) -> Leaf {
        Leaf {
            pfn: Pfn::new(self.page.physical() >> PAGE_SHIFT),
            access: Access::READ | Access::WRITE,
            may_write: true,
            memory_type,
        }
    }

    /// Whether the guest finds it. Inside a map section.
    fn is_there(&self) -> bool {
        self.objections.load(Ordering::Relaxed) == 0
    }
}

impl<A: Arch> Memory<A> {
    /// The guest finds a page at `gfn` from now on, as long as neither a slot is there nor
    /// [`Self::object_to_page`] was called more often than [`Self::agree_to_page`]. Its physical
    /// address, the same whenever this is called. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EAGAIN` if another caller is not through yet.
    pub fn offer_page(&self, gfn: Gfn) -> Result<u64> {
        if self.own_page.as_ref().is_none() {
            let page = OwnPage { gfn, page: HwPages::new()?, objections: AtomicU32::new(0) };
            // One is enough.
            let _ = self.own_page.populate(page);
        }
        self.own_page.as_ref().map(|own| own.page.physical()).ok_or(EAGAIN)
    }

    /// The page isn't to be there, for one more reason. On return no vCPU finds it that is entered
    /// after that. May sleep.
    pub fn object_to_page(&self) {
        self.change_page(|own| own.objections.fetch_add(1, Ordering::Relaxed));
    }

    /// One of these reasons is gone. May sleep.
    pub fn agree_to_page(&self) {
        self.change_page(|own| own.objections.fetch_sub(1, Ordering::Relaxed));
    }

    fn change_page(&self, change: impl FnOnce(&OwnPage) -> u32) {
        let Some(own) = self.own_page.as_ref() else { return };
        change(own);
        // Nobody maps the page any more, or marks its frame as a device's, because of what was
        // before.
        self.wait_for_sections();
        self.zap(own.gfn, Gfn::new(own.gfn.raw().saturating_add(1)), true);
    }

    /// The page that is at `gfn`, where no slot is, as a leaf. Inside a map section.
    pub(super) fn own_leaf(&self, gfn: Gfn) -> Option<Leaf> {
        let own = self.own_page.as_ref().filter(|own| own.gfn == gfn && own.is_there())?;
        Some(own.leaf(self.tables.ordinary_memory()))
    }
}
