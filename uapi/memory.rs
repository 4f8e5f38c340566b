// SPDX-License-Identifier: GPL-2.0
//! Memory slots, their dirty log, and filling memory in advance.
//!
//! Addresses of the VMM are plain `u64` here: what they mean is decided by the
//! layer that copies a structure in.

/// `flags` of a memory slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemFlags(u32);

bitflags::bitflags! {
    impl MemFlags: u32 {
        /// `KVM_MEM_LOG_DIRTY_PAGES`: keep a dirty log.
        const LOG_DIRTY_PAGES = 1 << 0;
        /// `KVM_MEM_READONLY`: writes exit to userspace as MMIO.
        const READONLY = 1 << 1;
        /// `KVM_MEM_GUEST_MEMFD`: private memory comes from a guest_memfd.
        const GUEST_MEMFD = 1 << 2;
    }
}

/// Argument of `KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2`: `KVM_GET_DIRTY_LOG` doesn't
/// start a log anew (`KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE`).
pub const DIRTY_LOG_MANUAL_PROTECT: u64 = 1 << 0;
/// Also an argument: a new log says that every page is dirty
/// (`KVM_DIRTY_LOG_INITIALLY_SET`).
pub const DIRTY_LOG_INITIALLY_SET: u64 = 1 << 1;

/// `flags` of [`CreateGuestMemfd`]: the file can be mapped, and slots have their memory from
/// it alone.
pub const GUEST_MEMFD_FLAG_MMAP: u64 = 1 << 0;
/// Also one of them: processes may touch what they map.
pub const GUEST_MEMFD_FLAG_INIT_SHARED: u64 = 1 << 1;

/// `flags` of [`DirtyGfn`]: the kernel filled the entry (`KVM_DIRTY_GFN_F_DIRTY`).
pub const DIRTY_GFN_DIRTY: u32 = 1 << 0;
/// `flags` of [`DirtyGfn`]: userspace harvested it (`KVM_DIRTY_GFN_F_RESET`).
pub const DIRTY_GFN_RESET: u32 = 1 << 1;

/// Byte offsets of the fields of [`DirtyGfn`], which the kernel and userspace change at
/// the same time.
pub mod dirty_gfn {
    use super::DirtyGfn;
    use core::mem::offset_of;

    /// `flags`, u32.
    pub const FLAGS: usize = offset_of!(DirtyGfn, flags);
    /// `slot`, u32.
    pub const SLOT: usize = offset_of!(DirtyGfn, slot);
    /// `offset`, u64.
    pub const OFFSET: usize = offset_of!(DirtyGfn, offset);
}

crate::layout::abi_structs! {
    list for_each_memory_struct;

    /// A memory slot. `slot` has its number in bits 0–15 and its address space in
    /// bits 16–31; addresses and size are bytes, page aligned; size 0 deletes.
    UserspaceMemoryRegion = kvm_userspace_memory_region {
        slot: u32,
        flags: u32,
        guest_phys_addr: u64,
        memory_size: u64,
        userspace_addr: u64,
    }
    /// A memory slot that may have a guest_memfd behind it.
    UserspaceMemoryRegion2 = kvm_userspace_memory_region2 {
        slot: u32,
        flags: u32,
        guest_phys_addr: u64,
        memory_size: u64,
        userspace_addr: u64,
        guest_memfd_offset: u64,
        guest_memfd: u32,
        pad1: u32,
        pad2: [u64; 14],
    }
    /// A file of memory to make: bytes, page aligned, and [`GUEST_MEMFD_FLAG_MMAP`] and its
    /// like.
    CreateGuestMemfd = kvm_create_guest_memfd {
        size: u64,
        flags: u64,
        reserved: [u64; 6],
    }
    /// Where to put the dirty bitmap of a slot, one bit for each page.
    DirtyLog = kvm_dirty_log {
        slot: u32,
        padding1: u32,
        __bindgen_anon_1: u64,
    }
    /// Pages of a slot whose dirty bits are cleared where the bitmap has a 1.
    ClearDirtyLog = kvm_clear_dirty_log {
        slot: u32,
        num_pages: u32,
        first_page: u64,
        __bindgen_anon_1: u64,
    }
    /// An entry of a dirty ring: a page of a slot, which is numbered as in
    /// [`UserspaceMemoryRegion`].
    DirtyGfn = kvm_dirty_gfn {
        flags: u32,
        slot: u32,
        offset: u64,
    }
    /// A range of guest memory to map in advance; what is left comes back.
    PreFaultMemory = kvm_pre_fault_memory {
        gpa: u64,
        size: u64,
        flags: u64,
        padding: [u64; 5],
    }
    /// Accesses to collect instead of exiting; `pio` (a bool) picks ports.
    CoalescedMmioZone = kvm_coalesced_mmio_zone {
        addr: u64,
        size: u32,
        __bindgen_anon_1: u32,
    }
}
