// SPDX-License-Identifier: GPL-2.0
//! /dev/kvm and its ioctls.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use nix::errno::Errno;

/// The device node.
pub(crate) const PATH: &str = "/dev/kvm";

/// Opens the device as a VMM does.
pub(crate) fn open() -> Result<File> {
    OpenOptions::new().read(true).write(true).open(PATH).with_context(|| format!("opening {PATH}"))
}

/// An ioctl whose argument is a number, or the address of something the kernel reads.
pub(crate) fn ioctl(file: &File, request: u32, arg: u64) -> Result<i32, Errno> {
    // SAFETY: no request used here writes to its argument.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), libc::c_ulong::from(request), arg) };
    Errno::result(answer)
}

/// An ioctl whose argument is a structure that the kernel reads.
pub(crate) fn ioctl_with<T>(file: &File, request: u32, argument: &T) -> Result<i32, Errno> {
    ioctl(file, request, std::ptr::from_ref(argument) as u64)
}
