// SPDX-License-Identifier: GPL-2.0
//! What /dev/kvm says it can do.

use anyhow::{Context, Result};
use kvm_uapi::ioctl;

use crate::device;

/// What QEMU will not start a guest without.
const NEEDED: &[(u32, &str)] = &[
    (0, "KVM_CAP_IRQCHIP"),
    (3, "KVM_CAP_USER_MEMORY"),
    (4, "KVM_CAP_SET_TSS_ADDR"),
    (7, "KVM_CAP_EXT_CPUID"),
    (14, "KVM_CAP_MP_STATE"),
    (21, "KVM_CAP_DESTROY_MEMORY_REGION_WORKS"),
    (25, "KVM_CAP_IRQ_ROUTING"),
    (30, "KVM_CAP_JOIN_MEMORY_REGIONS_WORKS"),
    (32, "KVM_CAP_IRQFD"),
    (36, "KVM_CAP_IOEVENTFD"),
    (39, "KVM_CAP_ADJUST_CLOCK"),
    (40, "KVM_CAP_INTERNAL_ERROR_DATA"),
    (41, "KVM_CAP_VCPU_EVENTS"),
    (50, "KVM_CAP_DEBUGREGS"),
    (51, "KVM_CAP_X86_ROBUST_SINGLESTEP"),
    (55, "KVM_CAP_XSAVE"),
    (77, "KVM_CAP_SIGNAL_MSI"),
    (122, "KVM_CAP_IOEVENTFD_ANY_LENGTH"),
];

/// Why QEMU can't run a guest with the modules that are loaded; `None` if it can.
pub(crate) fn vmm_obstacle() -> Result<Option<String>> {
    let kvm = device::open()?;
    for (number, name) in NEEDED {
        let answer = device::ioctl(&kvm, ioctl::KVM_CHECK_EXTENSION, u64::from(*number));
        if answer.with_context(|| format!("asking for {name}"))? == 0 {
            return Ok(Some(format!("no guest can run yet: /dev/kvm has no {name}")));
        }
    }
    Ok(None)
}
