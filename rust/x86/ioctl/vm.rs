// SPDX-License-Identifier: GPL-2.0
//! The x86 ioctls of a VM: which function answers which request.

use super::{clock, irqchip};
use crate::{
    msr_filter,
    vendor::{Vendor, X86},
};
use kernel::{prelude::*, sync::ArcBorrow};
use kvm_core::vm::Vm;
use kvm_sys::user;
use kvm_uapi::ioctl::x86::{
    KVM_GET_CLOCK, KVM_GET_TSC_KHZ, KVM_SET_BOOT_CPU_ID, KVM_SET_CLOCK, KVM_SET_IDENTITY_MAP_ADDR,
    KVM_SET_NR_MMU_PAGES, KVM_SET_TSC_KHZ, KVM_SET_TSS_ADDR, KVM_X86_SET_MSR_FILTER,
    KVM_X86_SET_MSR_FILTER_COMPAT,
};

pub(crate) fn ioctl<V: Vendor>(
    vm: ArcBorrow<'_, Vm<X86<V>>>,
    request: u32,
    arg: usize,
) -> Result<u32> {
    match request {
        KVM_SET_TSS_ADDR => set_tss_address(arg),
        KVM_SET_IDENTITY_MAP_ADDR => set_identity_map(&vm, arg),
        KVM_SET_BOOT_CPU_ID => set_boot_cpu(&vm, arg),
        KVM_SET_NR_MMU_PAGES => limit_shadow_pages(arg),
        KVM_X86_SET_MSR_FILTER => msr_filter::set(&vm, arg),
        KVM_X86_SET_MSR_FILTER_COMPAT if user::is_32bit() => msr_filter::set_compat(&vm, arg),
        KVM_GET_CLOCK => clock::get(&vm, arg),
        KVM_SET_CLOCK => clock::set(&vm, arg),
        KVM_GET_TSC_KHZ => Ok(vm.arch().tsc_khz()),
        KVM_SET_TSC_KHZ => clock::set_tsc_khz(&vm, arg),
        _ => irqchip::ioctl(&vm, request, arg).unwrap_or(Err(ENOTTY)),
    }
}

/// Processors that can enter real mode need no TSS for it.
///
/// # Errors
///
/// `EINVAL` if three pages from there on don't end below 4 GiB.
fn set_tss_address(arg: usize) -> Result<u32> {
    const LAST: usize = 0xffff_d000;
    if arg > LAST {
        return Err(EINVAL);
    }
    Ok(0)
}

/// Nor a page table.
///
/// # Errors
///
/// `EINVAL` if there are vCPUs; `EFAULT`.
fn set_identity_map<V: Vendor>(vm: &Vm<X86<V>>, arg: usize) -> Result<u32> {
    let _: u64 = user::read(arg)?;
    vm.with_creation_locked(|| if vm.vcpus().count() == 0 { Ok(0) } else { Err(EINVAL) })
}

/// # Errors
///
/// `EINVAL` for an id that no vCPU can have; `EBUSY` if there are vCPUs.
fn set_boot_cpu<V: Vendor>(vm: &Vm<X86<V>>, arg: usize) -> Result<u32> {
    vm.with_creation_locked(|| {
        if vm.vcpus().count() != 0 {
            return Err(EBUSY);
        }
        let id = u32::try_from(arg).map_err(|_| EINVAL)?;
        // The first one that no vCPU can have means none.
        if id > vm.max_vcpu_id() {
            return Err(EINVAL);
        }
        vm.arch().settings.set_boot_cpu(id);
        Ok(0)
    })
}

/// There are no shadow pages, so any limit holds.
///
/// # Errors
///
/// `EINVAL` for fewer than a processor needs.
fn limit_shadow_pages(arg: usize) -> Result<u32> {
    const LEAST: usize = 64;
    if arg < LEAST {
        return Err(EINVAL);
    }
    Ok(0)
}
