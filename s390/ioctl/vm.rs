// SPDX-License-Identifier: GPL-2.0
//! The ioctls of a VM: which function answers which request.

use super::irq;
use crate::sie::Sie;
use kernel::prelude::*;
use kvm_core::vm::Vm;
use kvm_uapi::ioctl::s390::KVM_S390_INTERRUPT;

pub(crate) fn ioctl(vm: &Vm<Sie>, request: u32, arg: usize) -> Result<u32> {
    match request {
        KVM_S390_INTERRUPT => irq::inject_floating(vm, arg),
        _ => Err(ENOTTY),
    }
}
