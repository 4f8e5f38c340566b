// SPDX-License-Identifier: GPL-2.0
//! What a module finds out when it loads and needs until it is unloaded.
//!
//! Callbacks without an argument (CPU hotplug, suspend) can't be given it, so it
//! hangs on a `static`.

use crate::plain::Plain;
use core::{marker::PhantomData, ptr};
use kernel::{
    error::Result,
    prelude::*,
    sync::atomic::{Atomic, Full},
};

/// A place for one value that lives as long as the module does.
pub struct ModuleCell<T> {
    value: Atomic<*mut T>,
}

// SAFETY: The cell hands out `&T` to any thread and drops `T` on any thread.
unsafe impl<T: Send + Sync> Sync for ModuleCell<T> {}

impl<T: Send + Sync + 'static> ModuleCell<T> {
    /// An empty place.
    #[expect(clippy::new_without_default, reason = "meant for statics")]
    pub const fn new() -> Self {
        Self { value: Atomic::new(ptr::null_mut()) }
    }

    /// Puts the value in. The module keeps what this returns as the last of its
    /// fields: it is dropped when nothing else of the module can run any more.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is a value; `ENOMEM`.
    pub fn fill(&'static self, value: T) -> Result<Filled<T>> {
        let value = KBox::into_raw(KBox::new(value, GFP_KERNEL)?);
        if self.value.cmpxchg(ptr::null_mut(), value, Full).is_err() {
            // SAFETY: It came from a box just now, and nobody else has it.
            drop(unsafe { KBox::from_raw(value) });
            return Err(EBUSY);
        }
        Ok(Filled { cell: self, _value: PhantomData })
    }

    /// The value, while the module is loaded.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        let value = self.value.get_acquire();
        // SAFETY: It is null or came from a box, which lives until `Filled` is
        // dropped; nothing of the module runs then, by its contract.
        unsafe { value.as_ref() }
    }
}

/// A filled [`ModuleCell`]; dropping it empties the cell.
pub struct Filled<T: Send + Sync + 'static> {
    cell: &'static ModuleCell<T>,
    _value: PhantomData<T>,
}

impl<T: Send + Sync + 'static> Drop for Filled<T> {
    fn drop(&mut self) {
        let value = self.cell.value.xchg(ptr::null_mut(), Full);
        if !value.is_null() {
            // SAFETY: It came from a box, and by the contract of `fill` nobody
            // uses it any more.
            drop(unsafe { KBox::from_raw(value) });
        }
    }
}
