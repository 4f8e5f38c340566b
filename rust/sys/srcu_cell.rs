// SPDX-License-Identifier: GPL-2.0
//! A value that many read while one replaces it.

use crate::plain::Plain;
use core::{ops::Deref, ptr::NonNull};
use kernel::{
    new_srcu,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full},
        srcu, Srcu,
    },
};

/// A boxed value that readers borrow without waiting. Replacing it waits until
/// every reader of the old one is done. Readers may sleep.
///
/// # Invariants
///
/// `value` came from `KBox::into_raw`. Whoever takes it out owns it, after a
/// grace period of `readers`.
#[pin_data(PinnedDrop)]
pub struct SrcuCell<T> {
    #[pin]
    readers: Srcu,
    value: Atomic<*mut T>,
}

// SAFETY: The cell hands out `&T` to any thread and gives back `T` on any thread.
unsafe impl<T: Send + Sync> Send for SrcuCell<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync> Sync for SrcuCell<T> {}

impl<T> SrcuCell<T> {
    /// A cell with a first value.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(value: KBox<T>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            readers <- new_srcu!(),
            // INVARIANT: as the invariant says.
            value: Atomic::new(KBox::into_raw(value)),
        })
    }

    /// Borrows the value; it stays as it is until the borrow ends.
    pub fn read(&self) -> Reader<'_, T> {
        let guard = self.readers.read_lock();
        // SAFETY: By the invariant the pointer is valid, and whoever takes it out
        // waits for `guard`.
        let value = unsafe { NonNull::new_unchecked(self.value.get_acquire()) };
        Reader { value, _guard: guard }
    }

    /// Puts a new value in and returns the old one, once nobody reads it any
    /// more. Sleeps; must not be called while a [`Reader`] of this cell is held.
    pub fn replace(&self, value: KBox<T>) -> KBox<T> {
        // INVARIANT: as the invariant says.
        let old = self.value.xchg(KBox::into_raw(value), Full);
        self.readers.synchronize_expedited();
        // SAFETY: By the invariant `old` came from a box; it was taken out by the
        // exchange alone, and the grace period is over.
        unsafe { KBox::from_raw(old) }
    }
}

#[pinned_drop]
impl<T> PinnedDrop for SrcuCell<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant the pointer came from a box, and nobody can
        // read any more.
        drop(unsafe { KBox::from_raw(self.value.load(Acquire)) });
    }
}

/// A borrowed value of an [`SrcuCell`].
pub struct Reader<'a, T> {
    value: NonNull<T>,
    _guard: srcu::Guard<'a>,
}

impl<T> Deref for Reader<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: The guard keeps the value, and nobody changes it.
        unsafe { self.value.as_ref() }
    }
}
