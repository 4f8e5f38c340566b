// SPDX-License-Identifier: GPL-2.0
//! The page-modification log (SDM vol. 3, 31.3.6): the processor notes the address of each
//! page whose dirty bit it sets, from the end of the log to its beginning, and exits when
//! it is full.
//!
//! Entries are taken from any CPU, also while the guest runs: an exchange leaves
//! [`TAKEN`] where one was. So an exit has nothing to do with it.

use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Full, Relaxed},
};
use kvm_sys::hw_pages::HwPages;

/// Number of entries.
pub const LOG_ENTRIES: u16 = 512;
/// No page has this address.
const TAKEN: u64 = u64::MAX;

/// The log of one vCPU.
pub struct ModificationLog(HwPages<1>);

impl ModificationLog {
    /// A log without entries.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let mut pages = HwPages::new()?;
        pages.bytes().fill(0xff);
        Ok(Self(pages))
    }

    /// Its address.
    pub fn physical(&self) -> u64 {
        self.0.physical()
    }

    /// Calls `written` with the address of each page that was noted, and of none twice.
    pub fn take(&self, written: &mut dyn FnMut(u64)) {
        let first = self.0.as_ptr().cast::<u64>();
        for index in 0..usize::from(LOG_ENTRIES) {
            // SAFETY: The page is ours and has this many aligned words, which exist as long
            // as `self`. Since `new` they are reached as here only, and by the processor.
            let entry: &Atomic<u64> = unsafe { Atomic::from_ptr(first.add(index).as_ptr()) };
            if entry.load(Relaxed) != TAKEN {
                let address = entry.xchg(TAKEN, Full);
                if address != TAKEN {
                    written(address);
                }
            }
        }
    }
}
