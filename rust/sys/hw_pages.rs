// SPDX-License-Identifier: GPL-2.0
//! Memory that the processor's virtualization hardware reads by its physical
//! address: control blocks, permission maps, save areas.

use core::ptr::NonNull;
use kernel::{bindings, error::Result, ffi::c_void, page::PAGE_SIZE, prelude::*};

/// `PAGES` pages in a row, zero at first, charged to the current memory cgroup.
///
/// # Invariants
///
/// `start` came from `alloc_pages_exact()` with this size, and nobody else has it
/// but the processor.
pub struct HwPages<const PAGES: usize> {
    start: NonNull<u8>,
    /// What the processor is told, computed once.
    physical: u64,
}

// SAFETY: Plain memory with one owner.
unsafe impl<const PAGES: usize> Send for HwPages<PAGES> {}
// SAFETY: `&HwPages` only reads an address.
unsafe impl<const PAGES: usize> Sync for HwPages<PAGES> {}

impl<const PAGES: usize> HwPages<PAGES> {
    const SIZE: usize = PAGES * PAGE_SIZE;

    /// Allocates the pages; may sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        // SAFETY: No preconditions.
        let start = unsafe { kvm_helper_alloc_pages(Self::SIZE) };
        Self::allocated(start)
    }

    /// As [`Self::new`], below 2 GiB, where the processor looks for what it knows by 31
    /// bits.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[cfg(CONFIG_S390)]
    pub fn low() -> Result<Self> {
        // SAFETY: No preconditions.
        let start = unsafe { kvm_helper_alloc_low_pages(Self::SIZE) };
        Self::allocated(start)
    }

    /// What an allocation of this size gave.
    fn allocated(start: *mut c_void) -> Result<Self> {
        let start: NonNull<u8> = NonNull::new(start.cast()).ok_or(ENOMEM)?;
        // SAFETY: The address is of the kernel's linear mapping.
        let physical = unsafe { kvm_helper_physical(start.as_ptr().cast()) };
        // INVARIANT: it was allocated just so.
        Ok(Self { start, physical })
    }

    /// The physical address by which the processor knows them.
    #[inline]
    pub fn physical(&self) -> u64 {
        self.physical
    }

    /// The address of the first byte.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }

    /// The contents. Only for memory that no processor uses at the moment, or
    /// whose use copes with changes between any two bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: By the invariant the memory is ours and this long; it has been
        // initialised.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), Self::SIZE) }
    }
}

impl<const PAGES: usize> Drop for HwPages<PAGES> {
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { bindings::free_pages_exact(self.start.as_ptr().cast(), Self::SIZE) };
    }
}

extern "C" {
    #[cfg(CONFIG_S390)]
    fn kvm_helper_alloc_low_pages(size: usize) -> *mut c_void;
    fn kvm_helper_alloc_pages(size: usize) -> *mut c_void;
    fn kvm_helper_physical(address: *const c_void) -> u64;
}
