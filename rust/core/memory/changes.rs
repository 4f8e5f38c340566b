// SPDX-License-Identifier: GPL-2.0
//! Which parts of the VMM's memory change right now.
//!
//! The other half of the protocol that lets faults map pages without a lock. A
//! fault
//!
//! 1. takes note of the count of changes ([`Changes::begin`]), and gives up if its
//!    address changes right now,
//! 2. finds the page, which may sleep,
//! 3. enters its map section, and looks again ([`Changes::is_current`]),
//! 4. maps, and leaves the section.
//!
//! A change (MMU notifier) raises its flag, waits for all sections, removes what
//! is mapped, and lowers the flag when it is done, counting itself. A fault whose
//! section begins after the flag went up sees it, or the count; the page of one
//! that began earlier is mapped by the time the change removes what is mapped.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use kernel::{new_spinlock, prelude::*, sync::SpinLock};

/// Changes under way and done.
#[pin_data]
pub(crate) struct Changes {
    /// Orders the writers; innermost lock.
    #[pin]
    writing: SpinLock<()>,
    /// Changes that are done.
    done: AtomicU64,
    /// Changes under way, and a range of addresses that covers all of them.
    under_way: AtomicU32,
    first: AtomicU64,
    end: AtomicU64,
}

/// The count of changes when a fault began.
#[derive(Clone, Copy)]
pub(crate) struct Seen(u64);

impl Changes {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            writing <- new_spinlock!((), "kvm_changes"),
            done: AtomicU64::new(0),
            under_way: AtomicU32::new(0),
            first: AtomicU64::new(0),
            end: AtomicU64::new(0),
        })
    }

    /// A change of the addresses from `first` up to `end` is under way. The
    /// caller then waits for all map sections.
    pub(crate) fn raise(&self, first: u64, end: u64) {
        let _writing = self.writing.lock();
        let count = self.under_way.load(Relaxed);
        let (first, end) = if count == 0 {
            (first, end)
        } else {
            (first.min(self.first.load(Relaxed)), end.max(self.end.load(Relaxed)))
        };
        // Release, as the count below: whoever sees a new range or count sees what
        // was counted as done before.
        self.first.store(first, Release);
        self.end.store(end, Release);
        self.under_way.store(count.wrapping_add(1), Release);
    }

    /// One of the changes is done.
    pub(crate) fn lower(&self) {
        let _writing = self.writing.lock();
        self.done.store(self.done.load(Relaxed).wrapping_add(1), Release);
        self.under_way.store(self.under_way.load(Relaxed).wrapping_sub(1), Release);
    }

    /// The begin of a fault at an address; `None` if it changes right now.
    #[inline]
    pub(crate) fn begin(&self, address: u64) -> Option<Seen> {
        let seen = Seen(self.done.load(Acquire));
        let end = address.wrapping_add(1);
        (!self.is_changing(address, end)).then_some(seen)
    }

    /// Whether nothing that concerns the addresses from `first` up to `end` has
    /// changed since. Inside a map section.
    #[inline]
    pub(crate) fn is_current(&self, seen: Seen, first: u64, end: u64) -> bool {
        // The order matters: a range that belongs to a later change than the count
        // says comes with the count of those before it.
        !self.is_changing(first, end) && self.done.load(Acquire) == seen.0
    }

    #[inline]
    fn is_changing(&self, first: u64, end: u64) -> bool {
        self.under_way.load(Acquire) != 0
            && first < self.end.load(Acquire)
            && self.first.load(Acquire) < end
    }
}
