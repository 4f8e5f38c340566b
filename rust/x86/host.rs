// SPDX-License-Identifier: GPL-2.0
//! What this host can give to guests: found out once, when a vendor module loads.

use crate::{presence::Cpus, pv, speculation, vendor::Vendor};
use kernel::{prelude::*, sync::SetOnce};
use kvm_policy::{
    cpuid::CpuidRegs,
    feature::{Feature as F, FeatureSet},
    msr::spec_ctrl_valid,
    msr_file::{arch_capabilities, FeatureMsrs, DE_CFG_LFENCE, PLATFORM_CPUID_FAULT},
    supported::{HostCaps, Supported},
};
use kvm_sys::{
    module_cell::{Filled, ModuleCell},
    preempt::HooksInUse,
    x86::{
        self,
        l1d::{self, Flush},
        rdmsr,
    },
};
use x86_defs::msr;

static HOST: ModuleCell<Host> = ModuleCell::new();

/// The host's abilities.
pub struct Host {
    /// CPUID features and what depends on them.
    pub supported: Supported,
    /// Values of the MSRs that tell features.
    pub feature_msrs: FeatureMsrs,
    /// Bits of IA32_SPEC_CTRL that some guest can have.
    pub spec_ctrl: u64,
    /// The host's processor has 57-bit linear addresses.
    pub la57: bool,
    /// What the CPUs keep of guests.
    pub(crate) cpus: Cpus,
    /// Scheduling hooks are on from the first VM until the module goes.
    hooks: SetOnce<HooksInUse>,
}

impl Host {
    /// Scheduling hooks for a VM. To turn them on and off patches the scheduler on all CPUs, as long as it takes
    /// to interrupt each of them thrice. So the first VM's stay on, and a host that starts and ends VMs one at
    /// a time isn't disturbed by each. A host without any never pays.
    pub(crate) fn hooks(&self) -> HooksInUse {
        if self.hooks.as_ref().is_none() {
            // Of two VMs that come at once only one keeps its count.
            self.hooks.populate(HooksInUse::new());
        }
        HooksInUse::new()
    }
}

/// Features that need work outside of `kvm_policy`, and have it.
const FINISHED: &[F] = &[
    F::AMD_IBPB,
    F::AMD_IBPB_RET,
    F::AMD_IBRS,
    F::AMD_IBRS_SAME_MODE,
    F::AMD_PSFD,
    F::AMD_SSBD,
    F::AMD_STIBP,
    F::AMD_STIBP_ALWAYS_ON,
    F::BHI_CTRL,
    F::DDPD_U,
    F::FLUSH_L1D,
    F::INTEL_PSFD,
    F::INTEL_STIBP,
    F::IPRED_CTRL,
    F::RRSBA_CTRL,
    F::SPEC_CTRL,
    F::SPEC_CTRL_SSBD,
    F::ARCH_CAPABILITIES,
    F::GP_ON_USER_CPUID,
    F::INVPCID,
    F::LA57,
    F::NO_SMM_CTL_MSR,
    F::TSC_ADJUST,
    F::XSAVES,
    F::HYPERVISOR,
    F::CONSTANT_TSC,
    F::UMIP,
    F::XSAVE,
    F::PKU,
    F::X2APIC,
    F::TSC_DEADLINE,
];

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
    let cpus = Cpus::new()?;
    let mut finished = FeatureSet::of(FINISHED);
    if cpus.has_tsc_aux() {
        finished.insert(F::RDTSCP);
        finished.insert(F::RDPID);
    }
    let words = x86::capabilities();
    let mut kernel = FeatureSet::of_kernel(&words);
    // Words that the kernel doesn't keep count as all enabled, and say nothing.
    let unknown = FeatureSet::of_kernel(&[0; x86::CAPABILITY_WORDS]);
    let speculation = speculation::features();
    if V::AMD && speculation.has(F::VIRT_SSBD) {
        finished.insert(F::VIRT_SSBD);
    }
    let synthesized = kernel.without(&unknown).or(&speculation);
    // Five levels of the guest's own tables depend on the processor only, not on
    // those of the host.
    kernel.insert(F::LA57);
    let caps = HostCaps {
        finished,
        kernel,
        synthesized,
        xcr0: x86::xcr::supported_xcr0(),
        xss: x86::xcr::supported_xss(),
        pv: pv::features(),
        tdp_levels: 4,
    };
    let supported = Supported::new(cpuid, &caps);
    HOST.fill(Host {
        feature_msrs: feature_msrs::<V>(),
        spec_ctrl: spec_ctrl_valid(supported.features()),
        la57: cpuid(7, 0).ecx & F::LA57.mask() != 0,
        cpus,
        hooks: SetOnce::new(),
        supported,
    })
}

/// What the MSRs that tell features say.
fn feature_msrs<V: Vendor>() -> FeatureMsrs {
    let ucode_rev = if V::AMD { AMD_UCODE_REV } else { rdmsr(msr::UCODE_REV).unwrap_or(0) };
    // LFENCE serializes if the host made it so.
    let de_cfg = if V::AMD { rdmsr(msr::DE_CFG).unwrap_or(0) & DE_CFG_LFENCE } else { 0 };
    let host = if V::AMD { 0 } else { rdmsr(msr::ARCH_CAPABILITIES).unwrap_or(0) };
    // A hypervisor in a guest has no L1 data cache to flush, if we do.
    let immune = if l1d::now() == Flush::Never { 0 } else { SKIP_L1D_FLUSH };
    FeatureMsrs {
        arch_capabilities: arch_capabilities(host, immune),
        platform_info: PLATFORM_CPUID_FAULT,
        ucode_rev,
        de_cfg,
    }
}

/// In IA32_ARCH_CAPABILITIES: entries needn't flush the L1 data cache.
const SKIP_L1D_FLUSH: u64 = 1 << 3;

/// Microcode revision of AMD guests; only a guest that looks for errata asks.
pub(crate) const AMD_UCODE_REV: u64 = 0x0100_0065;

/// What was found.
///
/// # Errors
///
/// `ENODEV` while no vendor module is loaded.
#[inline]
pub(crate) fn get() -> Result<&'static Host> {
    HOST.get().ok_or(ENODEV)
}
