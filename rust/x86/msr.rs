// SPDX-License-Identifier: GPL-2.0
//! Model-specific registers of a vCPU.

use crate::{
    control::Control,
    regs,
    state::{Cx, VcpuState},
    tsc,
    vendor::Vendor,
};
use kernel::prelude::*;
use x86_defs::{Cr0, Efer};

/// IA32_TSC.
const TSC: u32 = 0x10;
/// IA32_APIC_BASE.
const APIC_BASE: u32 = 0x1b;
/// EFER.
const EFER: u32 = 0xc000_0080;

/// Reads an MSR for the guest; `None` if it takes #GP.
pub(crate) fn read<V: Vendor>(cx: &mut Cx<'_, V>, index: u32) -> Option<u64> {
    get(cx.state, index)
}

/// Writes an MSR for the guest.
///
/// # Errors
///
/// Any: the guest takes #GP.
pub(crate) fn write<V: Vendor>(cx: &mut Cx<'_, V>, index: u32, value: u64) -> Result {
    set(cx, index, value, false)
}

/// Reads an MSR for userspace.
pub(crate) fn get<V: Vendor>(state: &VcpuState<V>, index: u32) -> Option<u64> {
    if let Some(value) = state.control.msr(index) {
        return Some(value);
    }
    match index {
        TSC => Some(tsc::guest_now(state)),
        APIC_BASE => Some(regs::apic_base(state)),
        EFER => Some(state.control.efer().bits()),
        _ => None,
    }
}

/// Sets an MSR, for the guest or for userspace (`by_host`).
///
/// # Errors
///
/// `EINVAL` for MSRs and values that the vCPU doesn't have.
pub(crate) fn set<V: Vendor>(cx: &mut Cx<'_, V>, index: u32, value: u64, by_host: bool) -> Result {
    if cx.state.control.set_msr(index, value) {
        return Ok(());
    }
    match index {
        EFER => set_efer(cx.state, value, by_host),
        TSC => {
            tsc::set(cx.state, value);
            Ok(())
        }
        APIC_BASE if by_host => {
            cx.state.apic_base = value;
            Ok(())
        }
        _ => Err(EINVAL),
    }
}

fn set_efer<V: Vendor>(state: &mut VcpuState<V>, value: u64, by_host: bool) -> Result {
    let old = state.control.efer();
    let mut new = Efer::from_bits_retain(value);
    if value & !(state.cpuid.features.efer_valid | Efer::LMA.bits()) != 0 {
        return Err(EINVAL);
    }
    let paging = state.control.cr0().contains(Cr0::PG);
    if !by_host {
        if paging && (old ^ new).contains(Efer::LME) {
            return Err(EINVAL);
        }
        new = new & !Efer::LMA | old & Efer::LMA;
    }
    state.control.set_efer(new);
    if (old ^ new).contains(Efer::NXE) {
        state.control.flush_tlb();
    }
    Ok(())
}
