// SPDX-License-Identifier: GPL-2.0
//! The ioctls of an x86 vCPU: which function answers which request.

use super::{debugregs, fpu, msrs, regs, sregs, xcrs};
use crate::{cpuid, run, state::Cx, vendor::Vendor};
use kernel::prelude::*;
use kvm_uapi::ioctl::{
    x86::{
        KVM_GET_CPUID2, KVM_GET_DEBUGREGS, KVM_GET_FPU, KVM_GET_MSRS, KVM_GET_REGS, KVM_GET_SREGS,
        KVM_GET_XCRS, KVM_GET_XSAVE, KVM_GET_XSAVE2, KVM_INTERRUPT, KVM_NMI, KVM_SET_CPUID2,
        KVM_SET_DEBUGREGS, KVM_SET_FPU, KVM_SET_MSRS, KVM_SET_REGS, KVM_SET_SREGS, KVM_SET_XCRS,
        KVM_SET_XSAVE,
    },
    KVM_RUN,
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
        KVM_GET_MSRS => msrs::get(cx, arg),
        KVM_SET_MSRS => msrs::set(cx, arg),
        KVM_GET_FPU => fpu::get(cx, arg),
        KVM_SET_FPU => fpu::set(cx, arg),
        KVM_GET_XSAVE => fpu::get_xsave(cx, arg),
        KVM_GET_XSAVE2 => fpu::get_xsave2(cx, arg),
        KVM_SET_XSAVE => fpu::set_xsave(cx, arg),
        KVM_GET_XCRS => xcrs::get(cx, arg),
        KVM_SET_XCRS => xcrs::set(cx, arg),
        KVM_GET_DEBUGREGS => debugregs::get(cx, arg),
        KVM_SET_DEBUGREGS => debugregs::set(cx, arg),
        KVM_SET_CPUID2 => cpuid::set(cx.state, arg),
        KVM_GET_CPUID2 => cpuid::get(cx.state, arg),
        KVM_INTERRUPT => interrupt(cx, arg),
        KVM_NMI => {
            cx.state.events.add_nmi();
            Ok(0)
        }
        _ => cx.vm.memory().vcpu_ioctl(&mut cx.state.memory, request, arg).unwrap_or(Err(EINVAL)),
    }
}

/// `KVM_INTERRUPT`: a vector from the VMM's interrupt controller.
fn interrupt<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let kvm_uapi::vcpu::Interrupt { irq } = kvm_sys::user::read(arg)?;
    let vector = u8::try_from(irq).map_err(|_| EINVAL)?;
    if cx.state.apic.is_some() {
        return Err(ENXIO);
    }
    if cx.state.events.user_interrupt.is_some() {
        return Err(EEXIST);
    }
    cx.state.events.user_interrupt = Some(vector);
    cx.state.events.check = true;
    Ok(0)
}
