// SPDX-License-Identifier: GPL-2.0
//! From the processor's capabilities to a decision to load.

use crate::{control::VmxControl, exit, global, params, KvmIntel};
use kernel::prelude::*;
use kvm_core::{mmu::Paging, vm::Vm};
use kvm_paging::{caps::PagingCaps, entry::MemoryType, format::ept::Ept};
use kvm_sys::x86::{cpuid, physical_bits, rdmsr, Extension};
use kvm_x86::{
    exit::pause::PauseWindows,
    outcome::Next,
    probe::{probe, Refusal},
    state::Cx,
    vendor::{Quick, Vendor, X86},
};
use vmx_arch::caps::{
    Unusable, VmxCaps, CPUID_ECX_VMX, CPUID_FEATURES, FEATURE_CONTROL_LOCKED,
    FEATURE_CONTROL_VMXON, MSR_FEATURE_CONTROL,
};
use vmx_arch::config::Config;

/// Intel VMX.
pub(crate) struct Vmx;

impl Vendor for Vmx {
    type Module = KvmIntel;
    const EXTENSION: Extension = Extension::Vmx;
    const AMD: bool = false;
    const CAN_RUN: bool = true;
    const HAS_SMM: bool = true;
    type Control = VmxControl;

    fn is_present() -> bool {
        let [_, _, ecx, _] = cpuid(CPUID_FEATURES, 0);
        ecx & CPUID_ECX_VMX != 0
    }

    fn prepare_cpu() -> Result {
        global::get()?.check_cpu()
    }

    fn release_cpu() {
        if let Ok(global) = global::get() {
            global.release_cpu();
        }
    }

    fn pause_windows() -> PauseWindows {
        params::pause_windows()
    }

    fn new_control(vm: &Vm<X86<Self>>) -> Result<VmxControl> {
        VmxControl::new(vm)
    }

    #[inline]
    fn quick(control: &VmxControl) -> Option<Quick> {
        exit::quick(control)
    }

    fn handle_exit(cx: &mut Cx<'_, Self>) -> Result<Next> {
        exit::handle(cx)
    }
}

impl Paging for Vmx {
    type Format = Ept;
    type Tags = ();
    // The type in the table is all there is.
    const DEVICE_MEMORY: MemoryType = MemoryType::Uncached;
    const ORDINARY_MEMORY: MemoryType = MemoryType::AlwaysWriteBack;

    fn config() -> Result<(Ept, PagingCaps)> {
        let caps = global::get()?.caps.paging;
        Ok((Ept::new(caps.accessed_dirty), caps))
    }

    fn physical_bits() -> u32 {
        physical_bits()
    }
}

/// Whether firmware locked IA32_FEATURE_CONTROL with VMXON forbidden.
fn locked_out() -> bool {
    rdmsr(MSR_FEATURE_CONTROL).is_some_and(|control| {
        control & (FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON) == FEATURE_CONTROL_LOCKED
    })
}

/// What this CPU can do, and what its control structures begin with.
pub(crate) fn this_cpu() -> Result<(VmxCaps, Config), Unusable> {
    let wanted = params::wanted();
    let caps = VmxCaps::read(rdmsr)?.with(wanted);
    Ok((caps, Config::new(&caps, wanted, rdmsr)?))
}

/// Refuses a processor that can't run guests, and tells the operator why.
///
/// # Errors
///
/// `EOPNOTSUPP`.
pub(crate) fn check() -> Result<(VmxCaps, Config)> {
    probe::<Vmx>().map_err(|refusal| {
        match refusal {
            Refusal::NotPresent => pr_err!("the processor has no VMX (VT-x)\n"),
            Refusal::TurnedOff if locked_out() => {
                pr_err!(
                    "VMX is turned off by firmware (FEATURE_CONTROL); turn it on in its set-up\n"
                );
            }
            Refusal::TurnedOff => pr_err!("VMX is turned off by the kernel; see its boot log\n"),
        }
        EOPNOTSUPP
    })?;
    let (caps, config) = this_cpu().map_err(|unusable| {
        pr_err!("{}\n", format_args!("{unusable}"));
        EOPNOTSUPP
    })?;
    params::settle(&caps, &config);
    pr_info!("extended page tables: {}\n", format_args!("{}", caps.paging));
    Ok((caps, config))
}

/// Whether the host itself runs on a hypervisor.
pub(crate) fn is_nested() -> bool {
    /// In ECX of the leaf.
    const HYPERVISOR: u32 = 1 << 31;
    let [_, _, ecx, _] = cpuid(CPUID_FEATURES, 0);
    ecx & HYPERVISOR != 0
}
