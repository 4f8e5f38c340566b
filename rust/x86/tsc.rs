// SPDX-License-Identifier: GPL-2.0
//! The guest's time-stamp counter: the host's plus an offset.

use crate::{control::Control, state::VcpuState, vendor::Vendor};
use kvm_sys::x86::tsc::rdtsc;

/// The guest's TSC now.
pub(crate) fn guest_now<V: Vendor>(state: &VcpuState<V>) -> u64 {
    rdtsc().wrapping_add(state.tsc_offset)
}

/// Makes the guest's TSC read `value` now.
pub(crate) fn set<V: Vendor>(state: &mut VcpuState<V>, value: u64) {
    state.tsc_offset = value.wrapping_sub(rdtsc());
    state.control.set_tsc_offset(state.tsc_offset);
}
