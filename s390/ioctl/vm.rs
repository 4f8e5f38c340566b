// SPDX-License-Identifier: GPL-2.0
//! The ioctls of a VM: which function answers which request.

use super::{attr, irq, key, mem_op};
use crate::{sie::Sie, vm::Choice};
use kernel::prelude::*;
use kvm_core::vm::Vm;
use kvm_sys::user;
use kvm_uapi::{
    ioctl::{
        s390::{
            KVM_S390_GET_CMMA_BITS, KVM_S390_GET_SKEYS, KVM_S390_INTERRUPT, KVM_S390_KEYOP,
            KVM_S390_MEM_OP, KVM_S390_SET_CMMA_BITS, KVM_S390_SET_SKEYS,
        },
        KVM_CREATE_IRQCHIP, KVM_GET_DEVICE_ATTR, KVM_HAS_DEVICE_ATTR, KVM_SET_DEVICE_ATTR,
    },
    s390::CmmaLog,
};

pub(crate) fn ioctl(vm: &Vm<Sie>, request: u32, arg: usize) -> Result<u32> {
    match request {
        KVM_S390_INTERRUPT => irq::inject_floating(vm, arg),
        KVM_S390_MEM_OP => mem_op::vm(vm, arg),
        KVM_S390_GET_SKEYS => key::get(vm, arg),
        KVM_S390_SET_SKEYS => key::set(vm, arg),
        KVM_S390_KEYOP => key::operate(vm, arg),
        KVM_S390_GET_CMMA_BITS | KVM_S390_SET_CMMA_BITS => states(arg),
        KVM_CREATE_IRQCHIP => create_irqchip(vm),
        KVM_HAS_DEVICE_ATTR => attr::has(arg),
        KVM_GET_DEVICE_ATTR => attr::get(vm, arg),
        KVM_SET_DEVICE_ATTR => attr::set(vm, arg),
        _ => Err(ENOTTY),
    }
}

/// Collaborative memory management isn't on: no page has a state.
fn states(arg: usize) -> Result<u32> {
    let _: CmmaLog = user::read(arg)?;
    Err(ENXIO)
}

/// There is nothing to be made: the capability is the controller.
fn create_irqchip(vm: &Vm<Sie>) -> Result<u32> {
    if vm.arch().choices.has(Choice::Routes) {
        Ok(0)
    } else {
        Err(EINVAL)
    }
}
