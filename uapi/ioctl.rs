// SPDX-License-Identifier: GPL-2.0
//! Ioctl numbers and their encoding.
//!
//! A request is a 32-bit word: direction (2 bits), size of the argument (14
//! bits), type (8 bits, [`KVMIO`]) and number (8 bits), as
//! `asm-generic/ioctl.h` lays it out on both architectures.

use core::mem::size_of;

use crate::{irq, memory, vcpu};

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

/// A request that writes a `T` to userspace.
const fn ior<T>(nr: u32) -> u32 {
    encode(DIR_READ, nr, size_of::<T>())
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
    (list $list:ident; $($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
        $($(#[$doc])* pub const $name: u32 = $value;)*

        /// Calls `$callback!` with the names of all ioctls of this module.
        #[macro_export]
        macro_rules! $list {
            ($callback:ident, $module:path) => { $callback! { $module; $($name)* } };
        }
    };
}

#[macro_use]
pub mod s390;
#[macro_use]
pub mod x86;

ioctls! {
    list for_each_ioctl;

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
    /// VM: in-kernel interrupt controllers.
    KVM_CREATE_IRQCHIP = io(0x60);
    /// VM: replaces the routes; a list follows its head of two words.
    KVM_SET_GSI_ROUTING = iow::<[u32; 2]>(0x6a);
    /// VM: binds an eventfd to a line.
    KVM_IRQFD = iow::<irq::Irqfd>(0x76);
    /// VM: binds a guest's write to an eventfd.
    KVM_IOEVENTFD = iow::<irq::Ioeventfd>(0x79);
    /// VM: clears dirty bits of a part of a slot.
    KVM_CLEAR_DIRTY_LOG = iowr::<memory::ClearDirtyLog>(0xc0);
    /// VM: hands harvested entries of the dirty rings back. No argument.
    KVM_RESET_DIRTY_RINGS = io(0xc7);
    /// VM and vCPU: a file with statistics. No argument.
    KVM_GET_STATS_FD = io(0xce);
    /// VM: makes a file of memory.
    KVM_CREATE_GUEST_MEMFD = iowr::<memory::CreateGuestMemfd>(0xd4);
    /// VM: makes a device.
    KVM_CREATE_DEVICE = iowr::<vcpu::CreateDevice>(0xe0);
    /// Device, VM, vCPU: sets an attribute.
    KVM_SET_DEVICE_ATTR = iow::<vcpu::DeviceAttr>(0xe1);
    /// The same files: reads an attribute.
    KVM_GET_DEVICE_ATTR = iow::<vcpu::DeviceAttr>(0xe2);
    /// The same files: whether an attribute is there.
    KVM_HAS_DEVICE_ATTR = iow::<vcpu::DeviceAttr>(0xe3);

    /// vCPU: enters the guest. No argument.
    KVM_RUN = io(0x80);
    /// vCPU: where a guest virtual address leads.
    KVM_TRANSLATE = iowr::<vcpu::Translation>(0x85);
    /// vCPU: the signals that are blocked while it runs; a set follows its size.
    KVM_SET_SIGNAL_MASK = iow::<u32>(0x8b);
    /// vCPU: reads the run state.
    KVM_GET_MP_STATE = ior::<vcpu::MpState>(0x98);
    /// vCPU: sets the run state.
    KVM_SET_MP_STATE = iow::<vcpu::MpState>(0x99);
    /// VM and vCPU: turns a capability on.
    KVM_ENABLE_CAP = iow::<vcpu::EnableCap>(0xa3);
    /// vCPU: reads a register by its id.
    KVM_GET_ONE_REG = iow::<vcpu::OneReg>(0xab);
    /// vCPU: sets a register by its id.
    KVM_SET_ONE_REG = iow::<vcpu::OneReg>(0xac);
    /// vCPU: lists registers that have ids; the ids follow their number.
    KVM_GET_REG_LIST = iowr::<u64>(0xb0);
    /// vCPU: maps memory in advance.
    KVM_PRE_FAULT_MEMORY = iowr::<memory::PreFaultMemory>(0xd5);
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
        assert_eq!(KVM_IOEVENTFD, 0x4040_ae79);
        assert_eq!(x86::KVM_GET_SREGS, 0x8138_ae83);
        assert_eq!(x86::KVM_GET_XSAVE2, 0x9000_aecf);
        assert_eq!(s390::KVM_GET_SREGS, 0x80c0_ae83);
    }

    #[test]
    fn type_byte_survives_encoding() {
        macro_rules! check {
            ($module:path; $($name:ident)*) => {{
                use $module::*;
                $(assert_eq!(type_of($name), KVMIO);)*
            }};
        }
        for_each_ioctl!(check, crate::ioctl);
        for_each_x86_ioctl!(check, crate::ioctl::x86);
        for_each_s390_ioctl!(check, crate::ioctl::s390);
    }
}
