// SPDX-License-Identifier: GPL-2.0
//! Which guest handles an NMI, on a processor without virtual NMIs.
//!
//! Such a processor doesn't tell when a handler returns: there is no window for the next
//! NMI. The guest is taken to be through with its handler as soon as it can take
//! interrupts, which its IRET mostly makes it, or when it has run for a second.

use kvm_sys::x86::tsc;

/// Whether the guest handles an NMI.
#[derive(Default)]
pub(crate) struct SoftNmi {
    blocked: bool,
    /// The host's TSC at the last entry while it did.
    entered: u64,
    /// Cycles that the guest ran since.
    ran: u64,
}

impl SoftNmi {
    /// Whether it does.
    #[inline]
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Says that it does, or doesn't.
    pub(crate) fn set_blocked(&mut self, blocked: bool) {
        if self.blocked != blocked {
            *self = Self { blocked, ..Self::default() };
        }
    }

    /// The guest is entered.
    pub(crate) fn enter(&mut self) {
        self.entered = tsc::rdtsc();
    }

    /// The guest exited; `open` says whether it can take interrupts.
    pub(crate) fn exited(&mut self, open: bool) {
        self.ran = self.ran.saturating_add(tsc::rdtsc().saturating_sub(self.entered));
        let second = u64::from(tsc::khz()).saturating_mul(1000);
        if open || self.ran > second {
            self.blocked = false;
        }
    }
}
