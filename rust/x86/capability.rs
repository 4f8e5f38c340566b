// SPDX-License-Identifier: GPL-2.0
//! Capabilities that x86 VMs have.

use crate::{host, vendor::Vendor};
use kvm_sys::x86::{fpu::XSAVE_BASE_SIZE, xcr};
use kvm_uapi::cap::{
    KVM_CAP_DEBUGREGS, KVM_CAP_EXT_CPUID, KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_SYS_ATTRIBUTES,
    KVM_CAP_USER_MEMORY, KVM_CAP_XCRS, KVM_CAP_XSAVE, KVM_CAP_XSAVE2,
};

/// Value of a capability; 0 if it isn't there.
pub(crate) fn check<V: Vendor>(capability: u32) -> u32 {
    match capability {
        KVM_CAP_EXT_CPUID | KVM_CAP_DEBUGREGS | KVM_CAP_XSAVE | KVM_CAP_SYS_ATTRIBUTES => 1,
        KVM_CAP_XCRS => u32::from(xcr::supported_xcr0() != 0),
        KVM_CAP_XSAVE2 => xsave_size(),
        KVM_CAP_USER_MEMORY | KVM_CAP_IMMEDIATE_EXIT => V::CAN_RUN.into(),
        _ => 0,
    }
}

/// Size of the area of `KVM_GET_XSAVE2` for guests of the current process.
fn xsave_size() -> u32 {
    let size = |host: &host::Host| host.supported.xstate().standard_size(xcr::permitted_xcr0());
    host::get().map_or(0, size).max(XSAVE_BASE_SIZE as u32)
}
