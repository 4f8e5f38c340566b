// SPDX-License-Identifier: GPL-2.0
//! The x86 ioctls of /dev/kvm.

use super::msrs;
use crate::cpuid;
use kernel::prelude::*;
use kvm_policy::mce::CAP_COMMON;
use kvm_sys::{user, x86::xcr};
use kvm_uapi::{
    ioctl::{
        x86::{
            KVM_GET_EMULATED_CPUID, KVM_GET_MSRS, KVM_GET_MSR_FEATURE_INDEX_LIST,
            KVM_GET_MSR_INDEX_LIST, KVM_GET_SUPPORTED_CPUID, KVM_X86_GET_MCE_CAP_SUPPORTED,
        },
        KVM_GET_DEVICE_ATTR, KVM_HAS_DEVICE_ATTR,
    },
    vcpu::DeviceAttr,
};

/// Components of XCR0 that guests can have.
const KVM_X86_XCOMP_GUEST_SUPP: u64 = 0;

pub(crate) fn ioctl(request: u32, arg: usize) -> Result<u32> {
    match request {
        KVM_GET_SUPPORTED_CPUID => cpuid::get_supported(arg),
        KVM_GET_EMULATED_CPUID => cpuid::get_emulated(arg),
        KVM_HAS_DEVICE_ATTR => attribute(&user::read(arg)?).map(|_| 0),
        KVM_GET_DEVICE_ATTR => {
            let which: DeviceAttr = user::read(arg)?;
            let value = attribute(&which)?;
            let to = usize::try_from(which.addr).map_err(|_| EFAULT)?;
            user::write(to, &value).map(|()| 0)
        }
        KVM_GET_MSR_INDEX_LIST => msrs::get_index_list(arg),
        KVM_GET_MSR_FEATURE_INDEX_LIST => msrs::get_feature_list(arg),
        KVM_GET_MSRS => msrs::get_features(arg),
        KVM_X86_GET_MCE_CAP_SUPPORTED => user::write(arg, &CAP_COMMON).map(|()| 0),
        _ => Err(EINVAL),
    }
}

/// Value of an attribute.
///
/// # Errors
///
/// `ENXIO` if there is no such attribute.
fn attribute(which: &DeviceAttr) -> Result<u64> {
    match (which.group, which.attr) {
        (0, KVM_X86_XCOMP_GUEST_SUPP) => Ok(xcr::supported_xcr0()),
        _ => Err(ENXIO),
    }
}
