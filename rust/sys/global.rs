// SPDX-License-Identifier: GPL-2.0
//! Variables of the whole module.

use core::cell::UnsafeCell;

/// A variable that one thread at a time uses. All such variables share one lock,
/// a mutex: a [`Global::with`] within another one waits for itself.
pub struct Global<T>(UnsafeCell<T>);

// SAFETY: The lock keeps others out.
unsafe impl<T: Send> Sync for Global<T> {}

impl<T> Global<T> {
    /// With its first value.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Uses it. Sleeps.
    pub fn with<R>(&self, body: impl FnOnce(&mut T) -> R) -> R {
        struct Locked;
        impl Drop for Locked {
            fn drop(&mut self) {
                // SAFETY: Pairs with the call below.
                unsafe { kvm_helper_unlock_globals() };
            }
        }
        // SAFETY: `Locked` undoes it.
        unsafe { kvm_helper_lock_globals() };
        let _locked = Locked;
        // SAFETY: The lock is held until the reference is gone.
        body(unsafe { &mut *self.0.get() })
    }
}

extern "C" {
    fn kvm_helper_lock_globals();
    fn kvm_helper_unlock_globals();
}
