// SPDX-License-Identifier: GPL-2.0
//! Ioctl numbers and their encoding.
//!
//! A request is a 32-bit word: direction (2 bits), size of the argument (14
//! bits), type (8 bits, [`KVMIO`]) and number (8 bits), as
//! `asm-generic/ioctl.h` lays it out on both architectures.

use core::mem::size_of;

use crate::memory;

/// The type byte of every KVM ioctl.
pub const KVMIO: u32 = 0xae;

const SIZE_BITS: u32 = 14;
const DIR_NONE: u32 = 0;
const DIR_WRITE: u32 = 1;
const DIR_READ: u32 = 2;

const fn encode(dir: u32, nr: u32, size: usize) -> u32 {
    assert!(nr < 1 << 8 && size < 1 << SIZE_BITS);
    dir << 30 | (size as u32) << 16 | KVMIO << 8 | nr
}

/// A request whose argument is a number or nothing.
const fn io(nr: u32) -> u32 {
    encode(DIR_NONE, nr, 0)
}

/// A request that reads a `T` from userspace.
const fn iow<T>(nr: u32) -> u32 {
    encode(DIR_WRITE, nr, size_of::<T>())
}

/// A request that reads a `T` and writes it back.
const fn iowr<T>(nr: u32) -> u32 {
    encode(DIR_READ | DIR_WRITE, nr, size_of::<T>())
}

/// The type byte of a request.
pub const fn type_of(request: u32) -> u32 {
    request >> 8 & 0xff
}

macro_rules! ioctls {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
        $($(#[$doc])* pub const $name: u32 = $value;)*

        /// Calls `$callback!` with the names of all ioctls of this module.
        #[macro_export]
        macro_rules! for_each_ioctl {
            ($callback:ident) => { $callback! { $($name)* } };
        }
    };
}

ioctls! {
    /// /dev/kvm: the version of the ABI. No argument.
    KVM_GET_API_VERSION = io(0x00);
    /// /dev/kvm: makes a VM; the argument is its type.
    KVM_CREATE_VM = io(0x01);
    /// /dev/kvm and VM: whether and how a capability is there.
    KVM_CHECK_EXTENSION = io(0x03);
    /// /dev/kvm: bytes to map of each vCPU fd. No argument.
    KVM_GET_VCPU_MMAP_SIZE = io(0x04);
    /// VM: makes a vCPU; the argument is its id.
    KVM_CREATE_VCPU = io(0x41);
    /// VM: fetches, and without manual protection clears, a slot's dirty bits.
    KVM_GET_DIRTY_LOG = iow::<memory::DirtyLog>(0x42);
    /// VM: adds, moves, changes or deletes a memory slot.
    KVM_SET_USER_MEMORY_REGION = iow::<memory::UserspaceMemoryRegion>(0x46);
    /// VM: the same with a guest_memfd behind the slot.
    KVM_SET_USER_MEMORY_REGION2 = iow::<memory::UserspaceMemoryRegion2>(0x49);
    /// VM: clears dirty bits of a part of a slot.
    KVM_CLEAR_DIRTY_LOG = iowr::<memory::ClearDirtyLog>(0xc0);
    /// vCPU: enters the guest. No argument.
    KVM_RUN = io(0x80);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_published_values() {
        assert_eq!(KVM_GET_API_VERSION, 0x0000_ae00);
        assert_eq!(KVM_SET_USER_MEMORY_REGION, 0x4020_ae46);
        assert_eq!(KVM_SET_USER_MEMORY_REGION2, 0x40a0_ae49);
        assert_eq!(KVM_CLEAR_DIRTY_LOG, 0xc018_aec0);
    }

    #[test]
    fn type_byte_survives_encoding() {
        macro_rules! check {
            ($($name:ident)*) => { $(assert_eq!(type_of($name), KVMIO);)* };
        }
        for_each_ioctl!(check);
    }
}
