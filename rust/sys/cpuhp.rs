// SPDX-License-Identifier: GPL-2.0
//! A callback on each CPU as it comes and goes.
//!
//! C header: `include/linux/cpuhotplug.h`; `Documentation/core-api/cpu_hotplug.rst`.

use core::marker::PhantomData;
use kernel::{
    bindings,
    error::{to_result, Result},
    ffi::{c_int, c_uint},
    prelude::*,
};

/// State that each online CPU has.
///
/// Both callbacks run on the CPU in question, in its hotplug thread: they can't
/// be migrated and may sleep.
pub trait CpuState: 'static {
    /// Name that userspace sees in `/sys/devices/system/cpu/hotplug/states`.
    const NAME: &'static CStr;

    /// Brings the state up. An error keeps the CPU offline.
    fn online() -> Result;
    /// Takes it down; can't fail.
    fn offline();
}

/// [`CpuState`] on every online CPU, and on each one that comes later. Dropping
/// it takes the state down everywhere.
///
/// The kernel has one slot for KVM, `CPUHP_AP_KVM_ONLINE`, whose place in the
/// order is right: after timers, before tasks are moved to the CPU.
///
/// # Invariants
///
/// The slot is taken with the callbacks of `T`.
pub struct Registration<T: CpuState>(PhantomData<T>);

const STATE: bindings::cpuhp_state = bindings::cpuhp_state_CPUHP_AP_KVM_ONLINE;

impl<T: CpuState> Registration<T> {
    /// Brings the state up on all online CPUs, or on none.
    ///
    /// # Errors
    ///
    /// The first error of [`CpuState::online`]; `EBUSY` if the slot is taken.
    pub fn new() -> Result<Self> {
        // SAFETY: The name is static, the callbacks live as long as the module,
        // which outlives `Self`, and match the state's prototype.
        to_result(unsafe {
            bindings::__cpuhp_setup_state(
                STATE,
                kernel::str::as_char_ptr_in_const_context(T::NAME),
                true,
                Some(Self::online),
                Some(Self::offline),
                false,
            )
        })?;
        // INVARIANT: the call above took the slot.
        Ok(Self(PhantomData))
    }

    extern "C" fn online(_cpu: c_uint) -> c_int {
        match T::online() {
            Ok(()) => 0,
            Err(err) => err.to_errno(),
        }
    }

    extern "C" fn offline(_cpu: c_uint) -> c_int {
        T::offline();
        0
    }
}

impl<T: CpuState> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the slot is ours.
        unsafe { bindings::__cpuhp_remove_state(STATE, true) };
    }
}
