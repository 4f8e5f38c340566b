// SPDX-License-Identifier: GPL-2.0
//! Callbacks at suspend, resume and shutdown of the system.
//!
//! C header: `include/linux/syscore_ops.h`.

use crate::bindings as own;
use core::marker::PhantomData;
use kernel::{
    ffi::{c_int, c_void},
    prelude::*,
    types::Opaque,
};

/// What has to happen around the system's low-power states and its end.
pub trait SystemState: 'static {
    /// Before suspend: runs on the only online CPU, interrupts off.
    fn suspend();
    /// After resume: runs on the only online CPU, interrupts off.
    fn resume();
    /// Before reboot or power-off, ahead of [`Self::shutdown_cpu`]: once.
    fn shutdown();
    /// Before reboot or power-off: runs on every CPU, interrupts off. What the CPU was doing
    /// goes on afterwards.
    fn shutdown_cpu();
}

/// Registered [`SystemState`] callbacks; dropping it removes them.
///
/// # Invariants
///
/// `syscore` is on the kernel's list, with the callbacks of `T`.
#[pin_data(PinnedDrop)]
pub struct Registration<T: SystemState> {
    #[pin]
    syscore: Opaque<own::syscore>,
    _state: PhantomData<T>,
}

// SAFETY: The kernel's list has its own lock, and `&Registration` gives access to
// nothing.
unsafe impl<T: SystemState> Send for Registration<T> {}
// SAFETY: As above.
unsafe impl<T: SystemState> Sync for Registration<T> {}

impl<T: SystemState> Registration<T> {
    const OPS: own::syscore_ops = own::syscore_ops {
        suspend: Some(Self::suspend),
        resume: Some(Self::resume),
        shutdown: Some(Self::shutdown),
    };

    /// Registers the callbacks.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            syscore <- Opaque::ffi_init(|slot: *mut own::syscore| {
                // SAFETY: `slot` is writable by the contract of `ffi_init`, zeroes
                // are valid for a structure of pointers, and the pinned memory
                // stays in place until `drop` takes it off the list.
                // INVARIANT: registering puts it on the list.
                unsafe {
                    slot.write_bytes(0, 1);
                    (*slot).ops = &Self::OPS;
                    own::register_syscore(slot);
                }
            }),
            _state: PhantomData,
        })
    }

    extern "C" fn suspend(_data: *mut c_void) -> c_int {
        T::suspend();
        0
    }

    extern "C" fn resume(_data: *mut c_void) {
        T::resume();
    }

    extern "C" fn shutdown(_data: *mut c_void) {
        T::shutdown();
        // SAFETY: `shutdown_cpu` fits the prototype and ignores its argument;
        // the call waits, so the module can't go away under it.
        unsafe { kvm_helper_on_each_cpu(Some(Self::shutdown_cpu)) };
    }

    extern "C" fn shutdown_cpu(_info: *mut c_void) {
        T::shutdown_cpu();
    }
}

#[pinned_drop]
impl<T: SystemState> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant it is on the list.
        unsafe { own::unregister_syscore(self.syscore.get()) };
    }
}

extern "C" {
    fn kvm_helper_on_each_cpu(function: Option<unsafe extern "C" fn(*mut c_void)>);
}
