// SPDX-License-Identifier: GPL-2.0
//! Steal time: how long a vCPU wanted to run and couldn't, and whether it is off its
//! processor now.
//!
//! The record in guest memory is brought up to date before the first entry after
//! the thread was scheduled in. That the thread was scheduled out is noted at that
//! moment, so that other vCPUs of the guest needn't wait for this one: instead of
//! having it flush its TLB they ask for that in the same byte.
//!
//! `Documentation/virt/kvm/x86/msr.rst`, MSR_KVM_STEAL_TIME.

use crate::{
    control::Control,
    request::PAUSE_WINDOW,
    state::Cx,
    vendor::{Vendor, X86},
};
use kernel::sync::atomic::{Atomic, Relaxed};
use kvm_core::{request::Request, vcpu::Vcpu, vm::Vm};
use kvm_paging::addr::Gpa;
use kvm_policy::steal_time::{self, FLUSH_TLB, PREEMPTED, PREEMPTED_AT, STEAL_AT, VERSION_AT};
use kvm_sys::{
    plain::Plain,
    preempt::{Pinned, SchedHooks},
    task,
};

/// Bring the record up to date before the next entry.
pub(crate) const UPDATE: Request = Request::of_arch(17);

/// What the scheduler's hooks reach of a vCPU.
pub(crate) struct Place {
    /// Address of the record, 0 while it is off.
    gpa: Atomic<u64>,
    /// The record says that the vCPU is off its processor.
    is_out: Atomic<bool>,
}

impl Place {
    /// No record.
    pub(crate) const fn new() -> Self {
        Self { gpa: Atomic::new(0), is_out: Atomic::new(false) }
    }
}

/// A vCPU's own part.
#[derive(Default)]
pub(crate) struct StealTime {
    msr: u64,
    /// What the thread had waited in all when the record was written last.
    seen: u64,
}

impl StealTime {
    /// The MSR.
    pub(crate) fn msr(&self) -> u64 {
        self.msr
    }
}

/// The guest, or userspace for it, says where the record is. The value was checked.
pub(crate) fn write_msr<V: Vendor>(cx: &mut Cx<'_, V>, value: u64) {
    let steal = &mut cx.state.pv.steal;
    steal.msr = value;
    steal.seen = task::run_delay();
    let place = cx.vcpu.shared().steal();
    place.gpa.store(steal_time::address(value).unwrap_or(0), Relaxed);
    cx.vcpu.requests.set(UPDATE);
}

/// As after INIT.
pub(super) fn reset<V: Vendor>(cx: &mut Cx<'_, V>) {
    cx.state.pv.steal.msr = 0;
    cx.vcpu.shared().steal().gpa.store(0, Relaxed);
}

/// `KVM_RUN` begins: the guest is to see where time went since it ended last.
#[inline]
pub(crate) fn begin<V: Vendor>(cx: &Cx<'_, V>) {
    if cx.vcpu.shared().steal().gpa.get() != 0 {
        cx.vcpu.requests.set(UPDATE);
    }
}

/// Brings the record up to date: the vCPU is about to run.
pub(crate) fn update<V: Vendor>(cx: &mut Cx<'_, V>) {
    let place = cx.vcpu.shared().steal();
    let gpa = place.gpa.get();
    if gpa == 0 {
        return;
    }
    place.is_out.store(false, Relaxed);
    if take_flush(cx, gpa) {
        cx.state.control.flush_guest_tlb();
    }
    let waited = task::run_delay();
    let since = waited.wrapping_sub(cx.state.pv.steal.seen);
    cx.state.pv.steal.seen = waited;
    let guest = cx.vm.memory().guest().by(cx.vcpu.index());
    let at = |offset: u64| Gpa::new(gpa.wrapping_add(offset));
    let (mut version, mut steal) = ([0; 4], [0; 8]);
    let there = guest.read(at(VERSION_AT), &mut version).is_ok()
        && guest.read(at(STEAL_AT), &mut steal).is_ok();
    if !there {
        return;
    }
    let new = steal_time::update(u32::from_le_bytes(version), u64::from_le_bytes(steal), since);
    // Where there is no memory any more nobody looks. Stores are in order on x86.
    let _ = guest
        .write(at(VERSION_AT), &new.begin.to_le_bytes())
        .and_then(|()| guest.write(at(STEAL_AT), &new.steal.to_le_bytes()))
        .and_then(|()| guest.write(at(VERSION_AT), &new.end.to_le_bytes()));
}

/// Says that the vCPU is on a processor; whether somebody asked for a flush while it
/// wasn't.
fn take_flush<V: Vendor>(cx: &Cx<'_, V>, gpa: u64) -> bool {
    /// Others may ask meanwhile, each once.
    const TRIES: u32 = 64;
    let guest = cx.vm.memory().guest().by(cx.vcpu.index());
    let at = Gpa::new(gpa.wrapping_add(PREEMPTED_AT));
    for _ in 0..TRIES {
        let mut old = [0];
        if guest.read(at, &mut old).is_err() {
            return false;
        }
        let [old] = old;
        if old == 0 {
            return false;
        }
        match guest.compare_exchange(at, 1, old.into(), 0) {
            Ok(true) => return old & FLUSH_TLB != 0,
            Ok(false) => {}
            Err(_) => break,
        }
    }
    // To be sure.
    true
}

/// The hooks of a vCPU that is in `KVM_RUN`.
pub(crate) struct Hooks<'a, V: Vendor> {
    pub(crate) vm: &'a Vm<X86<V>>,
    pub(crate) vcpu: &'a Vcpu<X86<V>>,
}

impl<V: Vendor> SchedHooks for Hooks<'_, V> {
    fn sched_in(&self, _cpu: Pinned<'_>) {
        if self.vcpu.shared().steal().gpa.get() != 0 {
            self.vcpu.requests.set(UPDATE);
        }
        if self.vcpu.shared().has_spun() {
            self.vcpu.requests.set(PAUSE_WINDOW);
        }
    }

    fn sched_out(&self, cpu: Pinned<'_>, _preempted: bool) {
        V::Control::left(self.vcpu.shared().control(), cpu);
        let place = self.vcpu.shared().steal();
        let gpa = place.gpa.get();
        if gpa == 0 || place.is_out.get() {
            return;
        }
        let at = Gpa::new(gpa.wrapping_add(PREEMPTED_AT));
        // What isn't there at once can't be waited for; then nobody knows.
        let guest = self.vm.memory().guest_atomic().by(self.vcpu.index());
        if guest.write(at, &[PREEMPTED]).is_ok() {
            place.is_out.store(true, Relaxed);
        }
    }
}
