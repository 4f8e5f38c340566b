// SPDX-License-Identifier: GPL-2.0
//! Capabilities that x86 VMs have.

use crate::vendor::Vendor;
use kvm_uapi::cap::{KVM_CAP_EXT_CPUID, KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_USER_MEMORY};

/// Value of a capability; 0 if it isn't there.
pub(crate) fn check<V: Vendor>(capability: u32) -> u32 {
    match capability {
        KVM_CAP_EXT_CPUID => 1,
        KVM_CAP_USER_MEMORY | KVM_CAP_IMMEDIATE_EXIT => V::CAN_RUN.into(),
        _ => 0,
    }
}
