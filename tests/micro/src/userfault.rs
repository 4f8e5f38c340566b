// SPDX-License-Identifier: GPL-2.0
//! Memory whose pages come into being when this process says so.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;

use super::ram::Ram;
use crate::Skip;

/// `struct uffdio_api`, `uffdio_register` and `uffdio_copy`.
type Api = [u64; 3];
type Register = [u64; 4];
type Copy = [u64; 5];

const UFFDIO_API: u32 = 0xc018_aa3f;
const UFFDIO_REGISTER: u32 = 0xc020_aa00;
const UFFDIO_COPY: u32 = 0xc028_aa03;

/// The version of the interface.
const VERSION: u64 = 0xaa;
/// Faults on pages that are missing.
const MISSING: u64 = 1;

/// A userfaultfd for one mapping.
pub struct Userfault<'a> {
    file: File,
    ram: &'a Ram,
}

impl<'a> Userfault<'a> {
    /// Takes the missing pages of `ram` over.
    pub fn new(ram: &'a Ram) -> Result<Self> {
        // SAFETY: the system call takes flags only.
        let descriptor = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
        if descriptor < 0 {
            return Err(Skip(format!("userfaultfd: {:?}", Errno::last())).into());
        }
        // SAFETY: the system call just made it.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(descriptor as i32) });
        let fault = Self { file, ram };
        fault.ioctl::<Api>(UFFDIO_API, [VERSION, 0, 0]).context("UFFDIO_API")?;
        let range = [ram.address(), ram.size() as u64, MISSING, 0];
        fault.ioctl::<Register>(UFFDIO_REGISTER, range).context("UFFDIO_REGISTER")?;
        Ok(fault)
    }

    fn ioctl<T>(&self, request: u32, mut argument: T) -> Result<(), Errno> {
        let address = &raw mut argument;
        // SAFETY: the argument lives through the call and has the size that the request's number holds.
        let answer =
            unsafe { libc::ioctl(self.file.as_raw_fd(), libc::c_ulong::from(request), address) };
        Errno::result(answer).map(|_| ())
    }

    /// Waits for somebody to touch a missing page; its offset.
    pub fn wait(&self) -> Result<u64> {
        // `struct uffd_msg`: the address is the third word.
        let mut message = [0u8; 32];
        let length = nix::unistd::read(self.file.as_fd(), &mut message)?;
        ensure!(length == message.len(), "{length} bytes from a userfaultfd");
        let address = u64::from_ne_bytes(message[16..24].try_into()?);
        Ok((address - self.ram.address()) & !0xfff)
    }

    /// Provides the page at `offset`, which begins with `value`.
    pub fn provide(&self, offset: u64, value: u32) -> Result<()> {
        let mut page = vec![0u8; 4096];
        page[..4].copy_from_slice(&value.to_ne_bytes());
        let copy = [self.ram.address() + offset, page.as_ptr() as u64, 4096, 0, 0];
        self.ioctl::<Copy>(UFFDIO_COPY, copy).context("UFFDIO_COPY")
    }
}
