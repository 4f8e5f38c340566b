// SPDX-License-Identifier: GPL-2.0
//! Structures of the ABI, copied from and to userspace.

use core::mem::{size_of, MaybeUninit};
use kernel::{
    error::Result,
    uaccess::{UserPtr, UserSlice},
};
use zerocopy::{FromBytes, IntoBytes};

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
