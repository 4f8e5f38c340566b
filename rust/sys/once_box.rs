// SPDX-License-Identifier: GPL-2.0
//! A value in memory of its own that comes once and stays. As `SetOnce` of the kernel, with a
//! look at it that is a load.

use crate::plain::Plain;
use core::{pin::Pin, ptr};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Full, Relaxed},
};

/// A place for one value.
///
/// # Invariants
///
/// `value` is null or came from a pinned box, and then never changes.
pub struct OnceBox<T> {
    value: Atomic<*mut T>,
}

// SAFETY: It owns a value that may be sent.
unsafe impl<T: Send> Send for OnceBox<T> {}
// SAFETY: It hands out `&T` to any thread, and takes a `T` from any.
unsafe impl<T: Send + Sync> Sync for OnceBox<T> {}

impl<T: Send + Sync> OnceBox<T> {
    /// An empty place.
    #[expect(clippy::new_without_default, reason = "a field of what has no default")]
    pub const fn new() -> Self {
        // INVARIANT: null.
        Self { value: Atomic::new(ptr::null_mut()) }
    }

    /// Puts the value in, unless there is one; whether it did.
    pub fn populate(&self, value: Pin<KBox<T>>) -> bool {
        // SAFETY: It isn't moved until it is dropped.
        let value = KBox::into_raw(unsafe { Pin::into_inner_unchecked(value) });
        // INVARIANT: from a pinned box, in place of null.
        let is_first = self.value.cmpxchg(ptr::null_mut(), value, Full).is_ok();
        if !is_first {
            // SAFETY: It came from a box just now, and nobody else has it.
            drop(unsafe { KBox::from_raw(value) });
        }
        is_first
    }

    /// The value, if it has come.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        let value = self.value.get_acquire();
        // SAFETY: By the invariant it is null or stays as long as `self`.
        unsafe { value.as_ref() }
    }
}

impl<T> Drop for OnceBox<T> {
    fn drop(&mut self) {
        let value = self.value.load(Relaxed);
        if !value.is_null() {
            // SAFETY: By the invariant it came from a box; nobody borrows it any more.
            drop(unsafe { KBox::from_raw(value) });
        }
    }
}
