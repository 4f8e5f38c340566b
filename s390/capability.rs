// SPDX-License-Identifier: GPL-2.0
//! Capabilities of IBM Z VMs.

use crate::{
    ioctl::{debug, mem_op},
    sie::{Sie, SEE_OPERATIONS},
    vm::{Choice, VmState},
};
use kernel::prelude::*;
use kvm_core::vm::Vm;
use kvm_uapi::{cap::*, vcpu::EnableCap};

/// Value of a capability; 0 if it isn't there.
pub(crate) fn check(capability: u32) -> u32 {
    match capability {
        // There are no exits of the kind that the second one is about.
        KVM_CAP_USER_MEMORY
        | KVM_CAP_INTERNAL_ERROR_DATA
        | KVM_CAP_IMMEDIATE_EXIT
        | KVM_CAP_ENABLE_CAP
        | KVM_CAP_ENABLE_CAP_VM
        | KVM_CAP_MP_STATE
        | KVM_CAP_ONE_REG
        | KVM_CAP_SYNC_REGS
        | KVM_CAP_S390_PSW
        | KVM_CAP_ASYNC_PF
        | KVM_CAP_S390_COW
        | KVM_CAP_S390_CSS_SUPPORT
        | KVM_CAP_S390_IRQCHIP
        | KVM_CAP_S390_AIS
        | KVM_CAP_S390_AIS_MIGRATION
        | KVM_CAP_S390_INJECT_IRQ
        | KVM_CAP_S390_USER_SIGP
        | KVM_CAP_S390_USER_STSI
        | KVM_CAP_S390_USER_INSTR0
        | KVM_CAP_S390_USER_OPEREXEC
        | KVM_CAP_S390_VCPU_RESETS
        | KVM_CAP_S390_SKEYS
        | KVM_CAP_S390_KEYOP
        | KVM_CAP_VM_ATTRIBUTES => 1,
        KVM_CAP_S390_IRQ_STATE => 1,
        KVM_CAP_SET_GUEST_DEBUG2 => debug::flags(),
        KVM_CAP_S390_MEM_OP => mem_op::MOST,
        KVM_CAP_S390_MEM_OP_EXTENSION => mem_op::EXTENSIONS,
        _ => 0,
    }
}

/// Turns one on.
///
/// # Errors
///
/// `EINVAL` if there is no such capability to turn on.
pub(crate) fn enable(vm: &Vm<Sie>, wanted: &EnableCap) -> Result<u32> {
    if wanted.flags != 0 {
        return Err(EINVAL);
    }
    let choice = match wanted.cap {
        KVM_CAP_S390_AIS => return suppress(vm),
        KVM_CAP_S390_IRQCHIP => Choice::Routes,
        KVM_CAP_S390_USER_SIGP => Choice::UserSigp,
        KVM_CAP_S390_USER_STSI => Choice::UserStsi,
        KVM_CAP_S390_USER_INSTR0 => Choice::UserInstr0,
        KVM_CAP_S390_USER_OPEREXEC => Choice::UserOperation,
        _ => return Err(EINVAL),
    };
    let VmState { choices, .. } = vm.arch();
    choices.make(choice);
    if matches!(choice, Choice::UserInstr0 | Choice::UserOperation) {
        vm.vcpus().request_all(SEE_OPERATIONS);
    }
    Ok(0)
}

/// Gives the guest the adapter-interruption-suppression facility, which is made here.
fn suppress(vm: &Vm<Sie>) -> Result<u32> {
    const SUPPRESSION: u8 = 72;
    vm.with_creation_locked(|| {
        if vm.vcpus().count() != 0 {
            return Err(EBUSY);
        }
        let state = vm.arch();
        state.choices.make(Choice::Suppression);
        state.model.lock().facilities.add(SUPPRESSION);
        Ok(0)
    })
}
