// SPDX-License-Identifier: GPL-2.0
//! `KVM_ENABLE_CAP` of a VM, and of a vCPU.

use crate::{
    irqchip,
    msr_filter::seen,
    request,
    settings::{no_exit, quirks, Quirk},
    state::Cx,
    vendor::{Vendor, X86},
};
use kernel::prelude::*;
use kvm_core::vm::Vm;
use kvm_sys::user;
use kvm_uapi::{
    cap::{
        KVM_CAP_DISABLE_QUIRKS, KVM_CAP_DISABLE_QUIRKS2, KVM_CAP_ENFORCE_PV_FEATURE_CPUID,
        KVM_CAP_EXCEPTION_PAYLOAD, KVM_CAP_EXIT_ON_EMULATION_FAILURE, KVM_CAP_MAX_VCPU_ID,
        KVM_CAP_MSR_PLATFORM_INFO, KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X2APIC_API,
        KVM_CAP_X86_APIC_BUS_CYCLES_NS, KVM_CAP_X86_DISABLE_EXITS, KVM_CAP_X86_TRIPLE_FAULT_EVENT,
        KVM_CAP_X86_USER_SPACE_MSR,
    },
    vcpu::EnableCap,
};

pub(crate) fn enable<V: Vendor>(vm: &Vm<X86<V>>, wanted: &EnableCap) -> Result<u32> {
    if wanted.flags != 0 {
        return Err(EINVAL);
    }
    let settings = &vm.arch().settings;
    let [arg, ..] = wanted.args;
    match wanted.cap {
        KVM_CAP_DISABLE_QUIRKS2 if arg & !quirks::<V>() != 0 => return Err(EINVAL),
        // The older one doesn't check the bits.
        KVM_CAP_DISABLE_QUIRKS | KVM_CAP_DISABLE_QUIRKS2 => {
            turn_quirks_off(vm, arg & quirks::<V>());
        }
        // The vCPU that boots has to be among them.
        KVM_CAP_MAX_VCPU_ID if u64::from(settings.boot_cpu()) > arg => return Err(EINVAL),
        KVM_CAP_MAX_VCPU_ID => vm.choose_max_vcpu_id(arg)?,
        KVM_CAP_X86_DISABLE_EXITS => return disable_exits(vm, arg),
        KVM_CAP_MSR_PLATFORM_INFO => settings.set_platform_info(arg != 0),
        KVM_CAP_EXCEPTION_PAYLOAD => settings.set_exception_payload(arg != 0),
        KVM_CAP_SPLIT_IRQCHIP => irqchip::split(vm, arg)?,
        KVM_CAP_X86_APIC_BUS_CYCLES_NS => irqchip::set_bus_cycle(vm, arg)?,
        KVM_CAP_X2APIC_API => irqchip::set_x2apic_api(vm, arg)?,
        KVM_CAP_X86_USER_SPACE_MSR if arg & !u64::from(seen::ALL) != 0 => return Err(EINVAL),
        KVM_CAP_X86_USER_SPACE_MSR => settings.set_seen_msrs(arg as u32),
        KVM_CAP_X86_TRIPLE_FAULT_EVENT => settings.set_triple_fault_event(arg != 0),
        KVM_CAP_EXIT_ON_EMULATION_FAILURE if arg > 1 => return Err(EINVAL),
        KVM_CAP_EXIT_ON_EMULATION_FAILURE => settings.set_exit_on_failure(arg != 0),
        _ => return Err(EINVAL),
    }
    Ok(0)
}

fn turn_quirks_off<V: Vendor>(vm: &Vm<X86<V>>, quirks: u64) {
    vm.arch().settings.add_quirks_off(quirks);
    if quirks & Quirk::IgnoreGuestPat as u64 != 0 {
        vm.follow_guest_types();
    }
    for vcpu in vm.vcpus().iter() {
        vcpu.request(request::QUIRKS);
    }
}

/// `KVM_ENABLE_CAP` of a vCPU.
///
/// # Errors
///
/// `EFAULT`; `EINVAL` for flags, and for what can't be turned on.
pub(crate) fn enable_vcpu<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let EnableCap { cap, flags, args: [wanted, ..], .. } = user::read(arg)?;
    if flags != 0 {
        return Err(EINVAL);
    }
    match cap {
        KVM_CAP_ENFORCE_PV_FEATURE_CPUID => cx.state.pv.enforced = wanted != 0,
        _ => return Err(EINVAL),
    }
    Ok(0)
}

/// # Errors
///
/// `EINVAL` for instructions that have to exit, or if there are vCPUs.
fn disable_exits<V: Vendor>(vm: &Vm<X86<V>>, which: u64) -> Result<u32> {
    let which = u32::try_from(which).map_err(|_| EINVAL)?;
    if which & !no_exit::allowed() != 0 {
        return Err(EINVAL);
    }
    vm.with_creation_locked(|| {
        if vm.vcpus().count() != 0 {
            return Err(EINVAL);
        }
        vm.arch().settings.set_no_exits(which);
        Ok(0)
    })
}
