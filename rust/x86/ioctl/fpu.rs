// SPDX-License-Identifier: GPL-2.0
//! Floating-point and vector state of a vCPU: `KVM_GET_FPU`, `KVM_SET_FPU`,
//! `KVM_GET_XSAVE`, `KVM_GET_XSAVE2`, `KVM_SET_XSAVE`.

use crate::{state::Cx, vendor::Vendor};
use kernel::prelude::*;
use kvm_sys::{user, x86::fpu::XSAVE_BASE_SIZE};
use kvm_uapi::x86::Fpu;
use x86_defs::{FxSave, Xcr0};

/// x87 and SSE registers. MXCSR is shown.
pub(crate) fn get<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let area = FxSave::from_bytes(&cx.state.fpu.legacy());
    let fpu = Fpu {
        fpr: area.st,
        fcw: area.control,
        fsw: area.status,
        ftwx: area.tags,
        pad1: 0,
        last_opcode: area.opcode,
        last_ip: area.instruction,
        last_dp: area.operand,
        xmm: area.xmm,
        mxcsr: area.mxcsr,
        pad2: 0,
    };
    user::write(arg, &fpu).map(|()| 0)
}

/// Sets them. MXCSR stays as it is: VMMs leave zero there, which the C
/// implementation never looked at.
pub(crate) fn set<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let fpu: Fpu = user::read(arg)?;
    let area = FxSave {
        control: fpu.fcw,
        status: fpu.fsw,
        tags: fpu.ftwx,
        opcode: fpu.last_opcode,
        instruction: fpu.last_ip,
        operand: fpu.last_dp,
        mxcsr: 0,
        mxcsr_mask: 0,
        st: fpu.fpr,
        xmm: fpu.xmm,
    };
    cx.state.fpu.set_legacy(&area.to_bytes());
    Ok(0)
}

/// The XSAVE area in the standard format, 4 KiB.
///
/// # Errors
///
/// `EINVAL` if the vCPU has components that don't fit.
pub(crate) fn get_xsave<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    if cx.state.fpu.user_size() > XSAVE_BASE_SIZE {
        return Err(EINVAL);
    }
    get_xsave2(cx, arg)
}

/// The XSAVE area in the standard format, as large as `KVM_CAP_XSAVE2` says.
pub(crate) fn get_xsave2<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let state = &mut *cx.state;
    let mut area = area(state.fpu.user_size())?;
    // Only what the guest can know of: another host may lack the rest. x87 and SSE
    // are there whether or not the guest has XSAVE.
    let components = state.cpuid.features.xcr0 | (Xcr0::X87 | Xcr0::SSE).bits();
    state.fpu.read_xsave(&mut area, components, state.extended.pkru())?;
    user::write_bytes(arg, &area).map(|()| 0)
}

/// Sets the state from an XSAVE area in the standard format.
///
/// # Errors
///
/// `EINVAL` for components that the host doesn't have, or reserved bits.
pub(crate) fn set_xsave<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let state = &mut *cx.state;
    let mut area = area(state.fpu.user_size())?;
    user::read_bytes(arg, &mut area)?;
    if let Some(pkru) = state.fpu.write_xsave(&mut area)? {
        state.extended.set_pkru(pkru);
    }
    Ok(0)
}

/// Zeroed room for an XSAVE area: zeroed by the allocator, which does so anyway where the
/// kernel initializes all memory. It is gone with the ioctl, so nobody is charged.
fn area(size: usize) -> Result<KVec<u8>> {
    Ok(KVec::zeroed(size, GFP_KERNEL)?)
}
