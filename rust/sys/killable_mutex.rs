// SPDX-License-Identifier: GPL-2.0
//! A mutex whose waiters can be killed.
//!
//! C header: `include/linux/mutex.h`.

use core::{
    cell::UnsafeCell,
    convert::Infallible,
    ops::{Deref, DerefMut},
};
use kernel::{
    bindings,
    error::Result,
    prelude::*,
    sync::LockClassKey,
    types::{NotThreadSafe, Opaque},
};
use pin_init::Wrapper;

/// Data behind a mutex. Whoever waits for it stops when its process is killed;
/// the `kernel` crate's `Mutex` waits on.
///
/// # Invariants
///
/// `mutex` is initialised. `data` is accessed by its holder only.
#[pin_data]
pub struct KillableMutex<T> {
    #[pin]
    mutex: Opaque<bindings::mutex>,
    #[pin]
    data: UnsafeCell<T>,
}

// SAFETY: The mutex hands its data from thread to thread.
unsafe impl<T: Send> Send for KillableMutex<T> {}
// SAFETY: As above; there is one holder at a time.
unsafe impl<T: Send> Sync for KillableMutex<T> {}

impl<T> KillableMutex<T> {
    /// A mutex around `data`, which is made in place. `key` is for lockdep, one for
    /// each kind of mutex.
    ///
    /// # Errors
    ///
    /// Those of `data`.
    pub fn new<E>(
        data: impl Init<T, E>,
        name: &'static CStr,
        key: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self, E>
    where
        E: From<Infallible>,
    {
        try_pin_init!(Self {
            // SAFETY: The slot is pinned memory for a mutex.
            mutex <- Opaque::ffi_init(|slot| unsafe {
                bindings::__mutex_init(slot, name.as_char_ptr(), key.as_ptr());
            }),
            data <- UnsafeCell::pin_init(data),
        }? E)
    }

    /// The data, for who has the mutex to himself.
    pub fn data_mut(self: Pin<&mut Self>) -> &mut T {
        // SAFETY: The mutex stays where it is; the data is nobody's who counts on its place,
        // as guards give it out unpinned.
        unsafe { self.get_unchecked_mut() }.data.get_mut()
    }

    /// Takes the mutex; may sleep.
    ///
    /// # Errors
    ///
    /// `EINTR` if the process was killed meanwhile.
    pub fn lock(&self) -> Result<Guard<'_, T>> {
        // SAFETY: The mutex is initialised.
        if unsafe { kvm_helper_mutex_lock_killable(self.mutex.get()) } != 0 {
            return Err(EINTR);
        }
        Ok(Guard { mutex: self, _thread: NotThreadSafe })
    }
}

/// The right to use the data of a [`KillableMutex`]; dropping it lets go.
pub struct Guard<'a, T> {
    mutex: &'a KillableMutex<T>,
    _thread: NotThreadSafe,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: The guard's existence means that the mutex is held.
        unsafe { &*self.mutex.data.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: As above, and the guard is borrowed mutably.
        unsafe { &mut *self.mutex.data.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: The guard's thread holds the mutex.
        unsafe { kvm_helper_mutex_unlock(self.mutex.mutex.get()) };
    }
}

#[allow(improper_ctypes, reason = "some member is empty in some configurations")]
extern "C" {
    fn kvm_helper_mutex_lock_killable(mutex: *mut bindings::mutex) -> kernel::ffi::c_int;
    fn kvm_helper_mutex_unlock(mutex: *mut bindings::mutex);
}
