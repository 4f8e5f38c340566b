// SPDX-License-Identifier: GPL-2.0
//! Pages that the kernel and userspace see at the same time.

use kernel::{
    alloc::flags::{GFP_KERNEL_ACCOUNT, __GFP_ZERO},
    bindings,
    error::Result,
    page::Page,
};

/// One page, zero at first, charged to the current memory cgroup. Userspace may
/// change it at any moment.
pub struct SharedPage(Page);

impl SharedPage {
    /// Allocates a page.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        Ok(Self(Page::alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO)?))
    }

    /// The page with one more reference, which keeps it past the end of `self`.
    pub(crate) fn take_reference(&self) -> *mut bindings::page {
        let page = self.0.as_ptr();
        // SAFETY: `self` holds a reference, so the page is valid.
        unsafe { kvm_helper_get_page(page) };
        page
    }
}

#[allow(improper_ctypes, reason = "some member is empty in some configurations")]
extern "C" {
    fn kvm_helper_get_page(page: *mut bindings::page);
}
