// SPDX-License-Identifier: GPL-2.0
//! The guest's time-of-day clock: one for the whole VM, kept as its distance from
//! the host's.

use crate::sie::Sie;
use kernel::sync::atomic::Relaxed;
use kvm_core::{request::Request, vm::Vm};
use kvm_sys::s390;

/// vCPUs have to take the distance from the VM.
pub(crate) const SET_EPOCH: Request = Request::of_arch(1);

/// Sets the clock.
pub(crate) fn set(vm: &Vm<Sie>, value: u64) {
    let epoch = value.wrapping_sub(s390::clock::now());
    vm.arch().epoch.store(epoch, Relaxed);
    vm.vcpus().request_all(SET_EPOCH);
}

/// Reads it.
pub(crate) fn get(vm: &Vm<Sie>) -> u64 {
    s390::clock::now().wrapping_add(vm.arch().epoch.load(Relaxed))
}
