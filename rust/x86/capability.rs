// SPDX-License-Identifier: GPL-2.0
//! Capabilities that x86 VMs have.

use crate::{
    debug::want,
    host,
    ioctl::sync_regs,
    irqchip, pv,
    settings::{no_exit, quirks},
    vendor::{Vendor, X86},
};
use kvm_core::{arch::Arch, vm::Vm};
use kvm_policy::mce::MAX_BANKS;
use kvm_sys::x86::{fpu::XSAVE_BASE_SIZE, xcr};
use kvm_uapi::cap::*;

/// Value of a capability; 0 if it isn't there.
pub(crate) fn check<V: Vendor>(capability: u32) -> u32 {
    match capability {
        KVM_CAP_EXT_CPUID
        | KVM_CAP_EXT_EMUL_CPUID
        | KVM_CAP_CLOCKSOURCE
        | KVM_CAP_DEBUGREGS
        | KVM_CAP_DISABLE_QUIRKS
        | KVM_CAP_ENABLE_CAP
        | KVM_CAP_ENABLE_CAP_VM
        | KVM_CAP_EXCEPTION_PAYLOAD
        | KVM_CAP_EXIT_ON_EMULATION_FAILURE
        | KVM_CAP_GET_MSR_FEATURES
        | KVM_CAP_GET_TSC_KHZ
        | KVM_CAP_INTERNAL_ERROR_DATA
        | KVM_CAP_IOEVENTFD_NO_LENGTH
        | KVM_CAP_KVMCLOCK_CTRL
        | KVM_CAP_MEMORY_FAULT_INFO
        | KVM_CAP_MMU_SHADOW_CACHE_CONTROL
        | KVM_CAP_MP_STATE
        | KVM_CAP_MSR_PLATFORM_INFO
        | KVM_CAP_NOP_IO_DELAY
        | KVM_CAP_ONE_REG
        | KVM_CAP_SET_BOOT_CPU_ID
        | KVM_CAP_SET_IDENTITY_MAP_ADDR
        | KVM_CAP_SET_TSS_ADDR
        | KVM_CAP_SREGS2
        | KVM_CAP_SYS_ATTRIBUTES
        | KVM_CAP_STEAL_TIME
        | KVM_CAP_USER_NMI
        | KVM_CAP_VAPIC
        | KVM_CAP_VCPU_EVENTS
        | KVM_CAP_X86_TRIPLE_FAULT_EVENT
        | KVM_CAP_XSAVE => 1,
        KVM_CAP_SET_GUEST_DEBUG | KVM_CAP_X86_ROBUST_SINGLESTEP => V::CAN_RUN.into(),
        KVM_CAP_SET_GUEST_DEBUG2 if V::CAN_RUN => want::ALL,
        KVM_CAP_HLT => V::CAN_RUN.into(),
        KVM_CAP_X86_SMM => V::HAS_SMM.into(),
        KVM_CAP_ASYNC_PF | KVM_CAP_ASYNC_PF_INT => V::CAN_RUN.into(),
        KVM_CAP_ENFORCE_PV_FEATURE_CPUID
        | KVM_CAP_X86_USER_SPACE_MSR
        | KVM_CAP_X86_MSR_FILTER
        | KVM_CAP_VCPU_ATTRIBUTES => 1,
        KVM_CAP_X86_DISABLE_EXITS if V::CAN_RUN => no_exit::allowed(),
        KVM_CAP_ADJUST_CLOCK => pv::clock::FLAGS,
        KVM_CAP_DISABLE_QUIRKS2 => quirks::<V>() as u32,
        KVM_CAP_MCE => MAX_BANKS as u32,
        KVM_CAP_SYNC_REGS => sync_regs::ALL as u32,
        KVM_CAP_XCRS => u32::from(xcr::supported_xcr0() != 0),
        KVM_CAP_XSAVE2 => xsave_size(),
        KVM_CAP_USER_MEMORY | KVM_CAP_IMMEDIATE_EXIT => V::CAN_RUN.into(),
        KVM_CAP_IRQCHIP
        | KVM_CAP_PIT
        | KVM_CAP_REINJECT_CONTROL
        | KVM_CAP_IRQ_INJECT_STATUS
        | KVM_CAP_PIT2
        | KVM_CAP_PIT_STATE2
        | KVM_CAP_TSC_DEADLINE_TIMER
        | KVM_CAP_SIGNAL_MSI
        | KVM_CAP_IOAPIC_POLARITY_IGNORED
        | KVM_CAP_SPLIT_IRQCHIP => 1,
        KVM_CAP_X2APIC_API => irqchip::x2apic_api::ALL as u32,
        KVM_CAP_VM_TYPES => vm_types::<V>(),
        KVM_CAP_X86_APIC_BUS_CYCLES_NS => irqchip::BUS_CYCLE_NS,
        _ => 0,
    }
}

/// The types of VMs that there are, as bits.
fn vm_types<V: Vendor>() -> u32 {
    let there = |kind: &u32| X86::<V>::has_vm_type(*kind as usize);
    (0..u32::BITS).filter(there).fold(0, |types, kind| types | 1_u32.wrapping_shl(kind))
}

/// Size of the area of `KVM_GET_XSAVE2` for guests of the current process.
fn xsave_size() -> u32 {
    let size = |host: &host::Host| host.supported.xstate().standard_size(xcr::permitted_xcr0());
    host::get().map_or(0, size).max(XSAVE_BASE_SIZE as u32)
}

/// Value of a capability on a VM, where it isn't the same for all.
pub(crate) fn check_vm<V: Vendor>(vm: &Vm<X86<V>>, capability: u32) -> Option<u32> {
    let irqchip = vm.arch().irqchip();
    match capability {
        KVM_CAP_X2APIC_API => Some(irqchip.x2apic_flags() as u32),
        KVM_CAP_X86_APIC_BUS_CYCLES_NS => Some(irqchip.timer_config().bus_cycle_ns),
        _ => None,
    }
}
