// SPDX-License-Identifier: GPL-2.0
//! The memory of a system control area.

use kernel::prelude::*;
use kvm_sys::hw_pages::HwPages;
use s390_arch::sca::{Interlock, SystemControlArea};

const PAGES: usize = size_of::<SystemControlArea>() >> 12;

/// An area, of zeroes but for its interlock. The machine changes it while guests run.
pub struct Area {
    pages: HwPages<PAGES>,
}

impl Area {
    /// A new one; `is_low` for machines that know it by 31 bits.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(is_low: bool) -> Result<Self> {
        let pages = if is_low { HwPages::low()? } else { HwPages::new()? };
        Ok(Self { pages })
    }

    /// What SIE blocks say.
    pub fn physical(&self) -> u64 {
        self.pages.physical()
    }

    /// The interlock in it.
    pub fn interlock(&self) -> &Interlock {
        let area = self.pages.as_ptr().cast::<SystemControlArea>();
        // SAFETY: The pages are as large and as aligned as an area and are ours; nothing
        // of it is referred to but the interlock, which is atomic: the machine, too,
        // changes it by interlocked updates.
        unsafe { &(*area.as_ptr()).interlock }
    }
}
