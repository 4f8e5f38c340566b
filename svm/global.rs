// SPDX-License-Identifier: GPL-2.0
//! What is found out once, when the module loads, and what each CPU has.

use crate::cpu::CpuState;
use kernel::prelude::*;
use kvm_sys::{
    hw_pages::HwPages,
    module_cell::{Filled, ModuleCell},
    percpu::PerCpu,
    x86::spec_ctrl,
};
use svm_arch::caps::SvmCaps;

static GLOBAL: ModuleCell<Global> = ModuleCell::new();

/// What all vCPUs share.
pub(crate) struct Global {
    /// What the processor can do.
    pub(crate) caps: SvmCaps,
    /// The I/O permission map: every port exits.
    pub(crate) iopm: HwPages<3>,
    /// The processor switches the guest's SPEC_CTRL.
    pub(crate) switches_spec_ctrl: bool,
    /// The state of each CPU.
    pub(crate) cpus: PerCpu<CpuState>,
}

/// Makes it available until the result is dropped.
pub(crate) fn install(caps: SvmCaps) -> Result<Filled<Global>> {
    let mut iopm = HwPages::new()?;
    iopm.bytes().fill(0xff);
    let cpus = PerCpu::new(|_cpu| CpuState::new())?;
    GLOBAL.fill(Global { caps, iopm, cpus, switches_spec_ctrl: spec_ctrl::is_switched_by_svm() })
}

/// What was installed.
///
/// # Errors
///
/// `ENODEV` where nothing is: not while the module is loaded.
#[inline]
pub(crate) fn get() -> Result<&'static Global> {
    GLOBAL.get().ok_or(ENODEV)
}
