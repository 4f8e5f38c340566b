// SPDX-License-Identifier: GPL-2.0
//! Pages that the kernel and userspace see at the same time.

use core::{
    mem::{align_of, size_of},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64},
};
use kernel::{
    alloc::flags::{GFP_KERNEL_ACCOUNT, __GFP_ZERO},
    bindings,
    error::Result,
    page::{Page, PAGE_SIZE},
    prelude::*,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// One page, zero at first, charged to the current memory cgroup. Userspace may
/// change it at any moment, so no reference to its contents is ever made, except to
/// atomic numbers: values are copied in and out, and a value that was read is not what
/// is there now.
///
/// # Invariants
///
/// `contents` is the kernel's address of the page, which is mapped for as long as
/// the page lives.
pub struct SharedPage {
    page: Page,
    contents: NonNull<u8>,
}

// SAFETY: The page may be used from any thread; its contents are accessed with
// volatile copies and atomic operations only.
unsafe impl Send for SharedPage {}
// SAFETY: As above.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// Allocates a page.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let page = Page::alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO)?;
        // SAFETY: The page is valid; all memory of a 64-bit kernel is mapped.
        let contents = unsafe { kvm_helper_page_address(page.as_ptr()) };
        let contents = NonNull::new(contents.cast()).ok_or(ENOMEM)?;
        // INVARIANT: as the invariant says.
        Ok(Self { page, contents })
    }

    /// Copies a value out of the page. `OFFSET`, in bytes, is checked at compile
    /// time: aligned, and all of the value within the page.
    #[inline]
    pub fn read<T: FromBytes + Copy, const OFFSET: usize>(&self) -> T {
        const { assert!(OFFSET % align_of::<T>() == 0 && OFFSET + size_of::<T>() <= PAGE_SIZE) };
        // SAFETY: By the invariant and the assertion the bytes are there and
        // aligned; any bytes make a `T`; volatile, because userspace may write.
        unsafe { self.contents.as_ptr().add(OFFSET).cast::<T>().read_volatile() }
    }

    /// Copies a value into the page; `OFFSET` as for [`Self::read`].
    #[inline]
    pub fn write<T: IntoBytes + Immutable, const OFFSET: usize>(&self, value: T) {
        const { assert!(OFFSET % align_of::<T>() == 0 && OFFSET + size_of::<T>() <= PAGE_SIZE) };
        // SAFETY: As for `read`; userspace may see a value that is half written.
        unsafe { self.contents.as_ptr().add(OFFSET).cast::<T>().write_volatile(value) };
    }

    /// The number of 32 bits at an offset in bytes, if it is aligned and in the page.
    /// Whoever reads it sees what userspace or the kernel stored last, as a whole.
    #[inline]
    pub fn u32_at(&self, offset: usize) -> Option<&AtomicU32> {
        if offset & size_of::<u32>().wrapping_sub(1) != 0
            || offset > PAGE_SIZE.wrapping_sub(size_of::<u32>())
        {
            return None;
        }
        // SAFETY: Aligned and within the page, which by the invariant is there for as
        // long as `self`. The kernel accesses these bytes with atomic and volatile
        // operations only; what userspace does is no access of this program.
        Some(unsafe { AtomicU32::from_ptr(self.contents.as_ptr().add(offset).cast()) })
    }

    /// As [`Self::u32_at`], of 64 bits.
    #[inline]
    pub fn u64_at(&self, offset: usize) -> Option<&AtomicU64> {
        if offset & size_of::<u64>().wrapping_sub(1) != 0
            || offset > PAGE_SIZE.wrapping_sub(size_of::<u64>())
        {
            return None;
        }
        // SAFETY: As in `u32_at`.
        Some(unsafe { AtomicU64::from_ptr(self.contents.as_ptr().add(offset).cast()) })
    }

    /// Copies bytes out of the page, from `offset` on; what lies past its end
    /// reads as zero.
    pub fn read_bytes(&self, offset: usize, bytes: &mut [u8]) {
        for (index, byte) in bytes.iter_mut().enumerate() {
            let at = offset.saturating_add(index);
            *byte = if at < PAGE_SIZE {
                // SAFETY: Within the page, by the invariant.
                unsafe { self.contents.as_ptr().add(at).read_volatile() }
            } else {
                0
            };
        }
    }

    /// Copies bytes into the page, from `offset` on; what lies past its end is
    /// dropped.
    pub fn write_bytes(&self, offset: usize, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            let at = offset.saturating_add(index);
            if at < PAGE_SIZE {
                // SAFETY: Within the page, by the invariant.
                unsafe { self.contents.as_ptr().add(at).write_volatile(*byte) };
            }
        }
    }

    /// The page with one more reference, which keeps it past the end of `self`.
    pub(crate) fn take_reference(&self) -> *mut bindings::page {
        let page = self.page.as_ptr();
        // SAFETY: `self` holds a reference, so the page is valid.
        unsafe { kvm_helper_get_page(page) };
        page
    }
}

#[allow(improper_ctypes, reason = "some member is empty in some configurations")]
extern "C" {
    fn kvm_helper_get_page(page: *mut bindings::page);
    fn kvm_helper_page_address(page: *mut bindings::page) -> *mut kernel::ffi::c_void;
}
