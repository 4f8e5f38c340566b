// SPDX-License-Identifier: GPL-2.0
//! Model-specific registers of a vCPU: from a number to its owner.
//!
//! [`kvm_policy::msr`] knows which ones there are, who owns each, and who may do
//! what; here the owners are asked.

use crate::{
    apic,
    control::Control,
    host, msr_filter, params, pv, registers,
    report::Limit,
    settings::Quirk,
    speculation,
    state::{Cx, VcpuState},
    tsc,
    vendor::Vendor,
};
use kvm_policy::{
    msr::{check_read, check_write, is_tolerated, By, Context, Owner, Refusal, Row},
    msr_file::{Effect, Rules, Stored, HWCR_MC_STATUS_WRITE},
    xcr::check_xss,
};

/// Reads an MSR for the guest.
///
/// # Errors
///
/// Any: the guest takes #GP, unless userspace wants to be asked.
pub(crate) fn read<V: Vendor>(cx: &mut Cx<'_, V>, index: u32) -> Result<u64, Refusal> {
    if !msr_filter::allows(&cx.vm, index, false) {
        return Err(Refusal::Filtered);
    }
    access(cx, index, By::Guest)
}

/// Writes an MSR for the guest.
///
/// # Errors
///
/// As [`read`].
pub(crate) fn write<V: Vendor>(cx: &mut Cx<'_, V>, index: u32, value: u64) -> Result<(), Refusal> {
    if !msr_filter::allows(&cx.vm, index, true) {
        return Err(Refusal::Filtered);
    }
    change(cx, index, value, By::Guest)
}

/// Reads an MSR for the guest if that takes no lock and can't wait; `None` for others, and
/// for those that it can't read.
#[inline]
pub(crate) fn read_at_once<V: Vendor>(cx: &mut Cx<'_, V>, index: u32) -> Option<u64> {
    if !msr_filter::allows(&cx.vm, index, false) {
        return None;
    }
    let row = check_read(index, &context(cx.state, By::Guest)).ok()?;
    match row.owner {
        Owner::Stored(slot) => cx.state.msrs.read(slot, By::Guest, &rules(cx).ok()?).ok(),
        Owner::X2Apic | Owner::TscDeadline => apic::read_msr(cx, index).ok(),
        _ => None,
    }
}

/// Writes an MSR for the guest if that takes no lock and can't wait; whether it did. Otherwise
/// nothing is changed.
#[inline]
pub(crate) fn write_at_once<V: Vendor>(cx: &mut Cx<'_, V>, index: u32, value: u64) -> bool {
    if !msr_filter::allows(&cx.vm, index, true) {
        return false;
    }
    let Ok((row, value)) = check_write(index, value, &context(cx.state, By::Guest)) else {
        return false;
    };
    match row.owner {
        Owner::Stored(slot) => store(cx, slot, value, By::Guest).is_ok(),
        Owner::X2Apic | Owner::TscDeadline if apic::is_quick_write(cx.state, index) => {
            apic::write_msr(cx, index, value, By::Guest).is_ok()
        }
        _ => false,
    }
}

/// Reads an MSR for userspace.
///
/// # Errors
///
/// [`Refusal`].
pub(crate) fn get<V: Vendor>(cx: &mut Cx<'_, V>, index: u32) -> Result<u64, Refusal> {
    access(cx, index, By::Host)
}

/// Sets an MSR for userspace.
///
/// # Errors
///
/// [`Refusal`].
pub(crate) fn set<V: Vendor>(cx: &mut Cx<'_, V>, index: u32, value: u64) -> Result<(), Refusal> {
    change(cx, index, value, By::Host)
}

fn access<V: Vendor>(cx: &mut Cx<'_, V>, index: u32, by: By) -> Result<u64, Refusal> {
    match owned_read(cx, index, by) {
        Err(Refusal::Unknown) if passes(index, None, by) => Ok(0),
        result => result,
    }
}

fn change<V: Vendor>(cx: &mut Cx<'_, V>, index: u32, value: u64, by: By) -> Result<(), Refusal> {
    match owned_write(cx, index, value, by) {
        Err(Refusal::Unknown) if passes(index, Some(value), by) => Ok(()),
        result => result,
    }
}

/// Whether an access to a register that isn't there passes all the same.
#[cold]
fn passes(index: u32, written: Option<u64>, by: By) -> bool {
    static LIMIT: Limit = Limit::new();
    let Ok(host) = host::get() else { return false };
    if by == By::Host && is_tolerated(index, written, &host.supported) {
        return true;
    }
    if !params::IGNORE_MSRS.get() {
        return false;
    }
    if params::REPORT_IGNORED_MSRS.get() && LIMIT.allows() {
        match written {
            Some(value) => kernel::pr_info!("ignored write of {value:#x} to MSR {index:#x}\n"),
            None => kernel::pr_info!("ignored read of MSR {index:#x}\n"),
        }
    }
    true
}

fn context<V: Vendor>(state: &VcpuState<V>, by: By) -> Context<'_> {
    let la57 = host::get().is_ok_and(|host| host.la57);
    Context { by, guest: &state.cpuid.features, pv_enforced: state.pv.enforced, la57 }
}

fn rules<V: Vendor>(cx: &Cx<'_, V>) -> Result<Rules, Refusal> {
    let host = host::get().map_err(|_| Refusal::Unknown)?;
    let settings = &cx.vm.arch().settings;
    Ok(Rules {
        features: host.feature_msrs,
        platform_info_readable: settings.platform_info(),
        no_mwait: settings.has_quirk(Quirk::MiscEnableNoMwait),
    })
}

/// What the owner says, if the table lets the access through.
fn owned_read<V: Vendor>(cx: &mut Cx<'_, V>, index: u32, by: By) -> Result<u64, Refusal> {
    let row: &Row = check_read(index, &context(cx.state, by))?;
    let state = &*cx.state;
    match row.owner {
        Owner::Stored(slot) => state.msrs.read(slot, by, &rules(cx)?),
        Owner::Constant(value) => Ok(value),
        Owner::Vendor => {
            state.control.msr(cx.vcpu.shared().control(), index).ok_or(Refusal::Unknown)
        }
        Owner::Efer => Ok(state.control.efer().bits()),
        Owner::ApicBase | Owner::X2Apic | Owner::TscDeadline => apic::read_msr(cx, index),
        Owner::Tsc => Ok(tsc::guest_now(state)),
        Owner::TscAdjust => Ok(state.tsc.adjust),
        Owner::Mtrr => Ok(state.mtrrs.read(index)?),
        Owner::Mce => state.mce.read(index, by),
        Owner::SpecCtrl => Ok(state.control.spec_ctrl()),
        Owner::PredCmd | Owner::FlushCmd => Err(Refusal::Invalid),
        Owner::Xss => Ok(0),
        Owner::Smbase => Ok(state.smbase),
        Owner::Pv(which) => pv::read_msr(cx, which),
    }
}

/// Gives the value to the owner, if the table lets the access through.
fn owned_write<V: Vendor>(
    cx: &mut Cx<'_, V>,
    index: u32,
    value: u64,
    by: By,
) -> Result<(), Refusal> {
    let (row, value) = check_write(index, value, &context(cx.state, by))?;
    match row.owner {
        Owner::Stored(slot) => return store(cx, slot, value, by),
        Owner::Constant(_) => {}
        Owner::Vendor => {
            if !cx.state.control.set_msr(cx.vcpu.shared().control(), index, value) {
                return Err(Refusal::Unknown);
            }
            cx.state.presence.msrs_changed();
        }
        Owner::Efer => return registers::write_efer(cx, value, by),
        Owner::ApicBase | Owner::X2Apic | Owner::TscDeadline => {
            return apic::write_msr(cx, index, value, by)
        }
        Owner::Tsc => match by {
            By::Host => tsc::set_by_host(cx, value),
            By::Guest => tsc::set_by_guest(cx, value),
        },
        Owner::TscAdjust => match by {
            By::Host => cx.state.tsc.adjust = value,
            By::Guest => tsc::adjust(cx, value),
        },
        Owner::Mtrr => cx.state.mtrrs.write(index, value, &cx.state.cpuid.features)?,
        Owner::Mce => return write_mce(cx.state, index, value, by),
        Owner::SpecCtrl => return speculation::write_spec_ctrl(cx, value, by),
        Owner::PredCmd => return speculation::command_predictors(cx.state, value, by),
        Owner::FlushCmd => return speculation::command_caches(value),
        Owner::Xss => check_xss(value, &cx.state.cpuid.features)?,
        Owner::Smbase => cx.state.smbase = value,
        Owner::Pv(which) => return pv::write_msr(cx, which, value, by),
    }
    Ok(())
}

fn store<V: Vendor>(cx: &mut Cx<'_, V>, slot: Stored, value: u64, by: By) -> Result<(), Refusal> {
    let rules = rules(cx)?;
    let state = &mut *cx.state;
    let la57 = host::get().is_ok_and(|host| host.la57);
    let context =
        Context { by, guest: &state.cpuid.features, pv_enforced: state.pv.enforced, la57 };
    match state.msrs.write(slot, value, &context, &rules)? {
        Effect::Pat => state.control.set_pat(state.msrs.get(Stored::Pat)),
        Effect::TscAux => state.tsc_aux_changed(),
        Effect::VirtSpecCtrl => {
            state.control.set_virtual_spec_ctrl(state.msrs.get(Stored::VirtSpecCtrl));
        }
        // CPUID looks these registers up.
        Effect::None | Effect::Cpuid => {}
    }
    Ok(())
}

fn write_mce<V: Vendor>(
    state: &mut VcpuState<V>,
    index: u32,
    value: u64,
    by: By,
) -> Result<(), Refusal> {
    let writable = state.msrs.get(Stored::Hwcr) & HWCR_MC_STATUS_WRITE != 0;
    state.mce.write(index, value, by, writable)
}
