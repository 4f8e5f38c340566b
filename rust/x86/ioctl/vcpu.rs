// SPDX-License-Identifier: GPL-2.0
//! The ioctls of an x86 vCPU: which function answers which request.

use super::{
    attribute, debugregs, events, fpu, guest_debug, lapic, mce, msrs, one_reg, regs, sregs,
    translate, xcrs,
};
use crate::{
    apic::vapic, control::Control, cpuid, irqchip::Mode, pv::clock, run, state::Cx, tsc,
    vendor::Vendor,
};
use kernel::prelude::*;
use kvm_uapi::ioctl::{
    x86::{
        KVM_GET_CPUID2, KVM_GET_DEBUGREGS, KVM_GET_FPU, KVM_GET_LAPIC, KVM_GET_MSRS, KVM_GET_REGS,
        KVM_GET_SREGS, KVM_GET_SREGS2, KVM_GET_TSC_KHZ, KVM_GET_VCPU_EVENTS, KVM_GET_XCRS,
        KVM_GET_XSAVE, KVM_GET_XSAVE2, KVM_INTERRUPT, KVM_KVMCLOCK_CTRL, KVM_NMI, KVM_SET_CPUID2,
        KVM_SET_DEBUGREGS, KVM_SET_FPU, KVM_SET_GUEST_DEBUG, KVM_SET_LAPIC, KVM_SET_MSRS,
        KVM_SET_REGS, KVM_SET_SREGS, KVM_SET_SREGS2, KVM_SET_TSC_KHZ, KVM_SET_VAPIC_ADDR,
        KVM_SET_VCPU_EVENTS, KVM_SET_XCRS, KVM_SET_XSAVE, KVM_SMI, KVM_TPR_ACCESS_REPORTING,
        KVM_X86_SETUP_MCE, KVM_X86_SET_MCE,
    },
    KVM_ENABLE_CAP, KVM_GET_DEVICE_ATTR, KVM_GET_MP_STATE, KVM_GET_ONE_REG, KVM_GET_REG_LIST,
    KVM_HAS_DEVICE_ATTR, KVM_RUN, KVM_SET_DEVICE_ATTR, KVM_SET_MP_STATE, KVM_SET_ONE_REG,
    KVM_TRANSLATE,
};

pub(crate) fn ioctl<V: Vendor>(cx: &mut Cx<'_, V>, request: u32, arg: usize) -> Result<u32> {
    match request {
        KVM_RUN if V::CAN_RUN => {
            if arg != 0 {
                return Err(EINVAL);
            }
            run::run(cx)
        }
        KVM_GET_REGS => regs::get(cx, arg),
        KVM_SET_REGS => regs::set(cx, arg),
        KVM_GET_SREGS => sregs::get(cx, arg),
        KVM_SET_SREGS => sregs::set(cx, arg),
        KVM_GET_SREGS2 => sregs::get2(cx, arg),
        KVM_SET_SREGS2 => sregs::set2(cx, arg),
        KVM_GET_VCPU_EVENTS => events::get(cx, arg),
        KVM_SET_VCPU_EVENTS => events::set(cx, arg),
        KVM_GET_MP_STATE => events::get_activity(cx, arg),
        KVM_SET_MP_STATE => events::set_activity(cx, arg),
        KVM_GET_TSC_KHZ => Ok(cx.state.tsc.khz),
        KVM_SET_TSC_KHZ => tsc::set_khz(cx, arg),
        KVM_KVMCLOCK_CTRL => clock::tell_stopped(cx),
        KVM_X86_SETUP_MCE => mce::setup(cx, arg),
        KVM_X86_SET_MCE => mce::set(cx, arg),
        KVM_SET_GUEST_DEBUG => guest_debug::set(cx, arg),
        KVM_TRANSLATE => translate::translate(cx, arg),
        KVM_GET_MSRS => msrs::get(cx, arg),
        KVM_SET_MSRS => msrs::set(cx, arg),
        KVM_GET_ONE_REG => one_reg::get(cx, arg),
        KVM_SET_ONE_REG => one_reg::set(cx, arg),
        KVM_GET_REG_LIST => one_reg::list(arg),
        KVM_GET_FPU => fpu::get(cx, arg),
        KVM_SET_FPU => fpu::set(cx, arg),
        KVM_GET_XSAVE => fpu::get_xsave(cx, arg),
        KVM_GET_XSAVE2 => fpu::get_xsave2(cx, arg),
        KVM_SET_XSAVE => fpu::set_xsave(cx, arg),
        KVM_GET_XCRS => xcrs::get(cx, arg),
        KVM_SET_XCRS => xcrs::set(cx, arg),
        KVM_GET_DEBUGREGS => debugregs::get(cx, arg),
        KVM_SET_DEBUGREGS => debugregs::set(cx, arg),
        KVM_SET_CPUID2 => cpuid::set(cx, arg),
        KVM_GET_CPUID2 => cpuid::get(cx, arg),
        KVM_GET_LAPIC => lapic::get(cx, arg),
        KVM_SET_LAPIC => lapic::set(cx, arg),
        KVM_TPR_ACCESS_REPORTING => vapic::set_reports(cx, arg),
        KVM_SET_VAPIC_ADDR => vapic::set_address(cx, arg),
        KVM_INTERRUPT => interrupt(cx, arg),
        KVM_NMI => {
            cx.state.events.add_nmi(cx.state.control.nmi_blocked());
            Ok(0)
        }
        KVM_HAS_DEVICE_ATTR => attribute::has(arg),
        KVM_GET_DEVICE_ATTR => attribute::get(cx, arg),
        KVM_SET_DEVICE_ATTR => attribute::set(cx, arg),
        KVM_ENABLE_CAP => super::enable_cap::enable_vcpu(cx, arg),
        KVM_SMI if V::HAS_SMM => {
            cx.state.events.smi = true;
            cx.state.events.check = true;
            Ok(0)
        }
        _ => cx
            .vm
            .memory_of(cx.state.smm.is_active())
            .vcpu_ioctl(&mut cx.state.memory, request, arg)
            .unwrap_or(Err(EINVAL)),
    }
}

/// `KVM_INTERRUPT`: a vector from the VMM's interrupt controller.
fn interrupt<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let kvm_uapi::vcpu::Interrupt { irq } = kvm_sys::user::read(arg)?;
    let vector = u8::try_from(irq).map_err(|_| EINVAL)?;
    if cx.vm.arch().irqchip().mode() == Mode::Kernel {
        return Err(ENXIO);
    }
    if cx.state.events.user_interrupt.is_some() {
        return Err(EEXIST);
    }
    cx.state.events.user_interrupt = Some(vector);
    cx.state.events.check = true;
    Ok(0)
}
