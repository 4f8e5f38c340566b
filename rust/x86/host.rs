// SPDX-License-Identifier: GPL-2.0
//! What this host can give to guests: found out once, when a vendor module loads.

use crate::vendor::Vendor;
use kernel::prelude::*;
use kvm_policy::{
    cpuid::CpuidRegs,
    feature::{Feature as F, FeatureSet},
    pv::PvFeatures,
    supported::{HostCaps, Supported},
};
use kvm_sys::{
    module_cell::{Filled, ModuleCell},
    x86,
};

static HOST: ModuleCell<Host> = ModuleCell::new();

/// The host's abilities.
pub struct Host {
    /// CPUID features and what depends on them.
    pub supported: Supported,
    /// XCR0 of the host.
    pub xcr0: u64,
}

/// Features that need work outside of `kvm_policy`, and have it.
const FINISHED: &[F] = &[F::HYPERVISOR, F::CONSTANT_TSC, F::UMIP, F::XSAVE, F::PKU];

/// Executes CPUID.
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> CpuidRegs {
    let [eax, ebx, ecx, edx] = x86::cpuid(leaf, subleaf);
    CpuidRegs { eax, ebx, ecx, edx }
}

/// Finds them out; they are there until the result is dropped.
///
/// # Errors
///
/// `EBUSY` if another vendor module is loaded; `ENOMEM`.
pub fn install<V: Vendor>() -> Result<Filled<Host>> {
    let caps = HostCaps {
        finished: FeatureSet::of(FINISHED),
        kernel: FeatureSet::ALL,
        synthesized: FeatureSet::EMPTY,
        xcr0: x86::xcr::supported_xcr0(),
        xss: x86::xcr::supported_xss(),
        pv: PvFeatures::empty(),
        tdp_levels: 4,
    };
    HOST.fill(Host { supported: Supported::new(cpuid, &caps), xcr0: caps.xcr0 })
}

/// What was found.
///
/// # Errors
///
/// `ENODEV` while no vendor module is loaded.
#[inline]
pub(crate) fn get() -> Result<&'static Host> {
    HOST.get().ok_or(ENODEV)
}
