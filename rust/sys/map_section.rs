// SPDX-License-Identifier: GPL-2.0
//! Short sections in which a vCPU maps pages, and waiting for those of others.
//!
//! A section can't sleep and isn't preempted, so waiting for its end is short and
//! may be done anywhere. What is changed before [`MapSection::wait`] is seen by
//! every section that begins afterwards; those that began earlier are over when
//! it returns.

use crate::preempt::PreemptOff;
use core::{
    hint,
    sync::atomic::{fence, AtomicU32, Ordering},
};

/// Whether one vCPU is in its section. To be kept on a cache line that is mostly
/// the vCPU's own.
///
/// Odd inside; each section has its own odd number.
#[derive(Default)]
pub struct MapSection(AtomicU32);

impl MapSection {
    /// Outside.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Begins the section. Only one thread at a time may use a `MapSection` for
    /// this; a second one would make waiters miss the first.
    #[inline]
    pub fn enter(&self) -> Inside<'_> {
        let preempt = PreemptOff::new();
        let inside = self.0.load(Ordering::Relaxed) | 1;
        // A full barrier: either whoever waits sees us inside, or we see what he
        // changed before.
        self.0.swap(inside, Ordering::SeqCst);
        Inside { section: self, _preempt: preempt }
    }

    /// Waits until a section that was entered before is over. The caller has made
    /// its change visible with [`publish`].
    #[inline]
    pub fn wait(&self) {
        let seen = self.0.load(Ordering::Acquire);
        if seen & 1 == 0 {
            return;
        }
        while self.0.load(Ordering::Acquire) == seen {
            hint::spin_loop();
        }
    }
}

/// Orders what was written before against the looks of [`MapSection::wait`].
#[inline]
pub fn publish() {
    fence(Ordering::SeqCst);
}

/// Proof that a section lasts; ends it when dropped.
pub struct Inside<'a> {
    section: &'a MapSection,
    _preempt: PreemptOff,
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        let inside = self.section.0.load(Ordering::Relaxed);
        self.section.0.store(inside.wrapping_add(1), Ordering::Release);
    }
}
