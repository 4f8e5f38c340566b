// SPDX-License-Identifier: GPL-2.0
//! Virtualization turned on on every CPU.
//!
//! On while the vendor module is loaded, on each CPU that is online and on those
//! that come later. Off on the way to suspend, reboot and power-off, because
//! firmware can't take over a CPU that ignores INIT. Before suspend all threads are
//! frozen; at reboot and power-off guests may be running.
//!
//! Each CPU's state changes only on that CPU: in its hotplug thread, or with
//! interrupts off around suspend and shutdown. So no lock is needed.

use crate::arch::Arch;
use core::marker::PhantomData;
use kernel::prelude::*;
use kvm_sys::{cpu_set::CpuSet, cpuhp, syscore};

/// CPUs on which virtualization is on. One set is enough: the hotplug slot
/// admits one vendor module.
static ENABLED: CpuSet = CpuSet::new();

/// Virtualization of `A` on all CPUs, until dropped.
#[pin_data]
pub struct Hardware<A: Arch> {
    // Dropped in this order: no suspend may come between.
    #[pin]
    system: syscore::Registration<PerCpu<A>>,
    cpus: cpuhp::Registration<PerCpu<A>>,
}

impl<A: Arch> Hardware<A> {
    /// Turns virtualization on everywhere, or nowhere.
    ///
    /// # Errors
    ///
    /// What the first failing CPU answers; `EBUSY` if another vendor module is
    /// loaded.
    pub fn enable() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            cpus: cpuhp::Registration::new()?,
            system <- syscore::Registration::new(),
        })
    }
}

struct PerCpu<A>(PhantomData<A>);

impl<A: Arch> PerCpu<A> {
    fn enable() -> Result {
        if !ENABLED.add_this_cpu() {
            return Ok(());
        }
        A::enable_cpu().inspect_err(|_| {
            ENABLED.remove_this_cpu();
        })
    }

    fn disable() {
        if ENABLED.remove_this_cpu() {
            A::disable_cpu();
        }
    }
}

impl<A: Arch> cpuhp::CpuState for PerCpu<A> {
    const NAME: &'static CStr = c"kvm/cpu:online";

    fn online() -> Result {
        Self::enable()
    }

    fn offline() {
        Self::disable();
    }
}

impl<A: Arch> syscore::SystemState for PerCpu<A> {
    fn suspend() {
        Self::disable();
    }

    fn resume() {
        // It was on before, on the same CPU; without it no VM could go on, and
        // nobody is there to take the error.
        if let Err(err) = Self::enable() {
            pr_err!("virtualization can't be turned on after resume: {err:?}\n");
        }
    }

    fn shutdown() {
        A::expect_faults();
    }

    fn shutdown_cpu() {
        Self::disable();
    }
}
