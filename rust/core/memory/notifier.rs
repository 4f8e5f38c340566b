// SPDX-License-Identifier: GPL-2.0
//! The VMM's memory changes below the guest.

use super::Memory;
use crate::{arch::Arch, mmu::SecondLevel};
use kvm_paging::{addr::Gfn, map::Sizes};
use kvm_sys::mmu_notifier::MemoryEvents;

impl<A: Arch> Memory<A> {
    /// Removes what is mapped from `first` up to `end`, and has it forgotten.
    pub(super) fn zap(&self, first: Gfn, end: Gfn, may_sleep: bool) {
        let mut next = Some(first);
        while let Some(at) = next {
            let mut sizes = Sizes::default();
            next = self.tables.zap(at, end, &mut sizes, |debt| self.pay(debt));
            self.sections.count_gone(&sizes);
            if may_sleep {
                kvm_sys::process::cond_resched();
            }
        }
    }
}

impl<A: Arch> Memory<A> {
    /// Runs `change` while nothing is mapped and nothing can be. It doesn't sleep.
    pub fn while_unmapped<R>(&self, change: impl FnOnce() -> R) -> R {
        self.changes.raise(0, u64::MAX);
        self.wait_for_sections();
        self.zap(Gfn::new(0), Gfn::new(u64::MAX), true);
        let result = change();
        self.changes.lower();
        result
    }
}

impl<A: Arch> MemoryEvents for Memory<A> {
    fn invalidate_start(&self, first: u64, end: u64, may_sleep: bool) {
        self.changes.raise(first, end);
        self.wait_for_sections();
        let set = self.slots.read();
        set.for_each_at(first, end, |first, end| self.zap(first, end, may_sleep));
    }

    fn invalidate_end(&self, _first: u64, _end: u64) {
        self.changes.lower();
    }

    fn clear_young(&self, first: u64, end: u64, _flush: bool) -> bool {
        let mut young = false;
        let set = self.slots.read();
        set.for_each_at(first, end, |first, end| {
            young |= self.tables.age(first, end).unwrap_or_else(|| {
                // No accessed bits: what comes back was used.
                let mapped = self.tables.is_young(first, end);
                self.zap(first, end, false);
                mapped
            });
        });
        young
    }

    fn test_young(&self, address: u64) -> bool {
        let mut young = false;
        let set = self.slots.read();
        set.for_each_at(address, address.saturating_add(1), |first, end| {
            young |= self.tables.is_young(first, end);
        });
        young
    }

    fn release(&self) {
        // Nobody can map any more: no thread has the address space.
        self.wait_for_sections();
        self.zap(Gfn::new(0), Gfn::new(u64::MAX), true);
    }
}
