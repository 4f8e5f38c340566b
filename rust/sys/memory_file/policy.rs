// SPDX-License-Identifier: GPL-2.0
//! On which of the host's memory nodes a file's pages are to be.
//!
//! C header: `include/linux/mempolicy.h`.

use kernel::bindings;
#[cfg(CONFIG_NUMA)]
use {
    crate::bindings as own,
    kernel::{ffi::c_int, types::Opaque},
};

/// What processes chose for ranges of one file (mbind). Not moved once it is set up.
///
/// # Invariants
///
/// Set up by `mpol_shared_policy_init()`, once [`Self::set_up`] was called.
pub(super) struct Policies {
    #[cfg(CONFIG_NUMA)]
    chosen: Opaque<own::shared_policy>,
}

impl Policies {
    /// Not set up.
    pub(super) const fn new() -> Self {
        Self {
            #[cfg(CONFIG_NUMA)]
            chosen: Opaque::uninit(),
        }
    }
}

#[cfg(CONFIG_NUMA)]
impl Policies {
    /// Nothing is chosen yet. Before any other call.
    pub(super) fn set_up(&mut self) {
        // INVARIANT: this very call.
        // SAFETY: The place is writable; without a first policy nothing else is touched.
        unsafe { own::mpol_shared_policy_init(self.chosen.get(), core::ptr::null_mut()) };
    }

    /// Forgets all. The last call.
    pub(super) fn tear_down(&self) {
        // SAFETY: By the type invariant.
        unsafe { own::mpol_free_shared_policy(self.chosen.get()) };
    }

    /// What was chosen for a page; none if nothing was.
    pub(super) fn at(&self, page: u64) -> Policy {
        // SAFETY: By the type invariant; takes its own lock.
        Policy(unsafe { own::mpol_shared_policy_lookup(self.chosen.get(), page as usize) })
    }

    /// A process chooses for what it has mapped at `area`.
    ///
    /// # Safety
    ///
    /// The arguments are those of the kernel's callback.
    pub(super) unsafe fn choose(
        &self,
        area: *mut bindings::vm_area_struct,
        policy: *mut bindings::mempolicy,
    ) -> c_int {
        // SAFETY: By the type invariant, and this function's contract.
        unsafe { own::mpol_set_shared_policy(self.chosen.get(), area, policy) }
    }
}

#[cfg(not(CONFIG_NUMA))]
impl Policies {
    pub(super) fn set_up(&mut self) {}

    pub(super) fn tear_down(&self) {}

    pub(super) fn at(&self, _page: u64) -> Policy {
        Policy(core::ptr::null_mut())
    }
}

/// A policy, referenced if it needs that; null for none.
pub(super) struct Policy(*mut bindings::mempolicy);

impl Policy {
    pub(super) fn as_ptr(&self) -> *mut bindings::mempolicy {
        self.0
    }

    /// Gives the reference, if there is one, to the caller.
    #[cfg(CONFIG_NUMA)]
    pub(super) fn into_raw(self) -> *mut bindings::mempolicy {
        core::mem::ManuallyDrop::new(self).0
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        // SAFETY: Null, or what the lookup returned, which is given back once.
        unsafe { kvm_helper_put_policy(self.0) };
    }
}

extern "C" {
    fn kvm_helper_put_policy(policy: *mut bindings::mempolicy);
}
