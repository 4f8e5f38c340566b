// SPDX-License-Identifier: GPL-2.0
//! The pages of a file. Each is a folio of its own.

use super::filesystem::State;
use crate::gup::HostPage;
use core::{mem::ManuallyDrop, ptr::NonNull};
use kernel::{
    bindings,
    error::{from_err_ptr, Result},
    prelude::*,
};

/// `FGP_LOCK` and `FGP_CREAT` (`include/linux/pagemap.h`): the folio is wanted locked;
/// it is made if it isn't there.
const LOCK: bindings::fgf_t = 1 << 1;
const CREATE: bindings::fgf_t = 1 << 2;

/// A page of a file, locked: it stays in the file meanwhile.
///
/// # Invariants
///
/// A locked folio of one page in the page cache of a file, with a reference to it.
pub(super) struct Locked(NonNull<bindings::folio>);

/// A page of a file by its number; it is made, with whatever is in it, if it isn't there.
/// Sleeps.
///
/// # Errors
///
/// `ENOMEM`.
///
/// # Safety
///
/// `inode` is one that [`State::of`] takes, and stays.
pub(super) unsafe fn get(inode: *mut bindings::inode, number: u64) -> Result<Locked> {
    let index = number as usize;
    // SAFETY: By this function's contract.
    let (mapping, state) = unsafe { ((*inode).i_mapping, State::of(inode)) };
    // No policy has to be looked for to find what is there.
    // SAFETY: The mapping is the inode's.
    let found = from_err_ptr(unsafe {
        bindings::__filemap_get_folio_mpol(mapping, index, LOCK, 0, core::ptr::null_mut())
    });
    let folio = match found {
        Ok(folio) => folio,
        Err(_) => {
            let policy = state.policies.at(number);
            // SAFETY: As above, of the mapping; the policy is held.
            from_err_ptr(unsafe {
                bindings::__filemap_get_folio_mpol(
                    mapping,
                    index,
                    LOCK | CREATE,
                    (*mapping).gfp_mask,
                    policy.as_ptr(),
                )
            })?
        }
    };
    // INVARIANT: as both calls return it; the mapping allows no larger folios.
    NonNull::new(folio).map(Locked).ok_or(ENOMEM)
}

impl Locked {
    /// Whether the host's hardware reported the page as broken.
    pub(super) fn is_poisoned(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { kvm_helper_folio_is_poisoned(self.0.as_ptr()) }
    }

    /// Zeroes the page if nobody saw it yet.
    pub(super) fn fill(&self) {
        // SAFETY: By the type invariant; the lock keeps others from doing the same.
        unsafe { kvm_helper_folio_fill(self.0.as_ptr()) };
    }

    /// The page, still locked and referenced; both are the caller's to undo.
    pub(super) fn into_page(self) -> *mut bindings::page {
        // A folio begins with its first page.
        ManuallyDrop::new(self).0.as_ptr().cast()
    }

    /// The page, unlocked.
    pub(super) fn into_host_page(self) -> HostPage {
        let folio = ManuallyDrop::new(self).0;
        // SAFETY: By the type invariant it is locked by us.
        unsafe { bindings::folio_unlock(folio.as_ptr()) };
        // SAFETY: The reference goes over. A folio begins with its first page.
        unsafe { HostPage::from_raw(folio.cast(), true) }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is locked by us, and the reference is ours. A
        // folio begins with its first page.
        unsafe {
            bindings::folio_unlock(self.0.as_ptr());
            kvm_helper_put_page(self.0.as_ptr().cast());
        }
    }
}

#[allow(improper_ctypes, reason = "some member is empty in some configurations")]
extern "C" {
    fn kvm_helper_folio_is_poisoned(folio: *mut bindings::folio) -> bool;
    fn kvm_helper_folio_fill(folio: *mut bindings::folio);
    fn kvm_helper_put_page(page: *mut bindings::page);
}
