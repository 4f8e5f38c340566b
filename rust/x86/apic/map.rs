// SPDX-License-Identifier: GPL-2.0
//! The VM's map of local APICs, kept up to date.
//!
//! Each vCPU publishes how it is addressed, in one word; the map is built of all
//! those words, under the map's lock, and takes the place of the old one. Senders
//! read it without a lock. A vCPU publishes before it takes the lock, so the last
//! one to build sees all.

use crate::{
    irqchip, request,
    vendor::{Vendor, X86},
};
use kernel::{error::Result, prelude::*};
use kvm_core::{vcpu::Vcpu, vm::Vm};
use kvm_irqchip::{
    lapic::Identity,
    map::{slots_needed, ApicMap, Slot},
};
use kvm_sys::rcu_cell::Unpublished;

/// A VM's local APICs by destination.
pub(crate) type Map = ApicMap<KVVec<Slot>, KVVec<Identity>>;

/// Builds the map anew. Sleeps.
///
/// # Errors
///
/// `ENOMEM`: the old one stays.
pub(crate) fn rebuild<V: Vendor>(vm: &Vm<X86<V>>) -> Result {
    let irqchip = vm.arch().irqchip();
    {
        let mut writer = irqchip.map.lock();
        let count = vm.vcpus().count() as usize;
        let mut members = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        for vcpu in vm.vcpus().iter().take(count) {
            members.push(vcpu.shared().published().identity(), GFP_KERNEL_ACCOUNT)?;
        }
        let slots = KVVec::from_elem(Slot::EMPTY, slots_needed(&members), GFP_KERNEL_ACCOUNT)?;
        let map = Map::new(members, slots, irqchip.dest_rules());
        writer.publish(Unpublished::new(map)?);
    }
    // Others may have become targets of the IOAPIC's pins.
    irqchip::rescan(vm);
    Ok(())
}

/// Builds the map because of `vcpu`, which tries again later if it can't be done
/// now.
pub(crate) fn update<V: Vendor>(vm: &Vm<X86<V>>, vcpu: &Vcpu<X86<V>>) {
    if rebuild(vm).is_err() {
        vcpu.request(request::APIC_MAP);
    }
}
