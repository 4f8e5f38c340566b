// SPDX-License-Identifier: GPL-2.0
//! /dev/kvm and its ioctls.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;

/// The device node.
pub const PATH: &str = "/dev/kvm";

/// Opens the device as a VMM does.
pub fn open() -> Result<File> {
    OpenOptions::new().read(true).write(true).open(PATH).with_context(|| format!("opening {PATH}"))
}

/// An ioctl whose argument is a number.
pub fn ioctl(file: &File, request: u32, arg: u64) -> Result<i32, Errno> {
    // SAFETY: the callers pass numbers, or addresses of what lives through the call and is as large as
    // the request's number says.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), libc::c_ulong::from(request), arg) };
    Errno::result(answer)
}

/// An ioctl whose argument is a structure that the kernel reads.
pub fn ioctl_with<T>(file: &File, request: u32, argument: &T) -> Result<i32, Errno> {
    ioctl(file, request, std::ptr::from_ref(argument) as u64)
}

/// An ioctl whose argument is a structure that the kernel reads and writes.
pub fn exchange<T>(file: &File, request: u32, argument: &mut T) -> Result<i32, Errno> {
    ioctl(file, request, std::ptr::from_mut(argument) as u64)
}

/// An ioctl that makes a file.
pub fn make(file: &File, request: u32, arg: u64) -> Result<File, Errno> {
    let descriptor = ioctl(file, request, arg)?;
    // SAFETY: the ioctl just made this descriptor, and nobody else knows it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}
