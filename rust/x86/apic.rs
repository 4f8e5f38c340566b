// SPDX-License-Identifier: GPL-2.0
//! The local APIC that the kernel has.

use crate::{
    regs,
    state::{Cx, VcpuState},
    vendor::Vendor,
};
use kvm_emulate::io::Fragment;
use kvm_irqchip::lapic::BaseRules;
use kvm_policy::{
    feature::Feature as F,
    msr::{By, Refusal},
};
use x86_defs::msr;

/// An access to the registers of the local APIC; the data of a read.
pub(crate) fn access<V: Vendor>(_cx: &mut Cx<'_, V>, access: &Fragment) -> u64 {
    access.data
}

fn base_rules<V: Vendor>(state: &VcpuState<V>, by: By) -> BaseRules {
    BaseRules {
        address_bits: state.physical_bits(),
        x2apic: state.cpuid.has(F::X2APIC),
        host: by == By::Host,
    }
}

/// Reads IA32_APIC_BASE, IA32_TSC_DEADLINE or a register in x2APIC mode.
///
/// # Errors
///
/// [`Refusal`] for registers that aren't there.
pub(crate) fn read_msr<V: Vendor>(cx: &mut Cx<'_, V>, index: u32) -> Result<u64, Refusal> {
    match index {
        msr::APIC_BASE => Ok(regs::apic_base(cx.state)),
        msr::TSC_DEADLINE => Ok(0),
        _ => Err(Refusal::Invalid),
    }
}

/// Writes one of them.
///
/// # Errors
///
/// [`Refusal`] for registers that aren't there and values that they don't take.
pub(crate) fn write_msr<V: Vendor>(
    cx: &mut Cx<'_, V>,
    index: u32,
    value: u64,
    by: By,
) -> Result<(), Refusal> {
    match index {
        msr::APIC_BASE => set_base(cx, value, by),
        // Without a local APIC there is no timer to set.
        msr::TSC_DEADLINE => Ok(()),
        _ => Err(Refusal::Invalid),
    }
}

/// Sets IA32_APIC_BASE.
///
/// # Errors
///
/// [`Refusal::Invalid`] for a value that it doesn't take.
pub(crate) fn set_base<V: Vendor>(cx: &mut Cx<'_, V>, value: u64, by: By) -> Result<(), Refusal> {
    let rules = base_rules(cx.state, by);
    cx.state.apic_base = cx.state.apic_base.write(value, rules).map_err(|_| Refusal::Invalid)?;
    Ok(())
}
