// SPDX-License-Identifier: GPL-2.0
//! The thread that runs a vCPU, for others who want it to have their CPU time.
//!
//! C headers: `include/linux/pid.h`, `include/linux/sched.h`.

use core::ptr::null_mut;
use kernel::{
    bindings,
    ffi::c_int,
    sync::atomic::{Atomic, Relaxed, Release},
};

/// A thread, or none.
///
/// # Invariants
///
/// `pid` is null or holds a reference, which is dropped a grace period after it was
/// replaced.
pub struct Runner {
    pid: Atomic<*mut bindings::pid>,
}

// SAFETY: A `struct pid` may be used from any thread.
unsafe impl Send for Runner {}
// SAFETY: As above.
unsafe impl Sync for Runner {}

impl Runner {
    /// None.
    pub const fn new() -> Self {
        // INVARIANT: null.
        Self { pid: Atomic::new(null_mut()) }
    }

    /// It is the current thread. May sleep. Callers keep each other out.
    #[inline]
    pub fn set_current(&self) {
        // SAFETY: The current task has one.
        if self.pid.load(Relaxed) != unsafe { kvm_helper_current_pid() } {
            self.replace();
        }
    }

    #[cold]
    fn replace(&self) {
        let old = self.pid.load(Relaxed);
        // INVARIANT: the helper takes a reference.
        // SAFETY: As above.
        self.pid.store(unsafe { kvm_helper_get_current_pid() }, Release);
        if !old.is_null() {
            // SAFETY: May sleep, by the contract. Then nobody who found the old one
            // uses it, and the reference is ours.
            unsafe {
                bindings::synchronize_rcu();
                kvm_helper_put_pid(old);
            }
        }
    }

    /// Its number, as the first process sees it; 0 for none.
    pub fn number(&self) -> u32 {
        // SAFETY: By the invariant what is there is valid in an RCU section, which
        // the helper enters.
        unsafe { kvm_helper_pid_number(self.pid.as_ptr()) }
    }

    /// Gives it the current thread's CPU time, if it wants to run and doesn't;
    /// whether it did, or a negative number if that is of no use to anybody. May
    /// sleep.
    pub fn yield_to(&self) -> i32 {
        // SAFETY: By the invariant what is there is valid in an RCU section, which
        // the helper enters.
        unsafe { kvm_helper_yield_to(self.pid.as_ptr()) }
    }
}

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let pid = self.pid.load(Relaxed);
        if !pid.is_null() {
            // SAFETY: Nobody can look here any more, and the reference is ours.
            unsafe { kvm_helper_put_pid(pid) };
        }
    }
}

#[allow(improper_ctypes, reason = "some member is empty in some configurations")]
extern "C" {
    fn kvm_helper_current_pid() -> *mut bindings::pid;
    fn kvm_helper_get_current_pid() -> *mut bindings::pid;
    fn kvm_helper_put_pid(pid: *mut bindings::pid);
    fn kvm_helper_pid_number(slot: *mut *mut bindings::pid) -> u32;
    fn kvm_helper_yield_to(slot: *mut *mut bindings::pid) -> c_int;
}
