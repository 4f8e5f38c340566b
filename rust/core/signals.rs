// SPDX-License-Identifier: GPL-2.0
//! The signals that a vCPU's thread blocks in `KVM_RUN` (`KVM_SET_SIGNAL_MASK`), so
//! that one which is blocked otherwise gets the guest out, without a race.

use kernel::{
    error::Result,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};
use kvm_sys::{plain::Plain, process, user};

/// The mask of a vCPU. Only who holds the vCPU reads and writes it.
pub(crate) struct SignalMask {
    is_set: Atomic<bool>,
    signals: Atomic<u64>,
}

impl SignalMask {
    /// No mask: what the thread blocks is blocked.
    pub(crate) const fn new() -> Self {
        Self { is_set: Atomic::new(false), signals: Atomic::new(0) }
    }

    /// Takes the mask at `arg`, or none if that is 0.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a size that isn't that of a set of signals; `EFAULT`.
    pub(crate) fn set(&self, arg: usize) -> Result<u32> {
        if arg == 0 {
            self.is_set.store(false, Relaxed);
            return Ok(0);
        }
        let length: u32 = user::read(arg)?;
        if length as usize != size_of::<u64>() {
            return Err(EINVAL);
        }
        let signals: [u8; 8] = user::read(arg.wrapping_add(size_of::<u32>()))?;
        self.signals.store(u64::from_ne_bytes(signals), Relaxed);
        self.is_set.store(true, Relaxed);
        Ok(0)
    }

    /// Runs `body` with the mask in force.
    pub(crate) fn with<R>(&self, body: impl FnOnce() -> R) -> R {
        if self.is_set.get() {
            process::with_signals_blocked(self.signals.load(Relaxed), body)
        } else {
            body()
        }
    }
}
