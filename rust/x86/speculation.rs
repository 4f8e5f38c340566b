// SPDX-License-Identifier: GPL-2.0
//! The registers by which guests control speculation: IA32_SPEC_CTRL, IA32_PRED_CMD,
//! IA32_FLUSH_CMD, and VIRT_SPEC_CTRL of AMD's.
//!
//! A guest that never wrote anything but 0 to SPEC_CTRL runs with the host's, which it can't
//! tell: its accesses exit. From the first other value on entries and exits switch the
//! register, and the guest accesses it by itself, as it does the two commands if its CPUID
//! has them.

use crate::{
    control::Control,
    host, msr_filter,
    state::{Cx, VcpuState},
    vendor::Vendor,
};
use kvm_policy::{
    feature::{Feature as F, FeatureSet},
    msr::{check_spec_ctrl, pred_cmd_valid, By, Refusal},
};
use kvm_sys::x86::spec_ctrl::{self, Controls};
use x86_defs::msr;

/// Whether it is one of those that a guest accesses by itself only if [`passes`] says so.
pub const fn is_one(index: u32) -> bool {
    matches!(index, msr::SPEC_CTRL | msr::PRED_CMD | msr::FLUSH_CMD)
}

/// Whether the guest accesses a register by itself, as far as that depends on what it has.
pub(crate) fn passes<V: Vendor>(state: &VcpuState<V>, index: u32, is_write: bool) -> bool {
    let features = &state.cpuid.features;
    match index {
        msr::SPEC_CTRL => features.has_spec_ctrl() && state.control.switches_spec_ctrl(),
        msr::PRED_CMD => is_write && features.has_pred_cmd(),
        msr::FLUSH_CMD => is_write && features.has(F::FLUSH_L1D),
        _ => true,
    }
}

/// Features of guests that follow from what the host's kernel knows, whichever vendor's bits
/// it knows that by.
pub(crate) fn features() -> FeatureSet {
    let host = Controls::of_host();
    let mut features = FeatureSet::EMPTY;
    features.set(F::AMD_IBPB, host.ibpb);
    features.set(F::AMD_IBPB_RET, host.ibpb && host.ibpb_returns);
    features.set(F::AMD_IBRS, host.ibrs);
    features.set(F::AMD_STIBP, host.stibp);
    features.set(F::INTEL_STIBP, host.stibp);
    features.set(F::AMD_SSBD, host.ssbd);
    features.set(F::SPEC_CTRL_SSBD, host.ssbd);
    features.set(F::SPEC_CTRL, host.ibrs && host.ibpb && host.ibpb_returns);
    features.set(F::VIRT_SSBD, host.virtual_ssbd && !host.ssbd);
    features
}

/// Writes SPEC_CTRL.
///
/// # Errors
///
/// [`Refusal::Invalid`] for a value that the guest's, or for the host the host's, processor
/// doesn't take.
pub(crate) fn write_spec_ctrl<V: Vendor>(
    cx: &mut Cx<'_, V>,
    value: u64,
    by: By,
) -> Result<(), Refusal> {
    let host = host::get().map_err(|_| Refusal::Unknown)?;
    check_spec_ctrl(value, by, &cx.state.cpuid.features.features, host.spec_ctrl)?;
    let before = cx.state.control.switches_spec_ctrl();
    cx.state.control.set_spec_ctrl(value);
    if cx.state.control.switches_spec_ctrl() != before {
        msr_filter::changed(cx);
    }
    Ok(())
}

/// Writes PRED_CMD.
///
/// # Errors
///
/// [`Refusal::Invalid`] for commands that there aren't.
pub(crate) fn command_predictors<V: Vendor>(
    state: &VcpuState<V>,
    value: u64,
    by: By,
) -> Result<(), Refusal> {
    let features: &FeatureSet = match (by, host::get()) {
        (By::Guest, _) => &state.cpuid.features.features,
        (By::Host, Ok(host)) => host.supported.features(),
        (By::Host, Err(_)) => return Err(Refusal::Unknown),
    };
    if value & !pred_cmd_valid(features) != 0 {
        return Err(Refusal::Invalid);
    }
    if value != 0 {
        spec_ctrl::predictor_barrier();
    }
    Ok(())
}

/// Writes FLUSH_CMD.
///
/// # Errors
///
/// [`Refusal::Invalid`] for commands that there aren't.
pub(crate) fn command_caches(value: u64) -> Result<(), Refusal> {
    const L1D: u64 = 1;
    if value & !L1D != 0 || !spec_ctrl::has_l1d_flush() {
        return Err(Refusal::Invalid);
    }
    if value != 0 {
        spec_ctrl::flush_l1d();
    }
    Ok(())
}
