// SPDX-License-Identifier: GPL-2.0
//! The guest's time-stamp counter: the host's plus an offset.
//!
//! Userspace sets the counters of all vCPUs one after the other and means one
//! moment: writes whose values fit each other give the vCPUs the same offset, so
//! that their counters agree ([`Sync`]).
//!
//! SDM vol. 3, 18.17; vol. 4, IA32_TSC_ADJUST.

use crate::{
    apic,
    control::Control,
    params,
    pv::clock,
    state::{Cx, VcpuState},
    vendor::{Vendor, X86},
};
use kernel::prelude::*;
use kvm_core::vm::Vm;
use kvm_policy::tsc::{ns_to_cycles, within_tolerance};
use kvm_sys::x86::tsc::{self as host, rdtsc};

/// A vCPU's counter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tsc {
    /// Added to the host's.
    pub offset: u64,
    /// Its frequency.
    pub khz: u32,
    /// IA32_TSC_ADJUST.
    pub adjust: u64,
    /// The group of counters that it agrees with.
    generation: u64,
}

/// What the counters of a VM have in common.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sync {
    /// Offset of the group.
    offset: u64,
    /// Its number, 0 before there is one.
    generation: u64,
    /// vCPUs in it.
    members: u32,
    khz: u32,
    /// The last write that counted, and when that was.
    value: u64,
    at_ns: i64,
    /// Userspace set a counter.
    user_set: bool,
}

impl Sync {
    /// Whether the counters of all of `vcpus` vCPUs agree.
    pub(crate) fn all_agree(&self, vcpus: u32) -> bool {
        self.generation != 0 && self.members >= vcpus
    }

    /// Puts `tsc` to `value`, or to what the others show if that is meant.
    fn join(&mut self, tsc: &mut Tsc, value: Option<u64>) {
        let (counter, now) = (rdtsc(), boot_ns());
        let wanted = value.unwrap_or(0);
        let elapsed = now.wrapping_sub(self.at_ns).max(0) as u64;
        let expected = self.value.wrapping_add(ns_to_cycles(elapsed, self.khz));
        let is_meant = match value {
            None | Some(0) => true,
            // Within a second of what it would be.
            Some(value) if self.user_set => {
                let second = u64::from(tsc.khz).wrapping_mul(1000);
                value.abs_diff(expected) < second
            }
            Some(_) => false,
        };
        self.user_set |= value.is_some();
        let joins = is_meant && self.generation != 0 && self.khz == tsc.khz;
        if !joins {
            self.generation = self.generation.wrapping_add(1);
            self.members = 0;
            self.khz = tsc.khz;
            self.offset = wanted.wrapping_sub(counter);
        }
        self.value = wanted;
        self.at_ns = now;
        tsc.offset =
            if joins && host::is_unstable() { expected.wrapping_sub(counter) } else { self.offset };
        self.count(tsc);
    }
}

impl Sync {
    /// Puts `tsc` to an offset, with the others if that is theirs.
    fn join_at(&mut self, tsc: &mut Tsc, offset: u64) {
        let joins = self.generation != 0 && self.khz == tsc.khz && self.offset == offset;
        if !joins {
            self.generation = self.generation.wrapping_add(1);
            (self.members, self.khz, self.offset) = (0, tsc.khz, offset);
        }
        (self.value, self.at_ns) = (rdtsc().wrapping_add(offset), boot_ns());
        self.user_set = true;
        tsc.offset = offset;
        self.count(tsc);
    }

    /// Counts a counter in the group.
    fn count(&mut self, tsc: &mut Tsc) {
        if tsc.generation != self.generation {
            tsc.generation = self.generation;
            self.members = self.members.saturating_add(1);
        }
    }
}

/// Nanoseconds since boot by a clock that nobody adjusts.
fn boot_ns() -> i64 {
    host::monotonic_raw().wrapping_add(host::boot_offset())
}

impl Tsc {
    /// The counter of a new vCPU: it agrees with those of the others, and the
    /// first starts at zero.
    pub(crate) fn new<V: Vendor>(vm: &Vm<X86<V>>) -> Self {
        let mut tsc = Self { khz: vm.arch().tsc_khz(), ..Self::default() };
        vm.arch().tsc.lock().join(&mut tsc, None);
        tsc
    }

    /// The counter when the host's shows `host`.
    #[inline]
    pub fn at(&self, host: u64) -> u64 {
        host.wrapping_add(self.offset)
    }
}

/// The guest's TSC now.
pub(crate) fn guest_now<V: Vendor>(state: &VcpuState<V>) -> u64 {
    state.tsc.at(rdtsc())
}

/// Userspace sets the guest's TSC.
pub(crate) fn set_by_host<V: Vendor>(cx: &mut Cx<'_, V>, value: u64) {
    regroup(cx, |sync, tsc| sync.join(tsc, Some(value)));
}

/// Userspace sets the offset of the guest's TSC from the host's.
pub(crate) fn set_offset<V: Vendor>(cx: &mut Cx<'_, V>, offset: u64) {
    regroup(cx, |sync, tsc| sync.join_at(tsc, offset));
}

fn regroup<V: Vendor>(cx: &mut Cx<'_, V>, join: impl FnOnce(&mut Sync, &mut Tsc)) {
    let vcpus = cx.vm.vcpus().count();
    let agree = {
        let mut sync = cx.vm.arch().tsc.lock();
        join(&mut sync, &mut cx.state.tsc);
        sync.all_agree(vcpus)
    };
    changed(cx);
    if agree != cx.vm.arch().clock.is_stable() {
        clock::update_all(&cx.vm, |_| {});
    }
}

/// The guest sets its TSC. The difference shows in IA32_TSC_ADJUST.
pub(crate) fn set_by_guest<V: Vendor>(cx: &mut Cx<'_, V>, value: u64) {
    let by = value.wrapping_sub(guest_now(cx.state));
    cx.state.tsc.adjust = cx.state.tsc.adjust.wrapping_add(by);
    move_by(cx, by);
}

/// The guest writes IA32_TSC_ADJUST, which moves its TSC by the difference.
pub(crate) fn adjust<V: Vendor>(cx: &mut Cx<'_, V>, value: u64) {
    let by = value.wrapping_sub(cx.state.tsc.adjust);
    cx.state.tsc.adjust = value;
    move_by(cx, by);
}

fn move_by<V: Vendor>(cx: &mut Cx<'_, V>, by: u64) {
    if by != 0 {
        cx.state.tsc.offset = cx.state.tsc.offset.wrapping_add(by);
        changed(cx);
    }
}

fn changed<V: Vendor>(cx: &mut Cx<'_, V>) {
    cx.state.control.set_tsc_offset(cx.state.tsc.offset);
    cx.vcpu.shared().set_tsc_offset(cx.state.tsc.offset);
    cx.vcpu.requests.set(clock::UPDATE);
    apic::timer::counter_changed(cx);
}

/// Whether guests can have a TSC of this frequency.
pub(crate) fn is_possible(khz: u32) -> bool {
    within_tolerance(khz, host::khz(), params::TSC_TOLERANCE_PPM.get())
}

/// `KVM_SET_TSC_KHZ` of a vCPU; 0 stands for the host's.
///
/// # Errors
///
/// `EINVAL` for another frequency than the host's.
pub(crate) fn set_khz<V: Vendor>(cx: &mut Cx<'_, V>, khz: usize) -> Result<u32> {
    let khz = checked_khz(khz)?;
    cx.state.tsc.khz = khz;
    cx.vcpu.requests.set(clock::UPDATE);
    Ok(0)
}

/// The frequency that userspace asks for; 0 stands for the host's.
///
/// # Errors
///
/// `EINVAL` if guests can't have it.
pub(crate) fn checked_khz(khz: usize) -> Result<u32> {
    let khz = u32::try_from(khz).map_err(|_| EINVAL)?;
    let khz = if khz == 0 { host::khz() } else { khz };
    if is_possible(khz) {
        Ok(khz)
    } else {
        Err(EINVAL)
    }
}
