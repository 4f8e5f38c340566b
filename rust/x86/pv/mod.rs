// SPDX-License-Identifier: GPL-2.0
//! What KVM offers to guests that know of it.
//!
//! `clock`: time. MSRs are dispatched here; `Documentation/virt/kvm/x86/msr.rst`.

pub(crate) mod clock;

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
}

/// Features whose implementation is finished.
pub(crate) fn features() -> PvFeatures {
    PvFeatures::CLOCKSOURCE
        | PvFeatures::CLOCKSOURCE2
        | PvFeatures::CLOCKSOURCE_STABLE
        | PvFeatures::NOP_IO_DELAY
        | PvFeatures::PV_EOI
}

/// Whether the guest can have what the register belongs to.
fn is_there(which: PvMsr) -> bool {
    match which {
        PvMsr::WallClockOld
        | PvMsr::SystemTimeOld
        | PvMsr::WallClock
        | PvMsr::SystemTime
        | PvMsr::PvEoi => true,
        _ => false,
    }
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
        PvMsr::PvEoi => return apic::pv_eoi::set(cx, value).map_err(|_| Refusal::Invalid),
        _ => return Err(Refusal::Unknown),
    }
    Ok(())
}
