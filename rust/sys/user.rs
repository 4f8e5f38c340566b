// SPDX-License-Identifier: GPL-2.0
//! Structures of the ABI, copied from and to userspace.

use core::mem::{size_of, MaybeUninit};
use kernel::{
    error::Result,
    prelude::{KVec, GFP_KERNEL},
    uaccess::{UserPtr, UserSlice},
};
use zerocopy::{FromBytes, IntoBytes};

extern "C" {
    fn kvm_helper_is_compat() -> bool;
}

/// Whether the system call comes from a 32-bit program.
pub fn is_32bit() -> bool {
    // SAFETY: It looks at the current task, which is in a system call.
    unsafe { kvm_helper_is_compat() }
}

/// The pointer in a 64-bit field of a structure: a 32-bit program fills in half of it.
pub fn pointer(field: u64) -> usize {
    if is_32bit() {
        field as u32 as usize
    } else {
        field as usize
    }
}

/// Copies a structure in. `address` is an unchecked address of the current
/// process.
///
/// # Errors
///
/// `EFAULT` if not all of it can be read.
pub fn read<T: FromBytes>(address: usize) -> Result<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: A `MaybeUninit` of any type may be seen as uninitialised bytes.
    let bytes = unsafe {
        core::slice::from_raw_parts_mut(
            value.as_mut_ptr().cast::<MaybeUninit<u8>>(),
            size_of::<T>(),
        )
    };
    UserSlice::new(UserPtr::from_addr(address), size_of::<T>()).reader().read_raw(bytes)?;
    // SAFETY: All bytes were written, and `FromBytes` says that any bytes will do.
    Ok(unsafe { value.assume_init() })
}

/// Fills `bytes`.
///
/// # Errors
///
/// `EFAULT` if not all of it can be read; what is in `bytes` then is unspecified.
pub fn read_bytes(address: usize, bytes: &mut [u8]) -> Result {
    UserSlice::new(UserPtr::from_addr(address), bytes.len()).reader().read_slice(bytes)
}

/// Copies bytes out.
///
/// # Errors
///
/// `EFAULT` if not all of it can be written.
pub fn write_bytes(address: usize, bytes: &[u8]) -> Result {
    UserSlice::new(UserPtr::from_addr(address), bytes.len()).writer().write_slice(bytes)
}

/// Copies a structure out.
///
/// # Errors
///
/// `EFAULT` if not all of it can be written.
pub fn write<T: IntoBytes + zerocopy::Immutable>(address: usize, value: &T) -> Result {
    UserSlice::new(UserPtr::from_addr(address), size_of::<T>())
        .writer()
        .write_slice(value.as_bytes())
}

/// Copies `count` words in.
///
/// # Errors
///
/// `EFAULT` if not all of them can be read; `ENOMEM`.
pub fn read_words(address: usize, count: usize) -> Result<KVec<u64>> {
    let mut words = KVec::zeroed(count, GFP_KERNEL)?;
    let size = size_of_val::<[u64]>(&words);
    UserSlice::new(UserPtr::from_addr(address), size)
        .reader()
        .read_slice(words.as_mut_slice().as_mut_bytes())?;
    Ok(words)
}

/// Copies words out.
///
/// # Errors
///
/// `EFAULT` if not all of them can be written.
pub fn write_words(address: usize, words: &[u64]) -> Result {
    let bytes = words.as_bytes();
    UserSlice::new(UserPtr::from_addr(address), bytes.len()).writer().write_slice(bytes)
}
