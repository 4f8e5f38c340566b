// SPDX-License-Identifier: GPL-2.0
//! What KVM offers to guests that know of it.
//!
//! `clock`: time; `steal`: time that others took. MSRs are dispatched here; `Documentation/virt/kvm/x86/msr.rst`.

pub(crate) mod clock;
pub(crate) mod steal;

use crate::{apic, state::Cx, vendor::Vendor};
use kvm_policy::{
    msr::{By, PvMsr, Refusal},
    pv::PvFeatures,
    pv_msr::check,
};

/// A vCPU's side.
#[derive(Default)]
pub struct Pv {
    pub(crate) clock: clock::VcpuClock,
    pub(crate) steal: steal::StealTime,
    /// Another vCPU woke this one: its next HLT ends at once.
    pub(crate) unhalted: bool,
}

/// Features whose implementation is finished.
pub(crate) fn features() -> PvFeatures {
    PvFeatures::CLOCKSOURCE
        | PvFeatures::CLOCKSOURCE2
        | PvFeatures::CLOCKSOURCE_STABLE
        | PvFeatures::NOP_IO_DELAY
        | PvFeatures::PV_EOI
        | PvFeatures::PV_SEND_IPI
        | PvFeatures::PV_UNHALT
        | PvFeatures::STEAL_TIME
        | PvFeatures::PV_TLB_FLUSH
}

/// Whether the guest can have what the register belongs to.
fn is_there(which: PvMsr) -> bool {
    matches!(
        which,
        PvMsr::WallClockOld
            | PvMsr::SystemTimeOld
            | PvMsr::WallClock
            | PvMsr::SystemTime
            | PvMsr::StealTime
            | PvMsr::PvEoi
    )
}

/// Reads a register.
///
/// # Errors
///
/// [`Refusal::Unknown`] for what isn't offered.
pub(crate) fn read_msr<V: Vendor>(cx: &Cx<'_, V>, which: PvMsr) -> Result<u64, Refusal> {
    match which {
        PvMsr::WallClockOld | PvMsr::WallClock => Ok(cx.vm.arch().clock.wall_clock()),
        PvMsr::SystemTimeOld | PvMsr::SystemTime => Ok(cx.state.pv.clock.msr()),
        PvMsr::StealTime => Ok(cx.state.pv.steal.msr()),
        PvMsr::PvEoi => Ok(cx.state.link.pv_eoi.msr()),
        _ => Err(Refusal::Unknown),
    }
}

/// Writes a register.
///
/// # Errors
///
/// [`Refusal`] for what isn't offered, and for values that it doesn't take.
pub(crate) fn write_msr<V: Vendor>(
    cx: &mut Cx<'_, V>,
    which: PvMsr,
    value: u64,
    by: By,
) -> Result<(), Refusal> {
    if !is_there(which) {
        return Err(Refusal::Unknown);
    }
    check(which, value, features(), cx.state.apic.is_some())?;
    match which {
        PvMsr::WallClockOld | PvMsr::WallClock => clock::write_wall_clock(cx, value),
        PvMsr::SystemTimeOld => clock::write_system_time(cx, value, true, by),
        PvMsr::SystemTime => clock::write_system_time(cx, value, false, by),
        PvMsr::StealTime => steal::write_msr(cx, value),
        PvMsr::PvEoi => return apic::pv_eoi::set(cx, value).map_err(|_| Refusal::Invalid),
        _ => return Err(Refusal::Unknown),
    }
    Ok(())
}
