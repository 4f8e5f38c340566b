// SPDX-License-Identifier: GPL-2.0
//! What a CPU keeps of a vCPU between its exits: MSRs that the kernel doesn't use,
//! and what its branch predictors learnt.

use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};
use kvm_sys::{
    irq::IrqOff,
    percpu::PerCpu,
    plain::Plain,
    preempt::Pinned,
    x86::{
        spec_ctrl,
        user_return::{UserMsr, UserReturnMsrs},
    },
};

/// What the CPUs hold.
pub(crate) struct Cpus {
    user_msrs: UserReturnMsrs,
    /// The vCPU that was last in its guest; 0 if none was. Only the CPU itself
    /// reads and writes its own.
    last: PerCpu<Atomic<u64>>,
}

/// A vCPU's side.
pub(crate) struct Presence {
    /// Never used twice.
    id: u64,
    /// TSC_AUX, if the guest can read it.
    tsc_aux: Option<u64>,
    /// What user mode can see isn't what was loaded last.
    stale: bool,
}

impl Cpus {
    /// They hold nothing.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { user_msrs: UserReturnMsrs::new()?, last: PerCpu::new(|_| Ok(Atomic::new(0)))? })
    }

    /// Whether guests can have TSC_AUX.
    pub(crate) fn has_tsc_aux(&self) -> bool {
        self.user_msrs.has(UserMsr::TscAux)
    }

    /// Virtualization is turned on on this CPU.
    pub(crate) fn enable(&self, cpu: Pinned<'_>) {
        self.user_msrs.read_host(cpu);
        self.last.this(cpu).store(0, Relaxed);
    }

    /// Virtualization is turned off on this CPU.
    pub(crate) fn disable(&self, cpu: Pinned<'_>) {
        self.user_msrs.restore_host(cpu);
    }

    /// A vCPU enters its guest on this CPU.
    #[inline]
    pub(crate) fn enter<'a>(
        &self,
        vcpu: &mut Presence,
        msrs: impl FnOnce() -> &'a [(UserMsr, u64)],
        off: &IrqOff,
    ) {
        let cpu = off.pinned();
        let last = self.last.this(cpu);
        if last.get() != vcpu.id {
            last.store(vcpu.id, Relaxed);
            spec_ctrl::vcpu_switched(cpu);
        }
        if self.user_msrs.holder(cpu) != vcpu.id || vcpu.stale {
            self.load(vcpu, msrs(), off);
        }
    }

    fn load(&self, vcpu: &mut Presence, msrs: &[(UserMsr, u64)], off: &IrqOff) {
        let cpu = off.pinned();
        let aux = vcpu.tsc_aux.map(|value| (UserMsr::TscAux, value));
        for (msr, value) in Iterator::chain(msrs.iter().copied(), aux) {
            // The processor has the register and takes every value that the guest
            // may write there.
            let _ = self.user_msrs.set(cpu, msr, value, u64::MAX);
        }
        self.user_msrs.set_holder(cpu, vcpu.id);
        vcpu.stale = false;
    }
}

impl Presence {
    /// That of a new vCPU.
    pub(crate) fn new() -> Self {
        static LAST: Atomic<u64> = Atomic::new(0);
        Self { id: LAST.fetch_add(1, Relaxed).wrapping_add(1), tsc_aux: None, stale: true }
    }

    /// Whether an entry has something to load.
    #[inline]
    pub(crate) fn is_stale(&self) -> bool {
        self.stale
    }

    /// The guest's TSC_AUX is another one, or the guest can read it no longer.
    pub(crate) fn set_tsc_aux(&mut self, value: Option<u64>) {
        self.tsc_aux = value;
        self.stale = true;
    }

    /// The control block has other values of what user mode can see.
    pub(crate) fn msrs_changed(&mut self) {
        self.stale = true;
    }
}
