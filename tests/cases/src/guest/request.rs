// SPDX-License-Identifier: GPL-2.0
//! The ioctls by number, and how they are made.
//!
//! Numbers and structures come from the crate `kvm-bindings`, which was made from the kernel's headers:
//! what the modules' own ABI crate says is not believed here but tested.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use kvm_bindings as abi;
use nix::errno::Errno;

/// An ioctl that takes a number or nothing.
const fn number(nr: u32) -> u32 {
    0xae00 | nr
}

const fn write<T>(nr: u32) -> u32 {
    number(nr) | 1 << 30 | (size_of::<T>() as u32) << 16
}

const fn read<T>(nr: u32) -> u32 {
    number(nr) | 2 << 30 | (size_of::<T>() as u32) << 16
}

const fn both<T>(nr: u32) -> u32 {
    number(nr) | 3 << 30 | (size_of::<T>() as u32) << 16
}

/// The head of a list: two words. The entries behind it are not part of the number.
type Head = [u32; 2];

macro_rules! requests {
    ($($name:ident = $value:expr;)*) => { $(pub(super) const $name: u32 = $value;)* };
}

requests! {
    CREATE_VM = number(0x01);
    CHECK_EXTENSION = number(0x03);
    GET_VCPU_MMAP_SIZE = number(0x04);
    GET_SUPPORTED_CPUID = both::<Head>(0x05);

    CREATE_VCPU = number(0x41);
    SET_USER_MEMORY_REGION = write::<abi::kvm_userspace_memory_region>(0x46);
    SET_TSS_ADDR = number(0x47);
    ENABLE_CAP = write::<abi::kvm_enable_cap>(0xa3);

    RUN = number(0x80);
    GET_REGS = read::<abi::kvm_regs>(0x81);
    SET_REGS = write::<abi::kvm_regs>(0x82);
    GET_SREGS = read::<abi::kvm_sregs>(0x83);
    SET_SREGS = write::<abi::kvm_sregs>(0x84);
    GET_MSRS = both::<Head>(0x88);
    SET_MSRS = write::<Head>(0x89);
    SET_CPUID2 = write::<Head>(0x90);
}

/// An ioctl whose argument is a number.
pub(super) fn call(file: &File, request: u32, argument: u64) -> Result<i32, Errno> {
    // SAFETY: the callers below pass numbers, or addresses of what lives through the call and is as
    // large as the request's number says.
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

/// An ioctl that fills a structure.
pub(super) fn take<T: Default>(file: &File, request: u32) -> Result<T, Errno> {
    let mut value = T::default();
    exchange(file, request, &mut value)?;
    Ok(value)
}

/// An ioctl that makes a file.
pub(super) fn make(file: &File, request: u32, argument: u64) -> Result<File, Errno> {
    let descriptor = call(file, request, argument)?;
    // SAFETY: the ioctl just made this descriptor, and nobody else knows it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}
