// SPDX-License-Identifier: GPL-2.0
//! What an x86 VM has besides what all architectures share.

use crate::{
    host, irqchip::Irqchip, msr_filter::Filter, pv::clock::VmClock, settings::Settings, tsc,
    vendor::Vendor,
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Mutex,
    },
};
use kvm_sys::{preempt::HooksInUse, rcu_cell::RcuCell};

/// The x86 part of a VM.
///
/// Locks: `tsc` is held for a few instructions; nothing is taken inside it. That of
/// `clock` is described there.
#[pin_data]
pub struct VmState<V: Vendor> {
    /// What userspace chose.
    pub settings: Settings,
    /// What the vCPUs' time-stamp counters have in common.
    #[pin]
    pub(crate) tsc: Mutex<tsc::Sync>,
    /// The guest's time.
    #[pin]
    pub(crate) clock: VmClock,
    /// Frequency of the counters of vCPUs to come.
    tsc_khz: Atomic<u32>,
    hooks: HooksInUse,
    /// Which MSRs its guest may access; none: all.
    #[pin]
    pub(crate) msr_filter: RcuCell<Filter>,
    #[pin]
    irqchip: Irqchip<V>,
}

impl<V: Vendor> VmState<V> {
    /// That of a new VM.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            settings: Settings::new(),
            tsc <- new_mutex!(tsc::Sync::default(), "kvm_tsc"),
            clock <- VmClock::new(),
            tsc_khz: Atomic::new(kvm_sys::x86::tsc::khz()),
            hooks: host::get()?.hooks(),
            msr_filter <- RcuCell::new(),
            irqchip <- Irqchip::new(),
        })
    }

    /// Its interrupt controllers.
    #[inline]
    pub(crate) fn irqchip(&self) -> &Irqchip<V> {
        &self.irqchip
    }

    /// That the scheduler tells of vCPUs' threads.
    #[inline]
    pub(crate) fn hooks(&self) -> &HooksInUse {
        &self.hooks
    }

    /// Frequency of the counters of vCPUs to come.
    pub fn tsc_khz(&self) -> u32 {
        self.tsc_khz.load(Relaxed)
    }

    pub(crate) fn set_tsc_khz(&self, khz: u32) {
        self.tsc_khz.store(khz, Relaxed);
    }
}
