// SPDX-License-Identifier: GPL-2.0
//! `KVM_GET_CLOCK` and `KVM_SET_CLOCK`, `KVM_GET_TSC_KHZ` and `KVM_SET_TSC_KHZ` of a
//! VM.

use crate::{
    pv::clock,
    tsc,
    vendor::{Vendor, X86},
};
use kernel::prelude::*;
use kvm_core::vm::Vm;
use kvm_sys::user;

pub(crate) fn get<V: Vendor>(vm: &Vm<X86<V>>, arg: usize) -> Result<u32> {
    user::write(arg, &clock::get(vm)).map(|()| 0)
}

pub(crate) fn set<V: Vendor>(vm: &Vm<X86<V>>, arg: usize) -> Result<u32> {
    clock::set(vm, &user::read(arg)?).map(|()| 0)
}

/// The frequency that vCPUs to come get.
///
/// # Errors
///
/// `EINVAL` for one that they can't have, or if there are vCPUs.
pub(crate) fn set_tsc_khz<V: Vendor>(vm: &Vm<X86<V>>, arg: usize) -> Result<u32> {
    let khz = tsc::checked_khz(arg)?;
    vm.with_creation_locked(|| {
        if vm.vcpus().count() != 0 {
            return Err(EINVAL);
        }
        vm.arch().set_tsc_khz(khz);
        Ok(0)
    })
}
