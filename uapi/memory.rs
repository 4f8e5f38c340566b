// SPDX-License-Identifier: GPL-2.0
//! Memory slots and their dirty log.
//!
//! Addresses of the VMM are plain `u64` here: what they mean is decided by the
//! layer that copies a structure in.

use static_assertions::const_assert_eq;
use zerocopy_derive::FromBytes;

bitflags::bitflags! {
    /// `flags` of a memory slot.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MemFlags: u32 {
        /// `KVM_MEM_LOG_DIRTY_PAGES`: keep a dirty log.
        const LOG_DIRTY_PAGES = 1 << 0;
        /// `KVM_MEM_READONLY`: writes exit to userspace as MMIO.
        const READONLY = 1 << 1;
        /// `KVM_MEM_GUEST_MEMFD`: private memory comes from a guest_memfd.
        const GUEST_MEMFD = 1 << 2;
    }
}

/// `struct kvm_userspace_memory_region`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes)]
pub struct UserspaceMemoryRegion {
    /// Slot number in bits 0–15, address space in bits 16–31.
    pub slot: u32,
    /// [`MemFlags`].
    pub flags: u32,
    /// First guest physical address; page aligned.
    pub guest_phys_addr: u64,
    /// Bytes; page aligned. Zero deletes the slot.
    pub memory_size: u64,
    /// Start in the VMM's address space; page aligned.
    pub userspace_addr: u64,
}
const_assert_eq!(size_of::<UserspaceMemoryRegion>(), 32);
/// `struct kvm_userspace_memory_region2`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes)]
pub struct UserspaceMemoryRegion2 {
    /// As in [`UserspaceMemoryRegion`].
    pub slot: u32,
    /// [`MemFlags`].
    pub flags: u32,
    /// As in [`UserspaceMemoryRegion`].
    pub guest_phys_addr: u64,
    /// As in [`UserspaceMemoryRegion`].
    pub memory_size: u64,
    /// As in [`UserspaceMemoryRegion`].
    pub userspace_addr: u64,
    /// Offset into the guest_memfd; page aligned.
    pub guest_memfd_offset: u64,
    /// The guest_memfd, with [`MemFlags::GUEST_MEMFD`].
    pub guest_memfd: u32,
    /// Zero.
    pub pad1: u32,
    /// Zero.
    pub pad2: [u64; 14],
}
const_assert_eq!(size_of::<UserspaceMemoryRegion2>(), 160);

/// `struct kvm_dirty_log`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes)]
pub struct DirtyLog {
    /// Slot number and address space, as in [`UserspaceMemoryRegion`].
    pub slot: u32,
    /// Ignored.
    pub padding1: u32,
    /// Where userspace wants the bitmap, one bit per page.
    pub dirty_bitmap: u64,
}
const_assert_eq!(size_of::<DirtyLog>(), 16);

/// `struct kvm_clear_dirty_log`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes)]
pub struct ClearDirtyLog {
    /// Slot number and address space, as in [`UserspaceMemoryRegion`].
    pub slot: u32,
    /// Pages to clear; a multiple of 64 unless it reaches the slot's end.
    pub num_pages: u32,
    /// First page, relative to the slot; a multiple of 64.
    pub first_page: u64,
    /// The bitmap, one bit per page; set bits are cleared.
    pub dirty_bitmap: u64,
}
const_assert_eq!(size_of::<ClearDirtyLog>(), 24);

/// Calls `$callback!` with each structure of this module, its C name and fields
/// as `(Rust, c_name, { field … })`, for comparison with the kernel's header.
/// Fields within C's anonymous unions are named in the header's own way.
#[macro_export]
macro_rules! for_each_memory_struct {
    ($callback:ident) => {
        $callback! {
            (UserspaceMemoryRegion, kvm_userspace_memory_region,
                { slot flags guest_phys_addr memory_size userspace_addr })
            (UserspaceMemoryRegion2, kvm_userspace_memory_region2,
                { slot flags guest_phys_addr memory_size userspace_addr
                  guest_memfd_offset guest_memfd pad1 pad2 })
            (DirtyLog, kvm_dirty_log, { slot padding1 })
            (ClearDirtyLog, kvm_clear_dirty_log, { slot num_pages first_page })
        }
    };
}
