// SPDX-License-Identifier: GPL-2.0
//! Ioctls that only s390 has, or has with structures of its own.

use super::{io, ior, iow, iowr};
use crate::s390;

ioctls! {
    list for_each_s390_ioctl;

    /// /dev/kvm: does nothing; SIE needs no enabling.
    KVM_S390_ENABLE_SIE = io(0x06);

    /// VM and vCPU: injects an interruption in the older form.
    KVM_S390_INTERRUPT = iow::<s390::Interrupt>(0x94);
    /// VM and vCPU: reads or writes guest memory.
    KVM_S390_MEM_OP = iow::<s390::MemOp>(0xb1);
    /// VM: reads storage keys.
    KVM_S390_GET_SKEYS = iow::<s390::Skeys>(0xb2);
    /// VM: sets storage keys.
    KVM_S390_SET_SKEYS = iow::<s390::Skeys>(0xb3);
    /// VM: reads or changes one storage key.
    KVM_S390_KEYOP = iowr::<s390::KeyOp>(0x53);
    /// VM: reads states of collaborative memory management.
    KVM_S390_GET_CMMA_BITS = iowr::<s390::CmmaLog>(0xb8);
    /// VM: sets them.
    KVM_S390_SET_CMMA_BITS = iow::<s390::CmmaLog>(0xb9);

    /// vCPU: sets what a debugger wants.
    KVM_SET_GUEST_DEBUG = iow::<s390::GuestDebug>(0x9b);
    /// vCPU: reads the general registers.
    KVM_GET_REGS = ior::<s390::Regs>(0x81);
    /// vCPU: sets the general registers.
    KVM_SET_REGS = iow::<s390::Regs>(0x82);
    /// vCPU: reads access and control registers.
    KVM_GET_SREGS = ior::<s390::Sregs>(0x83);
    /// vCPU: sets access and control registers.
    KVM_SET_SREGS = iow::<s390::Sregs>(0x84);
    /// vCPU: reads floating-point registers.
    KVM_GET_FPU = ior::<s390::Fpu>(0x8c);
    /// vCPU: sets floating-point registers.
    KVM_SET_FPU = iow::<s390::Fpu>(0x8d);
    /// vCPU: stores status; the argument is an address or one of two codes.
    KVM_S390_STORE_STATUS = iow::<u64>(0x95);
    /// vCPU: sets the PSW of a stopped CPU.
    KVM_S390_SET_INITIAL_PSW = iow::<s390::Psw>(0x96);
    /// vCPU: initial reset. No argument.
    KVM_S390_INITIAL_RESET = io(0x97);
    /// vCPU: injects an interruption.
    KVM_S390_IRQ = iow::<s390::Irq>(0xb4);
    /// vCPU: sets the pending interruptions.
    KVM_S390_SET_IRQ_STATE = iow::<s390::IrqState>(0xb5);
    /// vCPU: reads the pending interruptions.
    KVM_S390_GET_IRQ_STATE = iow::<s390::IrqState>(0xb6);
    /// vCPU: normal reset. No argument.
    KVM_S390_NORMAL_RESET = io(0xc3);
    /// vCPU: clear reset. No argument.
    KVM_S390_CLEAR_RESET = io(0xc4);
}
