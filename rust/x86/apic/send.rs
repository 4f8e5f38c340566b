// SPDX-License-Identifier: GPL-2.0
//! From a message to the mailboxes of those it is for.
//!
//! Lock-free, any context.

use super::{index, map::Map};
use crate::{
    state::Cx,
    vendor::{Vendor, X86},
};
use kernel::sync::Arc;
use kvm_core::{vcpu::Vcpu, vm::Vm};
use kvm_irqchip::{
    lapic::Posted,
    map::Route,
    message::{Ipi, Message},
    VcpuIndex,
};

/// Leaves a message with one vCPU; whether it accepted it.
#[inline]
fn post<V: Vendor>(vm: &Vm<X86<V>>, map: &Map, to: VcpuIndex, message: &Message) -> bool {
    let (Some(identity), Some(vcpu)) = (map.identity(to), vm.vcpus().get(to.0.into())) else {
        return false;
    };
    vcpu.shared().mailbox().post(identity.accept(message)) != Posted::Dropped
}

/// Leaves a message with whom a route names; how many accepted it, each of which is
/// shown.
#[inline]
fn along<V: Vendor>(
    vm: &Vm<X86<V>>,
    map: &Map,
    route: Route<'_>,
    message: &Message,
    mut accepted: impl FnMut(VcpuIndex),
) -> u32 {
    let mut count: u32 = 0;
    let mut to = |vcpu| {
        if post(vm, map, vcpu, message) {
            accepted(vcpu);
            count = count.saturating_add(1);
        }
    };
    match route {
        Route::One(None) => {}
        Route::One(Some(vcpu)) => to(vcpu),
        Route::All(targets) => targets.for_each(to),
        Route::OneOf(targets) => {
            if let Some(vcpu) = map.pick_by_hash(targets, message.vector) {
                to(vcpu);
            }
        }
    }
    count
}

/// Sends a device's message; how many vCPUs accepted it, each of which is shown.
#[inline]
pub(crate) fn message<V: Vendor>(
    vm: &Vm<X86<V>>,
    message: &Message,
    accepted: impl FnMut(VcpuIndex),
) -> u32 {
    let Some(map) = vm.arch().irqchip().map.read() else { return 0 };
    along(vm, &map, map.route(message), message, accepted)
}

/// Sends a vCPU's interprocessor interrupt.
#[inline]
pub(super) fn ipi<V: Vendor>(cx: &Cx<'_, V>, ipi: &Ipi) {
    let vm = &*cx.vm;
    let Some(map) = vm.arch().irqchip().map.read() else { return };
    along(vm, &map, map.route_ipi(ipi, index(cx)), &ipi.message, |_| {});
}

/// The first vCPU whose APIC makes this known of itself: a flag of
/// [`crate::shared::Published`].
pub(crate) fn first<V: Vendor>(vm: &Vm<X86<V>>, flag: u64) -> Option<&Arc<Vcpu<X86<V>>>> {
    vm.vcpus().iter().find(|vcpu| vcpu.shared().has(flag))
}
