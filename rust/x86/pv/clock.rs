// SPDX-License-Identifier: GPL-2.0
//! kvmclock: a guest's time since it was started, read without an exit.
//!
//! Each vCPU has a record in guest memory that says what time it is at one value
//! of its TSC, and how fast that counts. If the host's time comes from the TSC
//! and the vCPUs' TSCs agree, all records describe the same moment, the
//! [`Master`]'s; guests may then compare times of different vCPUs. Otherwise each
//! record describes the moment it was written, and is written again when the vCPU
//! comes to another processor.
//!
//! Lock: the master's. Whoever changes it asks all vCPUs to write their records
//! while holding it, so that none runs with a new record beside one with an old.
//!
//! `Documentation/virt/kvm/x86/msr.rst`, MSR_KVM_SYSTEM_TIME_NEW and
//! MSR_KVM_WALL_CLOCK_NEW; `Documentation/virt/kvm/x86/timekeeping.rst`.

use crate::{
    state::Cx,
    vendor::{Vendor, X86},
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Mutex,
    },
};
use kvm_core::{memory::GuestRecord, vm::Vm};
use kvm_paging::addr::Gpa;
use kvm_policy::{
    msr::By,
    pvclock::{self, PvClock, Scale, STABLE},
    tsc::cycles_to_ns,
};
use kvm_sys::{
    plain::Plain,
    x86::tsc::{self as host, rdtsc, Clock},
};
use kvm_uapi::vcpu::ClockData;

/// Write the record before the next entry.
pub(crate) use crate::request::CLOCK_UPDATE as UPDATE;

/// `ClockData::flags`: the guest's clock is the master's.
const TSC_STABLE: u32 = 1 << 1;
/// `ClockData::flags`: `realtime` is there.
const REALTIME: u32 = 1 << 2;
/// `ClockData::flags`: `host_tsc` is there.
const HOST_TSC: u32 = 1 << 3;
/// All of them, which is what `KVM_CAP_ADJUST_CLOCK` says.
pub(crate) const FLAGS: u32 = TSC_STABLE | REALTIME | HOST_TSC;

/// The clock of a VM.
#[pin_data]
pub(crate) struct VmClock {
    #[pin]
    master: Mutex<Master>,
    /// There is a common moment.
    is_stable: Atomic<bool>,
    /// What the guest wrote to the wall clock's MSR.
    wall_clock: Atomic<u64>,
}

/// What all vCPUs' clocks are made from.
struct Master {
    /// Added to the host's time since boot.
    offset: i64,
    /// The moment that all records describe, if they can.
    moment: Option<Moment>,
    /// The boot processor uses the old MSR, whose guests know nothing of stable
    /// clocks.
    old_msr: bool,
}

/// One moment on the host.
#[derive(Clone, Copy)]
struct Moment {
    tsc: u64,
    /// Time since boot.
    ns: i64,
}

impl Moment {
    /// Now, if TSC and time come from the same source.
    fn by_tsc() -> Option<Self> {
        let now = host::read(Clock::Boottime)?;
        Some(Self { tsc: now.tsc, ns: now.raw.wrapping_add(host::boot_offset()) })
    }

    /// Now, as well as two clocks can be read one after the other.
    fn now() -> Self {
        let ns = host::monotonic_raw().wrapping_add(host::boot_offset());
        Self { tsc: rdtsc(), ns }
    }

    /// Time since boot when the TSC shows `tsc`.
    fn ns_at(self, tsc: u64) -> i64 {
        let passed = cycles_to_ns(tsc.wrapping_sub(self.tsc), host::khz());
        self.ns.wrapping_add(passed as i64)
    }
}

impl VmClock {
    /// A clock that shows zero now.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        let offset = Moment::now().ns.wrapping_neg();
        let master = Master { offset, moment: None, old_msr: false };
        try_pin_init!(Self {
            master <- new_mutex!(master, "kvm_clock"),
            is_stable: Atomic::new(false),
            wall_clock: Atomic::new(0),
        })
    }

    pub(crate) fn wall_clock(&self) -> u64 {
        self.wall_clock.load(Relaxed)
    }

    /// Whether all vCPUs' clocks describe one moment.
    #[inline]
    pub(crate) fn is_stable(&self) -> bool {
        self.is_stable.get()
    }

    /// The guest's time now, in nanoseconds.
    fn now(&self) -> i64 {
        let master = self.master.lock();
        let ns = match master.moment {
            Some(moment) => moment.ns_at(rdtsc()),
            None => Moment::now().ns,
        };
        ns.wrapping_add(master.offset)
    }
}

/// Finds the moment for all vCPUs anew, and has them write their records.
pub(crate) fn update_all<V: Vendor>(vm: &Vm<X86<V>>, change: impl FnOnce(&mut MasterChange<'_>)) {
    let agree = vm.arch().tsc.lock().all_agree(vm.vcpus().count());
    let clock = &vm.arch().clock;
    let mut master = clock.master.lock();
    vm.vcpus().request_all(UPDATE);
    master.moment = if agree && !master.old_msr { Moment::by_tsc() } else { None };
    change(&mut MasterChange(&mut master));
    clock.is_stable.store(master.moment.is_some(), Relaxed);
}

/// What may be changed with the update.
pub(crate) struct MasterChange<'a>(&'a mut Master);

impl MasterChange<'_> {
    /// Makes the guest's time `ns` at the new moment.
    fn set(&mut self, ns: u64) {
        let base = self.0.moment.unwrap_or_else(Moment::now).ns;
        self.0.offset = (ns as i64).wrapping_sub(base);
    }
}

/// `KVM_GET_CLOCK`.
pub(crate) fn get<V: Vendor>(vm: &Vm<X86<V>>) -> ClockData {
    let mut data = ClockData { clock: 0, flags: 0, pad0: 0, realtime: 0, host_tsc: 0, pad: [0; 4] };
    let master = vm.arch().clock.master.lock();
    let ns = match (master.moment, host::read(Clock::Realtime)) {
        (Some(moment), Some(now)) => {
            data.flags = FLAGS;
            data.realtime = now.time as u64;
            data.host_tsc = now.tsc;
            moment.ns_at(now.tsc)
        }
        (Some(moment), None) => {
            data.flags = TSC_STABLE;
            moment.ns_at(rdtsc())
        }
        (None, _) => Moment::now().ns,
    };
    data.clock = ns.wrapping_add(master.offset) as u64;
    data
}

/// `KVM_SET_CLOCK`.
///
/// # Errors
///
/// `EINVAL` for unknown flags.
pub(crate) fn set<V: Vendor>(vm: &Vm<X86<V>>, data: &ClockData) -> Result {
    if data.flags & !FLAGS != 0 {
        return Err(EINVAL);
    }
    update_all(vm, |master| {
        let mut ns = data.clock;
        if data.flags & REALTIME != 0 {
            // The time that passed on the way from another host; never backwards.
            ns = ns.wrapping_add((host::realtime() as u64).saturating_sub(data.realtime));
        }
        master.set(ns);
    });
    Ok(())
}

/// A vCPU's record.
#[derive(Default)]
pub(crate) struct VcpuClock {
    msr: u64,
    record: Option<GuestRecord>,
    version: u32,
    /// Tell the guest that it was stopped.
    was_stopped: bool,
    /// The processor that the record was written on.
    cpu: u32,
}

impl VcpuClock {
    /// The MSR.
    pub(crate) fn msr(&self) -> u64 {
        self.msr
    }

    /// As after INIT.
    pub(super) fn reset(&mut self) {
        (self.msr, self.record) = (0, None);
    }

    /// Whether the record is from another processor than this one.
    #[inline]
    pub(crate) fn is_from_elsewhere(&self, cpu: u32) -> bool {
        self.cpu != cpu && self.record.is_some()
    }
}

/// The guest, or userspace for it, says where the record is.
pub(crate) fn write_system_time<V: Vendor>(cx: &mut Cx<'_, V>, value: u64, old: bool, by: By) {
    let is_boot = cx.vcpu.index() == 0;
    if is_boot && by == By::Guest {
        let changed = {
            let mut master = cx.vm.arch().clock.master.lock();
            core::mem::replace(&mut master.old_msr, old) != old || master.moment.is_none()
        };
        if changed {
            update_all(&cx.vm, |_| {});
        }
    }
    let clock = &mut cx.state.pv.clock;
    clock.msr = value;
    clock.record = (value & pvclock::ENABLE != 0)
        .then(|| GuestRecord::new(Gpa::new(value & !pvclock::ENABLE), pvclock::SIZE));
    cx.vcpu.requests.set(UPDATE);
}

/// `KVM_KVMCLOCK_CTRL`: the guest is to know that it was stopped.
///
/// The record is written at once: a guest's vDSO reads that of vCPU 0 on all
/// vCPUs, and one that goes on first must not see the time that it stood still
/// as passed.
///
/// # Errors
///
/// `EINVAL` if it has no clock.
pub(crate) fn tell_stopped<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<u32> {
    if cx.state.pv.clock.record.is_none() {
        return Err(EINVAL);
    }
    cx.state.pv.clock.was_stopped = true;
    update(cx);
    Ok(0)
}

/// Writes the record as of now. Where there is no memory for it the guest gets
/// none.
pub(crate) fn update<V: Vendor>(cx: &mut Cx<'_, V>) {
    let master = cx.vm.arch().clock.master.lock();
    let moment = master.moment.unwrap_or_else(Moment::now);
    let system_time = moment.ns.wrapping_add(master.offset) as u64;
    let is_stable = master.moment.is_some();
    drop(master);
    let state = &mut *cx.state;
    let clock = &mut state.pv.clock;
    clock.cpu = kernel::cpu::CpuId::current().as_u32();
    let Some(record) = &mut clock.record else { return };
    let now = PvClock {
        tsc_timestamp: state.tsc.at(moment.tsc),
        system_time,
        scale: Scale::to_ns(state.tsc.khz),
        flags: if is_stable { STABLE } else { 0 },
    };
    let guest = cx.vm.memory().guest().by(cx.vcpu.index());
    let mut flags = [0];
    if record.read(&guest, pvclock::FLAGS_AT, &mut flags).is_err() {
        return;
    }
    let mut now = now.keeping(flags[0]);
    if core::mem::replace(&mut clock.was_stopped, false) {
        now.flags |= pvclock::GUEST_STOPPED;
    }
    let begun = pvclock::update_begins(clock.version);
    clock.version = pvclock::update_ends(begun);
    // The guest's vCPU doesn't run meanwhile; others may read its record, and
    // copies to user memory are in order on x86.
    let _ = record
        .write(&guest, pvclock::VERSION_AT, &begun.to_le_bytes())
        .and_then(|()| record.write(&guest, 0, &now.encode(begun)))
        .and_then(|()| record.write(&guest, pvclock::VERSION_AT, &clock.version.to_le_bytes()));
}

/// The guest asks for the time of day when its clock stood at zero.
pub(crate) fn write_wall_clock<V: Vendor>(cx: &mut Cx<'_, V>, value: u64) {
    let clock = &cx.vm.arch().clock;
    clock.wall_clock.store(value, Relaxed);
    if value == 0 {
        return;
    }
    let memory = cx.vm.memory().guest().by(cx.vcpu.index());
    let at = Gpa::new(value);
    let mut version = [0; 4];
    if memory.read(at, &mut version).is_err() {
        return;
    }
    let begun = pvclock::update_begins(u32::from_le_bytes(version));
    let boot_ns = host::realtime().wrapping_sub(clock.now()) as u64;
    let ended = pvclock::update_ends(begun);
    // Where there is no memory the guest gets nothing.
    let _ = memory
        .write(at, &begun.to_le_bytes())
        .and_then(|()| memory.write(at, &pvclock::wall_clock(begun, boot_ns)))
        .and_then(|()| memory.write(at, &ended.to_le_bytes()));
}
