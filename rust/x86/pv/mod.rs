// SPDX-License-Identifier: GPL-2.0
//! What KVM offers to guests that know of it.
//!
//! `clock`: time; `steal`: time that others took; `async_fault`: page faults that
//! don't stop the guest. MSRs are dispatched here; `Documentation/virt/kvm/x86/msr.rst`.

pub(crate) mod async_fault;
pub(crate) mod clock;
pub(crate) mod steal;

use crate::{
    apic,
    state::{Cx, VcpuState},
    vendor::Vendor,
};
use kvm_policy::{
    msr::{By, PvMsr, Refusal},
    pv::PvFeatures,
    pv_msr::check,
};

/// A vCPU's side.
pub struct Pv {
    pub(crate) clock: clock::VcpuClock,
    pub(crate) steal: steal::StealTime,
    /// Another vCPU woke this one: its next HLT ends at once.
    pub(crate) unhalted: bool,
    pub(crate) faults: async_fault::AsyncFaults,
    /// Whether the host may wait busily for a vCPU in HLT.
    poll_control: u64,
    /// Only what the guest's CPUID tells of is there
    /// (`KVM_CAP_ENFORCE_PV_FEATURE_CPUID`).
    pub(crate) enforced: bool,
}

impl Default for Pv {
    fn default() -> Self {
        Self {
            clock: clock::VcpuClock::default(),
            steal: steal::StealTime::default(),
            unhalted: false,
            faults: async_fault::AsyncFaults::default(),
            poll_control: 1,
            enforced: false,
        }
    }
}

/// What INIT ends: records in memory whose next owner knows nothing of them.
pub(crate) fn reset<V: Vendor>(cx: &mut Cx<'_, V>) {
    cx.state.pv.faults.reset();
    cx.state.pv.clock.reset();
    steal::reset(cx);
}

impl Pv {
    /// Whether the host may wait busily for this vCPU, which doesn't do so itself.
    pub(crate) fn may_poll(&self) -> bool {
        self.poll_control & 1 != 0
    }
}

/// Features that the guest can use: those of its CPUID or, unless that is enforced,
/// all.
pub(crate) fn usable<V: Vendor>(state: &VcpuState<V>) -> PvFeatures {
    if state.pv.enforced {
        state.cpuid.features.pv & features()
    } else {
        features()
    }
}

/// Features whose implementation is finished.
pub(crate) fn features() -> PvFeatures {
    PvFeatures::CLOCKSOURCE
        | PvFeatures::CLOCKSOURCE2
        | PvFeatures::CLOCKSOURCE_STABLE
        | PvFeatures::NOP_IO_DELAY
        | PvFeatures::ASYNC_PF
        | PvFeatures::ASYNC_PF_INT
        | PvFeatures::POLL_CONTROL
        | PvFeatures::PV_EOI
        | PvFeatures::PV_SCHED_YIELD
        | PvFeatures::PV_SEND_IPI
        | PvFeatures::PV_UNHALT
        | PvFeatures::STEAL_TIME
        | PvFeatures::PV_TLB_FLUSH
}

/// Reads a register.
///
/// # Errors
///
/// None: the table let the access through.
pub(crate) fn read_msr<V: Vendor>(cx: &Cx<'_, V>, which: PvMsr) -> Result<u64, Refusal> {
    match which {
        PvMsr::WallClockOld | PvMsr::WallClock => Ok(cx.vm.arch().clock.wall_clock()),
        PvMsr::SystemTimeOld | PvMsr::SystemTime => Ok(cx.state.pv.clock.msr()),
        PvMsr::StealTime => Ok(cx.state.pv.steal.msr()),
        PvMsr::PvEoi => Ok(cx.state.link.pv_eoi.msr()),
        PvMsr::AsyncPfEn => Ok(cx.state.pv.faults.msr()),
        PvMsr::AsyncPfInt => Ok(cx.state.pv.faults.vector_msr()),
        PvMsr::AsyncPfAck => Ok(0),
        PvMsr::PollControl => Ok(cx.state.pv.poll_control),
    }
}

/// Writes a register.
///
/// # Errors
///
/// [`Refusal`] for values that it doesn't take.
pub(crate) fn write_msr<V: Vendor>(
    cx: &mut Cx<'_, V>,
    which: PvMsr,
    value: u64,
    by: By,
) -> Result<(), Refusal> {
    check(which, value, usable(cx.state), cx.state.apic.is_some())?;
    match which {
        PvMsr::WallClockOld | PvMsr::WallClock => clock::write_wall_clock(cx, value),
        PvMsr::SystemTimeOld => clock::write_system_time(cx, value, true, by),
        PvMsr::SystemTime => clock::write_system_time(cx, value, false, by),
        PvMsr::StealTime => steal::write_msr(cx, value),
        PvMsr::PvEoi => return apic::pv_eoi::set(cx, value).map_err(|_| Refusal::Invalid),
        PvMsr::AsyncPfEn => return async_fault::enable(cx, value),
        PvMsr::AsyncPfInt => cx.state.pv.faults.set_vector(value),
        PvMsr::AsyncPfAck => async_fault::acknowledge(cx, value),
        PvMsr::PollControl => cx.state.pv.poll_control = value,
    }
    Ok(())
}
