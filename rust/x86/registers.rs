// SPDX-License-Identifier: GPL-2.0
//! Control registers: reading them, and what a write changes.

use crate::{
    control::Control,
    host, regs,
    state::{Cx, VcpuState},
    vendor::Vendor,
};
use kvm_emulate::Stop;
use kvm_paging::addr::Gpa;
use kvm_policy::{
    control::{is_valid_cr8, pdptes_valid, Change, Control as Registers},
    msr::{By, Refusal},
    xcr::check_xcr,
};
use x86_defs::SegReg;

/// CR0, 2, 3, 4 or 8.
pub(crate) fn cr<V: Vendor>(state: &VcpuState<V>, n: u8) -> u64 {
    let control = &state.control;
    match n {
        0 => control.cr0().bits(),
        2 => control.cr2(),
        3 => control.cr3(),
        4 => control.cr4().bits(),
        8 => regs::cr8(state).into(),
        _ => 0,
    }
}

/// Writes CR0, 2, 3, 4 or 8 as MOV does.
///
/// # Errors
///
/// #GP(0) for values that the architecture doesn't allow.
pub fn write_cr<V: Vendor>(cx: &mut Cx<'_, V>, n: u8, value: u64) -> Result<(), Stop> {
    match n {
        0 => write_cr0(cx, value),
        2 => {
            cx.state.control.set_cr2(value);
            Ok(())
        }
        3 => write_cr3(cx, value),
        4 => write_cr4(cx, value),
        8 => write_cr8(cx, value),
        _ => Err(Stop::UD),
    }
}

fn write_cr0<V: Vendor>(cx: &mut Cx<'_, V>, value: u64) -> Result<(), Stop> {
    let cs_l = cx.state.control.segment(SegReg::Cs).l;
    let (new, change) = all(cx.state).write_cr0(value, cs_l).map_err(|_| Stop::GP0)?;
    commit(cx, new, change)
}

fn write_cr3<V: Vendor>(cx: &mut Cx<'_, V>, value: u64) -> Result<(), Stop> {
    let old = all(cx.state);
    // Outside of long mode there are 32 bits.
    let value = if old.is_long() { value } else { value & 0xffff_ffff };
    let (new, change) = old.write_cr3(value, &cx.state.cpuid.features).map_err(|_| Stop::GP0)?;
    commit(cx, new, change)
}

fn write_cr4<V: Vendor>(cx: &mut Cx<'_, V>, value: u64) -> Result<(), Stop> {
    let (new, change) =
        all(cx.state).write_cr4(value, &cx.state.cpuid.features).map_err(|_| Stop::GP0)?;
    commit(cx, new, change)
}

/// Makes the registers what they are to be, and does what follows.
///
/// # Errors
///
/// #GP(0) for page-directory pointers that can't be; then nothing has changed.
pub(crate) fn commit<V: Vendor>(
    cx: &mut Cx<'_, V>,
    new: Registers,
    change: Change,
) -> Result<(), Stop> {
    if change.contains(Change::LOAD_PDPTES) {
        load_pdptrs(cx, new.cr3)?;
    }
    let old = all(cx.state);
    if new.efer != old.efer {
        cx.state.set_efer(new.efer);
    }
    let control = &mut cx.state.control;
    if new.cr0 != old.cr0 {
        control.set_cr0(new.cr0);
    }
    if new.cr3 != old.cr3 {
        control.set_cr3(new.cr3);
    }
    // A processor with two levels of tables caches translations by address space: whatever changes how
    // tables are walked, or which translations are valid, begins a new one.
    if change.intersects(Change::PAGING | Change::FLUSH_ALL | Change::FLUSH_CURRENT) {
        control.flush_guest_tlb();
    }
    if new.cr4 != old.cr4 {
        cx.state.set_cr4(new.cr4);
    }
    Ok(())
}

/// The page-directory pointers of PAE paging.
pub(crate) fn pdptrs<V: Vendor>(cx: &Cx<'_, V>) -> [u64; 4] {
    let control = &cx.state.control;
    control.pdptrs().or_else(|| read_pdptrs(cx, control.cr3())).unwrap_or([0; 4])
}

/// Those in guest memory; `None` where there is no memory.
fn read_pdptrs<V: Vendor>(cx: &Cx<'_, V>, cr3: u64) -> Option<[u64; 4]> {
    let mut bytes = [0; 32];
    let table = Gpa::new(cr3 & 0xffff_ffe0);
    cx.vm.memory_of(cx.state.smm.is_active()).read(table, &mut bytes).ok()?;
    let mut pointers = [0; 4];
    for (pointer, bytes) in pointers.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut raw = [0; 8];
        raw.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        *pointer = u64::from_le_bytes(raw);
    }
    Some(pointers)
}

/// Loads the page-directory pointers of PAE paging (SDM vol. 3, 4.4.1).
pub(crate) fn load_pdptrs<V: Vendor>(cx: &mut Cx<'_, V>, cr3: u64) -> Result<(), Stop> {
    let pointers = read_pdptrs(cx, cr3).ok_or(Stop::GP0)?;
    if !pdptes_valid(&pointers, &cx.state.cpuid.features) {
        return Err(Stop::GP0);
    }
    cx.state.control.set_pdptrs(pointers);
    Ok(())
}

/// Every write of CR8 exits: userspace, which has the local APIC, has to know of
/// lower priorities.
pub(crate) const ANY_PRIORITY: u8 = 15;

fn write_cr8<V: Vendor>(cx: &mut Cx<'_, V>, value: u64) -> Result<(), Stop> {
    if !is_valid_cr8(value) {
        return Err(Stop::GP0);
    }
    let cr8 = value as u8;
    match &mut cx.state.apic {
        Some(apic) => {
            // Whatever that lets through is looked for below.
            let _ = apic.set_cr8(cr8);
        }
        None => cx.state.control.set_tpr(cr8 << 4, Some(ANY_PRIORITY)),
    }
    cx.state.events.check = true;
    Ok(())
}

/// Writes EFER.
///
/// # Errors
///
/// [`Refusal::Invalid`] for values that the side can't write.
pub(crate) fn write_efer<V: Vendor>(cx: &mut Cx<'_, V>, value: u64, by: By) -> Result<(), Refusal> {
    let old = all(cx.state);
    let (new, change) = match by {
        By::Guest => old.write_efer(value, &cx.state.cpuid.features)?,
        By::Host => {
            let host = host::get().map_err(|_| Refusal::Unknown)?;
            old.set_efer(value, host.supported.efer_valid())?
        }
    };
    cx.state.set_efer(new.efer);
    if change.contains(Change::PAGING) {
        cx.state.control.flush_guest_tlb();
    }
    Ok(())
}

/// The registers that the rules are about.
pub(crate) fn all<V: Vendor>(state: &VcpuState<V>) -> Registers {
    let control = &state.control;
    Registers { cr0: control.cr0(), cr3: control.cr3(), cr4: control.cr4(), efer: control.efer() }
}

/// Writes XCR0 as XSETBV does.
///
/// # Errors
///
/// #GP(0).
pub fn write_xcr<V: Vendor>(cx: &mut Cx<'_, V>, n: u32, value: u64) -> Result<(), Stop> {
    let is_valid = check_xcr(n, value, &cx.state.cpuid.features).is_ok();
    if !is_valid || !cx.state.extended.set_xcr0(value) {
        return Err(Stop::GP0);
    }
    Ok(())
}
