// SPDX-License-Identifier: GPL-2.0
//! How ioctls are made.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// An ioctl whose argument is a number.
pub(super) fn call(file: &File, request: u32, argument: u64) -> Result<i32, Errno> {
    // SAFETY: the callers pass numbers, or addresses of what lives through the call and is as large as
    // the request's number says.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), libc::c_ulong::from(request), argument) };
    Errno::result(answer)
}

/// An ioctl whose argument is a structure that the kernel reads.
pub(super) fn give<T>(file: &File, request: u32, argument: &T) -> Result<i32, Errno> {
    call(file, request, std::ptr::from_ref(argument) as u64)
}

/// An ioctl whose argument is a structure that the kernel reads and writes.
pub(super) fn exchange<T>(file: &File, request: u32, argument: &mut T) -> Result<i32, Errno> {
    call(file, request, std::ptr::from_mut(argument) as u64)
}

/// An ioctl that makes a file.
pub(super) fn make(file: &File, request: u32, argument: u64) -> Result<File, Errno> {
    let descriptor = call(file, request, argument)?;
    // SAFETY: the ioctl just made this descriptor, and nobody else knows it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}
