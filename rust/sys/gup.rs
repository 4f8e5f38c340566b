// SPDX-License-Identifier: GPL-2.0
//! From an address of the current process to the page behind it.
//!
//! For mappings that follow the process's own by MMU notifiers: the reference
//! taken here lasts only until the page is mapped ([`HostPage`]), not while it is.
//!
//! C header: `include/linux/mm.h`; `Documentation/core-api/pin_user_pages.rst`,
//! case 3.

use core::ptr::{self, NonNull};
use kernel::{
    bindings, current,
    error::{to_result, Result},
    ffi::{c_int, c_uint, c_ulong},
};
use kvm_paging::addr::{Hva, Pfn};

use crate::process::AddressSpace;

/// What a page is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// To read it, and nothing else will ever be asked of the mapping.
    Read,
    /// To read it; say whether writing would need no further fault.
    ReadMaybeWrite,
    /// To write to it.
    Write,
}

/// Why there is no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing is mapped there, or not so.
    Fault,
    /// A signal came; nothing happened.
    Signal,
    /// The memory is broken.
    Poisoned,
    /// It takes I/O, and the caller didn't want to wait.
    NeedsIo,
}

/// A page of the process, valid until the notifier says otherwise; the caller
/// checks that before it uses [`Self::pfn`].
///
/// # Invariants
///
/// `page`, if any, holds a reference.
pub struct HostPage {
    pfn: Pfn,
    writable: bool,
    page: Option<NonNull<bindings::page>>,
}

impl HostPage {
    /// A page with a reference to it.
    ///
    /// # Safety
    ///
    /// The reference is the caller's to give away.
    pub(crate) unsafe fn from_raw(page: NonNull<bindings::page>, writable: bool) -> Self {
        // SAFETY: By this function's contract there is a reference.
        let pfn = Pfn::new(unsafe { kvm_helper_page_frame(page.as_ptr()) });
        // INVARIANT: By this function's contract.
        Self { pfn, writable, page: Some(page) }
    }

    /// Its frame.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// Whether it may be written to.
    #[inline]
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether it is device memory rather than RAM.
    pub fn is_device(&self) -> bool {
        // SAFETY: Takes any number.
        unsafe { kvm_helper_is_device_frame(self.pfn.raw()) }
    }

    /// Sets bits of the byte at an offset, atomically; what it was before. `None` for
    /// what isn't RAM. Any context.
    pub fn set_bits(&self, offset: u64, bits: u8) -> Option<u8> {
        let page = self.page.filter(|_| self.writable)?;
        // SAFETY: By the type invariant the page is valid, and pages of the VMM are in
        // the direct mapping; the helper keeps the offset inside.
        Some(unsafe { kvm_helper_page_set_bits(page.as_ptr(), offset as c_uint, bits) })
    }

    /// It was mapped: notes the use, and the writing to come if `dirty`. The host
    /// calls the notifier before it takes the page for clean or unused again.
    #[inline]
    pub fn mapped(self, dirty: bool) {
        if let Some(page) = self.page {
            // SAFETY: By the type invariant the page is valid.
            unsafe { kvm_helper_note_use(page.as_ptr(), dirty) };
        }
    }
}

impl Drop for HostPage {
    #[inline]
    fn drop(&mut self) {
        if let Some(page) = self.page {
            // SAFETY: By the type invariant the reference is ours.
            unsafe { kvm_helper_put_page(page.as_ptr()) };
        }
    }
}

/// Finds the page at `address` of the current process without sleeping, if it is
/// mapped there for writing.
#[inline]
pub fn get_fast(address: Hva) -> Option<HostPage> {
    let mut page = ptr::null_mut();
    // SAFETY: `page` is writable; any address will do.
    let count = unsafe {
        bindings::get_user_pages_fast_only(
            address.raw() as c_ulong,
            1,
            bindings::FOLL_WRITE,
            &mut page,
        )
    };
    // INVARIANT: the reference just taken.
    (count == 1).then(|| with_page(page, true)).flatten()
}

fn with_page(page: *mut bindings::page, writable: bool) -> Option<HostPage> {
    let page = NonNull::new(page)?;
    // SAFETY: The callers hold a reference to the page.
    let pfn = Pfn::new(unsafe { kvm_helper_page_frame(page.as_ptr()) });
    Some(HostPage { pfn, writable, page: Some(page) })
}

/// Finds the page at `address` of the current process; lets the process fault if
/// it isn't there. May sleep, unless for I/O with `wait` off.
///
/// # Errors
///
/// [`Missing`].
pub fn get(address: Hva, want: Want, wait: bool) -> Result<HostPage, Missing> {
    // For reading only, the fast look would see pages that are about to be
    // replaced by a copy.
    if want != Want::Read {
        if let Some(page) = get_fast(address) {
            return Ok(page);
        }
    }
    let write = want == Want::Write;
    let mut flags =
        bindings::FOLL_HWPOISON | bindings::FOLL_HONOR_NUMA_FAULT | bindings::FOLL_INTERRUPTIBLE;
    if write {
        flags |= bindings::FOLL_WRITE;
    }
    if !wait {
        flags |= bindings::FOLL_NOWAIT;
    }
    let mut page = ptr::null_mut();
    // SAFETY: `page` is writable; any address will do.
    let count = unsafe {
        bindings::get_user_pages_unlocked(address.raw() as c_ulong, 1, &mut page, flags as c_uint)
    };
    if count == 1 {
        if want == Want::ReadMaybeWrite {
            if let Some(writable) = get_fast(address) {
                // INVARIANT: the reference just taken.
                drop(with_page(page, false));
                return Ok(writable);
            }
        }
        // INVARIANT: as above.
        return with_page(page, write).ok_or(Missing::Fault);
    }
    match (count as c_int).unsigned_abs() {
        bindings::EINTR => Err(Missing::Signal),
        bindings::EAGAIN if wait => Err(Missing::Signal),
        bindings::EHWPOISON => Err(Missing::Poisoned),
        _ => without_page(address, write, wait),
    }
}

/// Looks for what has no `struct page`: device memory mapped into the process.
fn without_page(address: Hva, write: bool, wait: bool) -> Result<HostPage, Missing> {
    let task = current!();
    let mm = task.mm().ok_or(Missing::Fault)?;
    let guard = mm.mmap_read_lock();
    loop {
        let area = guard.vma_lookup(address.raw() as usize).ok_or(Missing::Fault)?;
        if area.flags() & (bindings::VM_IO | bindings::VM_PFNMAP) == 0 {
            let needed = bindings::VM_READ | if write { bindings::VM_WRITE } else { 0 };
            let is_allowed = area.flags() & needed == needed;
            return Err(if !wait && is_allowed { Missing::NeedsIo } else { Missing::Fault });
        }
        let mut found = bindings::follow_pfnmap_args {
            vma: area.as_ptr(),
            address: address.raw() as c_ulong,
            ..Default::default()
        };
        // SAFETY: The area is valid and can't change while its lock is held.
        if unsafe { bindings::follow_pfnmap_start(&mut found) } != 0 {
            let mut unlocked = false;
            let flags = if write { bindings::fault_flag_FAULT_FLAG_WRITE } else { 0 };
            // SAFETY: The lock is held for reading, and is again on return.
            let result = unsafe {
                bindings::fixup_user_fault(
                    mm.as_raw(),
                    address.raw() as c_ulong,
                    flags,
                    &mut unlocked,
                )
            };
            if unlocked {
                continue;
            }
            to_result(result).map_err(|_| Missing::Fault)?;
            // SAFETY: As before; the lock was kept.
            if unsafe { bindings::follow_pfnmap_start(&mut found) } != 0 {
                return Err(Missing::Fault);
            }
        }
        let (pfn, writable) = (found.pfn, found.writable);
        // SAFETY: Pairs with the successful start.
        unsafe { bindings::follow_pfnmap_end(&mut found) };
        if write && !writable {
            return Err(Missing::Fault);
        }
        // INVARIANT: no page, no reference.
        return Ok(HostPage { pfn: Pfn::new(pfn as u64), writable, page: None });
    }
}

/// log2 of the bytes that one entry of the process's own tables maps at
/// `address`, 12 if it is nothing larger than a page. It may have changed on
/// return: the caller checks with the notifier before it relies on it.
#[inline]
pub fn host_page_shift(space: &AddressSpace, address: Hva) -> u32 {
    // SAFETY: The reference keeps the top of the tables; below it the helper
    // keeps tables from going while it looks.
    unsafe { kvm_helper_host_page_shift(space.as_raw(), address.raw() as c_ulong) }
}

/// Tells the current thread that memory at `address`, which it just used, is
/// broken: SIGBUS.
pub fn signal_poisoned(address: Hva) {
    // SAFETY: The current task is valid.
    unsafe {
        bindings::send_sig_mceerr(
            bindings::BUS_MCEERR_AR as c_int,
            address.raw() as *mut kernel::ffi::c_void,
            kvm_paging::addr::PAGE_SHIFT as i16,
            current!().as_ptr(),
        )
    };
}

#[allow(improper_ctypes, reason = "some member is empty in some configurations")]
extern "C" {
    fn kvm_helper_put_page(page: *mut bindings::page);
    fn kvm_helper_page_frame(page: *mut bindings::page) -> u64;
    fn kvm_helper_page_set_bits(page: *mut bindings::page, offset: c_uint, bits: u8) -> u8;
    fn kvm_helper_note_use(page: *mut bindings::page, dirty: bool);
    fn kvm_helper_is_device_frame(frame: u64) -> bool;
    fn kvm_helper_host_page_shift(mm: *mut bindings::mm_struct, address: c_ulong) -> c_uint;
}
