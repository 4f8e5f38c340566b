// SPDX-License-Identifier: GPL-2.0
//! The x86 ioctls of /dev/kvm.

use crate::{cpuid, vendor::Vendor};
use kernel::prelude::*;
use kvm_uapi::ioctl::x86::{KVM_GET_EMULATED_CPUID, KVM_GET_SUPPORTED_CPUID};

pub(crate) fn ioctl<V: Vendor>(request: u32, arg: usize) -> Result<u32> {
    match request {
        KVM_GET_SUPPORTED_CPUID => cpuid::get_supported(arg),
        KVM_GET_EMULATED_CPUID => cpuid::get_emulated(arg),
        _ => Err(EINVAL),
    }
}
