// SPDX-License-Identifier: GPL-2.0
//! What `KVM_CHECK_EXTENSION` answers, on /dev/kvm and on a VM.

use crate::{arch::Arch, memory::file, mmu::SecondLevel, vm::Vm, wiring};
use kvm_event::routes::MAX_ROUTES;
use kvm_paging::ring::MAX_BYTES;
use kvm_sys::cpu_set;
use kvm_uapi::{
    cap::{
        KVM_CAP_BINARY_STATS_FD, KVM_CAP_CHECK_EXTENSION_VM, KVM_CAP_COALESCED_MMIO,
        KVM_CAP_COALESCED_PIO, KVM_CAP_DESTROY_MEMORY_REGION_WORKS, KVM_CAP_DEVICE_CTRL,
        KVM_CAP_DIRTY_LOG_RING, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, KVM_CAP_GUEST_MEMFD,
        KVM_CAP_GUEST_MEMFD_FLAGS, KVM_CAP_HALT_POLL, KVM_CAP_IOEVENTFD,
        KVM_CAP_IOEVENTFD_ANY_LENGTH, KVM_CAP_IRQFD, KVM_CAP_IRQFD_RESAMPLE, KVM_CAP_IRQ_ROUTING,
        KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CAP_MAX_VCPUS,
        KVM_CAP_MAX_VCPU_ID, KVM_CAP_MULTI_ADDRESS_SPACE, KVM_CAP_NR_MEMSLOTS, KVM_CAP_NR_VCPUS,
        KVM_CAP_PRE_FAULT_MEMORY, KVM_CAP_READONLY_MEM, KVM_CAP_SYNC_MMU, KVM_CAP_USER_MEMORY2,
    },
    memory::{DIRTY_LOG_INITIALLY_SET, DIRTY_LOG_MANUAL_PROTECT},
};

/// Value of a capability of a VM, which may differ from that of others.
pub(crate) fn check_vm<A: Arch>(vm: &Vm<A>, capability: usize) -> u32 {
    let own = u32::try_from(capability).ok().and_then(|number| A::check_vm_extension(vm, number));
    own.unwrap_or_else(|| check::<A>(capability))
}

/// Value of a capability: 0 if it isn't there, 1 or something that the capability
/// defines if it is. Any number may be asked for.
pub fn check<A: Arch>(capability: usize) -> u32 {
    let Ok(capability) = u32::try_from(capability) else { return 0 };
    match capability {
        KVM_CAP_CHECK_EXTENSION_VM
        | KVM_CAP_DESTROY_MEMORY_REGION_WORKS
        | KVM_CAP_JOIN_MEMORY_REGIONS_WORKS => 1,
        KVM_CAP_USER_MEMORY2 | KVM_CAP_SYNC_MMU => u32::from(A::Tables::EXIST),
        KVM_CAP_READONLY_MEM | KVM_CAP_PRE_FAULT_MEMORY => {
            u32::from(A::Tables::EXIST && cfg!(CONFIG_X86_64))
        }
        KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 if A::Tables::EXIST && cfg!(CONFIG_X86_64) => {
            (DIRTY_LOG_MANUAL_PROTECT | DIRTY_LOG_INITIALLY_SET) as u32
        }
        KVM_CAP_DIRTY_LOG_RING | KVM_CAP_DIRTY_LOG_RING_ACQ_REL if A::DIRTY_RING_PAGE.is_some() => {
            MAX_BYTES
        }
        KVM_CAP_GUEST_MEMFD => u32::from(A::Tables::EXIST && file::EXIST),
        KVM_CAP_GUEST_MEMFD_FLAGS if A::Tables::EXIST && file::EXIST => file::FLAGS as u32,
        KVM_CAP_BINARY_STATS_FD | KVM_CAP_DEVICE_CTRL => 1,
        KVM_CAP_HALT_POLL => u32::from(A::Tables::EXIST),
        // Where guests run, they write.
        KVM_CAP_IOEVENTFD | KVM_CAP_IOEVENTFD_ANY_LENGTH => u32::from(A::Tables::EXIST),
        KVM_CAP_COALESCED_MMIO => wiring::coalesced_page::<A>().unwrap_or(0),
        KVM_CAP_COALESCED_PIO => u32::from(wiring::coalesced_page::<A>().is_some()),
        KVM_CAP_IRQFD | KVM_CAP_IRQFD_RESAMPLE => u32::from(wiring::has_irqchips::<A>()),
        KVM_CAP_IRQ_ROUTING if wiring::has_irqchips::<A>() => MAX_ROUTES,
        KVM_CAP_NR_MEMSLOTS => u32::from(A::SLOTS),
        // A recommendation: more than the host has only wait for each other.
        KVM_CAP_NR_VCPUS => cpu_set::online().min(A::MAX_VCPUS),
        KVM_CAP_MAX_VCPUS => A::MAX_VCPUS,
        KVM_CAP_MAX_VCPU_ID => A::MAX_VCPU_ID,
        KVM_CAP_MULTI_ADDRESS_SPACE if A::ADDRESS_SPACES > 1 => A::ADDRESS_SPACES,
        _ => A::check_extension(capability),
    }
}
