// SPDX-License-Identifier: GPL-2.0
//! What is asked of a vCPU while it runs, one bit each.
//!
//! Whoever wants something sets the bit and kicks the vCPU ([`kvm_sys::kick`]);
//! the vCPU's thread takes the bits after it announced that it is about to enter
//! the guest, so that none is left behind.

use kernel::sync::atomic::{Atomic, Full, Relaxed};
use kvm_sys::plain::Plain;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request(u32);

impl Request {
    /// Forget all cached translations of the guest before the next entry.
    pub const FLUSH_TLB: Self = Self(1 << 0);

    /// Do nothing but come out of the guest.
    pub const LOOK: Self = Self(1 << 1);

    /// Leave the guest until userspace has made room in the dirty ring.
    pub(crate) const RING_FULL: Self = Self(1 << 2);

    /// One of the architecture's own, 0 to 23.
    #[inline]
    pub const fn of_arch(number: u32) -> Self {
        assert!(number < 24);
        Self(1_u32.wrapping_shl(number.wrapping_add(8)))
    }
}

/// A set of requests that others add to.
pub struct Requests(Atomic<u32>);

impl Requests {
    /// None.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Adds one; a full barrier.
    #[inline]
    pub fn set(&self, request: Request) {
        let mut old = self.0.load(Relaxed);
        while let Err(now) = self.0.cmpxchg(old, old | request.0, Full) {
            old = now;
        }
    }

    /// Puts back what was taken and can't be served now.
    pub fn put_back(&self, taken: Taken) {
        self.set(Request(taken.0));
    }

    /// What there is, as a number.
    pub fn pending(&self) -> u32 {
        self.0.load(Relaxed)
    }

    /// Whether there is any.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.get_acquire() == 0
    }

    /// Takes all of them.
    #[inline]
    pub fn take(&self) -> Taken {
        if self.is_empty() {
            return Taken(0);
        }
        Taken(self.0.xchg(0, Full))
    }
}

/// Requests that were taken and have to be served.
#[derive(Clone, Copy, Debug)]
#[must_use = "what was asked for would be lost"]
pub struct Taken(u32);

impl Taken {
    /// Whether it is among them.
    #[inline]
    pub const fn has(self, request: Request) -> bool {
        self.0 & request.0 != 0
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
