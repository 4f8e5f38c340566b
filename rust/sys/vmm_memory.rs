// SPDX-License-Identifier: GPL-2.0
//! Bytes at addresses of the current process, for whoever knows such an address
//! from elsewhere (a memory slot).
//!
//! C header: `include/linux/uaccess.h`.

use crate::gup::{self, Missing, Want};
use kernel::{
    error::Result,
    ffi::c_void,
    prelude::*,
    uaccess::{UserPtr, UserSlice},
};
use kvm_paging::addr::{Hva, PAGE_SIZE};

/// Whether a copy may wait for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It may sleep.
    Allowed,
    /// Only what is there at once is copied; any context of the process.
    Never,
}

/// Most bytes that are copied by a few loads: less than what the checks of a copy cost.
const SMALL: usize = 16;

/// Copies `bytes.len()` bytes in.
///
/// # Errors
///
/// `EFAULT` if not all of them can be read; some may have been.
#[inline]
pub fn read(address: Hva, bytes: &mut [u8], wait: Wait) -> Result {
    if wait == Wait::Allowed {
        if bytes.len() <= SMALL {
            // SAFETY: `bytes` is writable; the helper checks the address.
            let errno = unsafe {
                kvm_helper_read_user_small(bytes.as_mut_ptr(), address.raw(), bytes.len())
            };
            return if errno == 0 { Ok(()) } else { Err(EFAULT) };
        }
        return UserSlice::new(pointer(address), bytes.len()).reader().read_slice(bytes);
    }
    // SAFETY: `bytes` is writable; the helper checks the address.
    let left = unsafe {
        kvm_helper_read_user_atomic(bytes.as_mut_ptr().cast(), address.raw(), bytes.len())
    };
    if left == 0 {
        Ok(())
    } else {
        Err(EFAULT)
    }
}

/// Reads eight bytes, at whatever alignment.
///
/// # Errors
///
/// `EFAULT` if they can't be read.
#[cfg(CONFIG_X86_64)]
#[inline]
pub fn read_word(address: Hva, wait: Wait) -> Result<u64> {
    let mut word = 0;
    // SAFETY: `word` is writable; the helpers check the address.
    let errno = unsafe {
        match wait {
            Wait::Allowed => kvm_helper_read_user_word(&mut word, address.raw()),
            Wait::Never => kvm_helper_read_user_word_atomic(&mut word, address.raw()),
        }
    };
    if errno == 0 {
        Ok(word)
    } else {
        Err(EFAULT)
    }
}

/// Copies `bytes` out.
///
/// # Errors
///
/// `EFAULT` if not all of them can be written; some may have been.
#[inline]
pub fn write(address: Hva, bytes: &[u8], wait: Wait) -> Result {
    if wait == Wait::Allowed {
        return UserSlice::new(pointer(address), bytes.len()).writer().write_slice(bytes);
    }
    // SAFETY: `bytes` is readable; the helper checks the address.
    let left =
        unsafe { kvm_helper_write_user_atomic(address.raw(), bytes.as_ptr().cast(), bytes.len()) };
    if left == 0 {
        Ok(())
    } else {
        Err(EFAULT)
    }
}

/// Replaces an aligned number of 1, 2, 4 or 8 bytes if it is `old`, atomically;
/// whether it was. May sleep.
///
/// # Errors
///
/// `EFAULT` if it can't be written; `EINVAL` for another size.
#[cfg(CONFIG_X86_64)]
pub fn compare_exchange(address: Hva, size: usize, old: u64, new: u64) -> Result<bool> {
    // SAFETY: The helper checks the address.
    match unsafe { kvm_helper_cmpxchg_user(address.raw(), size, old, new) } {
        0 => Ok(true),
        1 => Ok(false),
        errno => Err(Error::from_errno(errno)),
    }
}

/// Sets bits of the byte at `address`, atomically; what it was before.
///
/// # Errors
///
/// `EFAULT` if it can't be written, or not at once if it may not wait; `EINTR` if a
/// signal came meanwhile.
pub fn set_bits(address: Hva, bits: u8, wait: Wait) -> Result<u8> {
    let offset = address.raw() & (PAGE_SIZE - 1);
    let page = match (gup::get_fast(address), wait) {
        (Some(page), _) => page,
        (None, Wait::Never) => return Err(EFAULT),
        (None, Wait::Allowed) => match gup::get(address, Want::Write, true) {
            Ok(page) => page,
            Err(Missing::Signal) => return Err(EINTR),
            Err(_) => return Err(EFAULT),
        },
    };
    let old = page.set_bits(offset, bits).ok_or(EFAULT)?;
    page.mapped(true);
    Ok(old)
}

fn pointer(address: Hva) -> UserPtr {
    UserPtr::from_addr(address.raw() as usize)
}

extern "C" {
    fn kvm_helper_read_user_small(to: *mut u8, from: u64, size: usize) -> i32;
    #[cfg(CONFIG_X86_64)]
    fn kvm_helper_read_user_word(to: *mut u64, from: u64) -> i32;
    #[cfg(CONFIG_X86_64)]
    fn kvm_helper_read_user_word_atomic(to: *mut u64, from: u64) -> i32;
    fn kvm_helper_read_user_atomic(to: *mut c_void, from: u64, size: usize) -> usize;
    fn kvm_helper_write_user_atomic(to: u64, from: *const c_void, size: usize) -> usize;
    #[cfg(CONFIG_X86_64)]
    fn kvm_helper_cmpxchg_user(address: u64, size: usize, old: u64, new: u64) -> i32;
}
