// SPDX-License-Identifier: GPL-2.0
//! The register page of xAPIC mode.

use super::{carry_out, changed, is_quick_write, page, timer::Clock, vapic};
use crate::{
    mailbox,
    state::{Cx, VcpuState},
    vendor::Vendor,
};
use kvm_emulate::io::Fragment;
use kvm_irqchip::lapic::Changed;
use kvm_sys::x86::trace::kvm_apic;
use x86_defs::msr;

/// An access to the registers of the local APIC; the data of a read.
///
/// Outside of xAPIC mode nothing is there: reads give ones, writes are lost.
pub(crate) fn access<V: Vendor>(cx: &mut Cx<'_, V>, access: &Fragment) -> u64 {
    if !cx.state.apic.as_ref().is_some_and(|apic| apic.has_mmio()) {
        return u64::MAX;
    }
    let offset = (access.addr & 0xfff) as u32;
    if access.kind.is_read() {
        read(cx, offset, access.len.into())
    } else {
        // Registers are written as a whole.
        if access.len == 4 {
            write(cx, offset, access.data as u32);
        }
        access.data
    }
}

/// The guest writes to the EOI register; what doesn't matter.
#[inline]
pub(crate) fn end<V: Vendor>(cx: &mut Cx<'_, V>) {
    kvm_apic(|| (1, page::EOI.into(), 0));
    let Some(apic) = &mut cx.state.apic else { return };
    let effects = apic.write_eoi();
    carry_out(cx, effects);
}

/// Whether an access to a register is over at once: it takes no lock and can't wait.
#[inline]
pub(crate) fn is_quick<V: Vendor>(state: &VcpuState<V>, address: u64, is_write: bool) -> bool {
    /// The upper half of the interrupt command.
    const ICR_HIGH: u32 = 0x310;
    match (address & 0xfff) as u32 {
        _ if !is_write => true,
        ICR_HIGH => true,
        register if register & 0xf == 0 => {
            is_quick_write(state, msr::X2APIC_BASE.wrapping_add(register >> 4))
        }
        _ => false,
    }
}

fn read<V: Vendor>(cx: &mut Cx<'_, V>, offset: u32, len: u32) -> u64 {
    mailbox::collect(cx);
    let clock = Clock::of(cx.state);
    let Some(apic) = &mut cx.state.apic else { return 0 };
    let (value, what) = apic.read_mmio(offset, len, || clock.now());
    if !what.is_empty() {
        if what.contains(Changed::TPR) {
            vapic::accessed(cx, false);
        } else {
            changed(cx, what);
        }
    }
    kvm_apic(|| (0, offset, value.into()));
    value.into()
}

fn write<V: Vendor>(cx: &mut Cx<'_, V>, offset: u32, value: u32) {
    kvm_apic(|| (1, offset, value.into()));
    let clock = Clock::of(cx.state);
    let Some(apic) = &mut cx.state.apic else { return };
    let effects = apic.write_mmio(offset, value, || clock.now());
    if effects.changed.contains(Changed::TPR) {
        vapic::accessed(cx, true);
    }
    carry_out(cx, effects);
}
