// SPDX-License-Identifier: GPL-2.0
//! From a message to the mailboxes of those it is for.
//!
//! Lock-free, any context.

use super::{index, map::Map};
use crate::{
    params,
    state::Cx,
    vendor::{Vendor, X86},
};
use kernel::sync::Arc;
use kvm_core::{vcpu::Vcpu, vm::Vm};
use kvm_irqchip::{
    lapic::Posted,
    map::{Route, Targets},
    message::{Ipi, Message, Shorthand},
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

/// The candidate that wins arbitration.
fn arbitrate<V: Vendor>(
    vm: &Vm<X86<V>>,
    map: &Map,
    candidates: Targets<'_>,
    vector: u8,
) -> Option<VcpuIndex> {
    if params::VECTOR_HASHING.get() {
        return map.pick_by_hash(candidates, vector);
    }
    let shared = |vcpu: VcpuIndex| vm.vcpus().get(vcpu.0.into()).map(|vcpu| vcpu.shared());
    let won = |vcpu| shared(vcpu).map_or(u32::MAX, |shared| shared.arbitrations_won());
    let winner = map.pick_by_priority(candidates, won);
    if let Some(shared) = winner.and_then(shared) {
        shared.win_arbitration();
    }
    winner
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
            if let Some(vcpu) = arbitrate(vm, map, targets, message.vector) {
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

/// Sends a message to the APICs with these IDs: bit `i` of `ids` is ID `first + i`.
/// How many vCPUs accepted it.
pub(crate) fn to_ids<V: Vendor>(vm: &Vm<X86<V>>, message: &Message, ids: u64, first: u32) -> u32 {
    let Some(map) = vm.arch().irqchip().map.read() else { return 0 };
    let Some(targets) = map.hypercall_targets(ids, first) else {
        // Some IDs are shared: one destination after the other.
        // None of them is that of everybody.
        let is_one = |bit: &u32| !matches!(first.wrapping_add(*bit), 0xff | u32::MAX);
        let bits = (0..64u32).filter(|bit| ids & 1u64.wrapping_shl(*bit) != 0).filter(is_one);
        return bits.fold(0, |count, bit| {
            let message = Message { dest: first.wrapping_add(bit), ..*message };
            let more = along(vm, &map, map.route(&message), &message, |_| {});
            count.saturating_add(more)
        });
    };
    targets
        .filter(|vcpu| post(vm, &map, *vcpu, message))
        .fold(0, |count, _| count.saturating_add(1))
}

/// The vCPU whose APIC has this ID, if there is exactly one.
pub(crate) fn with_id<V: Vendor>(vm: &Vm<X86<V>>, id: u32) -> Option<VcpuIndex> {
    let map = vm.arch().irqchip().map.read()?;
    let mut targets = map.hypercall_targets(1, id)?;
    targets.next()
}

/// Sends a vCPU's interprocessor interrupt.
#[inline]
pub(super) fn ipi<V: Vendor>(cx: &mut Cx<'_, V>, ipi: &Ipi) {
    if ipi.shorthand == Shorthand::Itself {
        return to_itself(cx, &ipi.message);
    }
    let vm = &*cx.vm;
    let Some(map) = vm.arch().irqchip().map.read() else { return };
    along(vm, &map, map.route_ipi(ipi, index(cx)), &ipi.message, |_| {});
}

/// A message of a vCPU to itself: nobody has to be looked for, nor told.
fn to_itself<V: Vendor>(cx: &mut Cx<'_, V>, message: &Message) {
    let Some(apic) = &mut cx.state.apic else { return };
    match apic.accept_own(message) {
        None => cx.state.events.check = true,
        Some(other) => {
            let _ = cx.vcpu.shared().mailbox().post(other);
        }
    }
}

/// The first vCPU whose APIC makes this known of itself: a flag of
/// [`crate::shared::Published`].
pub(crate) fn first<V: Vendor>(vm: &Vm<X86<V>>, flag: u64) -> Option<&Arc<Vcpu<X86<V>>>> {
    vm.vcpus().iter().find(|vcpu| vcpu.shared().has(flag))
}
