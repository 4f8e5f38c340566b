// SPDX-License-Identifier: GPL-2.0
//! Registers that live in more than one place.

use crate::{control::Control, state::VcpuState, vendor::Vendor};

/// CR8: the task priority of the local APIC, or what the VMM keeps of its own.
pub(crate) fn cr8<V: Vendor>(state: &VcpuState<V>) -> u8 {
    match &state.apic {
        Some(apic) => apic.cr8(),
        None => state.control.tpr(0) >> 4,
    }
}

/// IA32_APIC_BASE.
pub(crate) fn apic_base<V: Vendor>(state: &VcpuState<V>) -> u64 {
    match &state.apic {
        Some(apic) => apic.base().raw(),
        None => state.apic_base.raw(),
    }
}
