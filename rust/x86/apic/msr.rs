// SPDX-License-Identifier: GPL-2.0
//! The MSRs of the local APIC: IA32_APIC_BASE, IA32_TSC_DEADLINE, and the registers
//! of x2APIC mode.

use super::{carry_out, changed, page, timer::Clock};
use crate::{
    mailbox, regs,
    state::{Cx, VcpuState},
    vendor::Vendor,
};
use kvm_irqchip::lapic::{BaseRules, LocalApic};
use kvm_policy::{
    feature::Feature as F,
    msr::{By, Refusal},
};
use x86_defs::msr;

/// Reads IA32_APIC_BASE, IA32_TSC_DEADLINE or a register in x2APIC mode.
///
/// # Errors
///
/// [`Refusal`] for registers that aren't there.
pub(crate) fn read_msr<V: Vendor>(cx: &mut Cx<'_, V>, index: u32) -> Result<u64, Refusal> {
    match index {
        msr::APIC_BASE => return Ok(regs::apic_base(cx.state)),
        // What others sent shows in the IRR.
        msr::X2APIC_BASE.. => mailbox::collect(cx),
        _ => {}
    }
    let clock = Clock::of(cx.state);
    match (&cx.state.apic, index) {
        (Some(apic), msr::TSC_DEADLINE) => Ok(apic.tsc_deadline(clock.now().tsc)),
        (None, msr::TSC_DEADLINE) => Ok(0),
        (Some(apic), _) => apic.read_msr(index, || clock.now()).map_err(|_| Refusal::Invalid),
        (None, _) => Err(Refusal::Invalid),
    }
}

/// Writes one of them.
///
/// # Errors
///
/// [`Refusal`] for registers that aren't there and values that they don't take.
#[inline]
pub(crate) fn write_msr<V: Vendor>(
    cx: &mut Cx<'_, V>,
    index: u32,
    value: u64,
    by: By,
) -> Result<(), Refusal> {
    if index == msr::APIC_BASE {
        return set_base(cx, value, by);
    }
    let clock = Clock::of(cx.state);
    match (&mut cx.state.apic, index) {
        (Some(apic), msr::TSC_DEADLINE) => {
            let what = apic.set_tsc_deadline(value);
            changed(cx, what);
            Ok(())
        }
        // Without a local APIC there is no timer to set.
        (None, msr::TSC_DEADLINE) => Ok(()),
        (Some(apic), _) => {
            let effects =
                apic.write_msr(index, value, || clock.now()).map_err(|_| Refusal::Invalid)?;
            carry_out(cx, effects);
            Ok(())
        }
        (None, _) => Err(Refusal::Invalid),
    }
}

/// Whether a write of this register is over at once: it takes no lock and can't wait.
#[inline]
pub(crate) fn is_quick_write<V: Vendor>(state: &VcpuState<V>, index: u32) -> bool {
    match index {
        // The IOAPIC and userspace have locks.
        msr::X2APIC_EOI => state.apic.as_ref().is_some_and(LocalApic::ends_quietly),
        msr::X2APIC_TPR
        | msr::X2APIC_ICR
        | msr::X2APIC_SELF_IPI
        | msr::X2APIC_TMICT
        | msr::TSC_DEADLINE => true,
        _ => false,
    }
}

fn base_rules<V: Vendor>(state: &VcpuState<V>, by: By) -> BaseRules {
    BaseRules {
        address_bits: state.physical_bits(),
        x2apic: state.cpuid.has(F::X2APIC),
        host: by == By::Host,
    }
}

/// Sets IA32_APIC_BASE. May sleep.
///
/// # Errors
///
/// [`Refusal::Invalid`] for a value that it doesn't take.
pub(crate) fn set_base<V: Vendor>(cx: &mut Cx<'_, V>, value: u64, by: By) -> Result<(), Refusal> {
    let rules = base_rules(cx.state, by);
    match &mut cx.state.apic {
        Some(apic) => {
            let old = apic.base();
            let what = apic.write_base(value, rules).map_err(|_| Refusal::Invalid)?;
            page::follow(cx, old);
            changed(cx, what);
        }
        None => {
            cx.state.apic_base =
                cx.state.apic_base.write(value, rules).map_err(|_| Refusal::Invalid)?;
        }
    }
    Ok(())
}
