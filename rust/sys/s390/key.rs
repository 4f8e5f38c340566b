// SPDX-License-Identifier: GPL-2.0
//! Storage keys of the machine's pages, and what guests that have keys ask of the host.
//!
//! The kernel runs with access key 0, which all keys allow, and looks at no reference or
//! change bit, so a page's key is whoever's the page is.
//!
//! C headers: `arch/s390/include/asm/page.h`, `asm/gmap_helpers.h`, `asm/uaccess.h`.

use crate::gup::{self, Missing, Want};
use kernel::{
    error::{to_result, Error, Result},
    prelude::*,
};
use kvm_paging::addr::{Hva, Pfn, PAGE_SHIFT, PAGE_SIZE};

/// Whether all processors have to see a new key at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// When SSKE is over, none uses the old key any more.
    AtOnce,
    /// None has used the page since it got its owner, so it doesn't matter.
    Later,
}

/// The key of a page. `page` is one of the machine's memory.
pub fn get(page: Pfn) -> u8 {
    // SAFETY: ISKE only reads the key of a page that exists.
    unsafe { kvm_helper_storage_key(page.raw() << PAGE_SHIFT) }
}

/// Sets the key of a page, which is a guest's.
pub fn set(page: Pfn, key: u8, seen: Seen) {
    // SAFETY: The page exists. Keys matter to none but the guest that has it.
    unsafe { kvm_helper_set_storage_key(page.raw() << PAGE_SHIFT, key, seen == Seen::AtOnce) };
}

/// Resets the reference bit of a page, which is a guest's; reference and change bit as
/// they were, as a condition code: 2 and 1.
pub fn reset_reference(page: Pfn) -> u8 {
    // SAFETY: As for `set`.
    unsafe { kvm_helper_reset_reference(page.raw() << PAGE_SHIFT) }
}

/// Gives the current process pages of its own in place of those that are shared without
/// its knowing (zeroes, KSM), now and in future, for a page has one key. Sleeps.
///
/// # Errors
///
/// `ENOMEM`; `EFAULT`.
pub fn disable_sharing() -> Result {
    // SAFETY: The thread has memory; the helper takes its lock.
    to_result(unsafe { kvm_helper_disable_sharing() })
}

/// Replaces aligned bytes, 1, 2, 4, 8 or 16, at a user address by `new` if they are
/// `old`, atomically; whether they were. What was there goes to `old`. Sleeps.
///
/// # Errors
///
/// `EFAULT` if they can't be written; `EINVAL` for another size or alignment; `EINTR` if
/// a signal came meanwhile; `EAGAIN` if others changed bytes around them all the time.
pub fn compare_exchange(address: Hva, old: &mut [u8], new: &[u8]) -> Result<bool> {
    if old.len() != new.len() {
        return Err(EINVAL);
    }
    let page = match gup::get(address, Want::Write, true) {
        Ok(page) => page,
        Err(Missing::Signal) => return Err(EINTR),
        Err(_) => return Err(EFAULT),
    };
    if !page.is_writable() || page.is_device() {
        return Err(EFAULT);
    }
    let at = page.pfn().raw() << PAGE_SHIFT | address.raw() & (PAGE_SIZE - 1);
    // SAFETY: The page is the process's and stays as long as `page`; aligned bytes lie in
    // one. Both slices have as many; the helper checks size and alignment.
    let result = unsafe { kvm_helper_exchange(at, new.len(), old.as_mut_ptr(), new.as_ptr()) };
    page.mapped(true);
    match result {
        0 => Ok(false),
        1 => Ok(true),
        errno => Err(Error::from_errno(errno)),
    }
}

extern "C" {
    fn kvm_helper_storage_key(page: u64) -> u8;
    fn kvm_helper_set_storage_key(page: u64, key: u8, quiesce: bool);
    fn kvm_helper_reset_reference(page: u64) -> u8;
    fn kvm_helper_disable_sharing() -> i32;
    fn kvm_helper_exchange(address: u64, size: usize, old: *mut u8, new: *const u8) -> i32;
}
