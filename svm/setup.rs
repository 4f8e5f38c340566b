// SPDX-License-Identifier: GPL-2.0
//! From the processor's capabilities to a decision to load.

use crate::{control::SvmControl, exit, global, params, KvmAmd};
use kernel::prelude::*;
use kvm_core::{mmu::Paging, vm::Vm};
use kvm_paging::{caps::PagingCaps, entry::MemoryType, format::npt::Npt};
use kvm_sys::{
    preempt::PreemptOff,
    x86::{cpuid, host_has_la57, physical_bits, rdmsr, Extension},
};
use kvm_x86::{
    exit::pause::PauseWindows,
    outcome::Next,
    probe::{probe, Refusal},
    state::Cx,
    vendor::{Quick, Vendor, X86},
};
use svm_arch::caps::{SvmCaps, CPUID_EXT_ECX_SVM, CPUID_EXT_FEATURES, MSR_VM_CR, VM_CR_SVMDIS};
use svm_hw::HostState;

/// AMD SVM.
pub(crate) struct Svm;

impl Vendor for Svm {
    type Module = KvmAmd;
    const EXTENSION: Extension = Extension::Svm;
    const AMD: bool = true;
    const CAN_RUN: bool = true;
    const HAS_SMM: bool = true;
    type Control = SvmControl;

    fn is_present() -> bool {
        let [_, _, ecx, _] = cpuid(CPUID_EXT_FEATURES, 0);
        ecx & CPUID_EXT_ECX_SVM != 0
    }

    fn prepare_cpu() -> Result {
        let global = global::get()?;
        let off = PreemptOff::new();
        global.cpus.this(off.pinned()).host.install(off.pinned())
    }

    fn release_cpu() {
        HostState::remove(PreemptOff::new().pinned());
    }

    fn pause_windows() -> PauseWindows {
        params::pause_windows()
    }

    fn new_control(vm: &Vm<X86<Self>>) -> Result<SvmControl> {
        SvmControl::new(vm)
    }

    #[inline]
    fn quick(control: &SvmControl) -> Option<Quick> {
        exit::quick(control)
    }

    fn handle_exit(cx: &mut Cx<'_, Self>) -> Result<Next> {
        exit::handle(cx)
    }
}

impl Paging for Svm {
    type Format = Npt;
    type Tags = ();
    // The host's MTRRs and the guest's PAT decide.
    const DEVICE_MEMORY: MemoryType = MemoryType::WriteBack;

    fn config() -> Result<(Npt, PagingCaps)> {
        Ok((Npt::new(Self::physical_bits()), global::get()?.caps.paging))
    }

    fn physical_bits() -> u32 {
        physical_bits()
    }
}

/// Refuses a processor that can't run guests, and tells the operator why.
///
/// # Errors
///
/// `EOPNOTSUPP`.
pub(crate) fn check() -> Result<SvmCaps> {
    probe::<Svm>().map_err(|refusal| {
        match refusal {
            Refusal::NotPresent => pr_err!("the processor has no SVM (AMD-V)\n"),
            Refusal::TurnedOff if rdmsr(MSR_VM_CR).is_some_and(|cr| cr & VM_CR_SVMDIS != 0) => {
                pr_err!("SVM is turned off by firmware (VM_CR.SVMDIS); turn it on in its set-up\n");
            }
            Refusal::TurnedOff => pr_err!("SVM is turned off by the kernel; see its boot log\n"),
        }
        EOPNOTSUPP
    })?;
    let mut caps = SvmCaps::read(|leaf| cpuid(leaf, 0), host_has_la57()).map_err(|unusable| {
        pr_err!("{}\n", format_args!("{unusable}"));
        EOPNOTSUPP
    })?;
    params::settle(&mut caps.features);
    pr_info!("nested paging: {}\n", format_args!("{}; {} ASIDs", caps.paging, caps.asids));
    Ok(caps)
}
