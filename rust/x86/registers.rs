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
    control::{Change, Control as Registers},
    msr::{By, Refusal},
};
use x86_defs::{Cr0, Cr4, Efer};

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

/// Bits of CR0 that exist; the others in the low half are ignored.
const CR0_KNOWN: Cr0 = Cr0::all();

fn write_cr0<V: Vendor>(cx: &mut Cx<'_, V>, value: u64) -> Result<(), Stop> {
    if value >> 32 != 0 {
        return Err(Stop::GP0);
    }
    let new = Cr0::from_bits_truncate(value) & CR0_KNOWN | Cr0::ET;
    let control = &cx.state.control;
    let (old, cr4, efer) = (control.cr0(), control.cr4(), control.efer());
    let paging = new.contains(Cr0::PG);
    if paging && !new.contains(Cr0::PE) || new.contains(Cr0::NW) && !new.contains(Cr0::CD) {
        return Err(Stop::GP0);
    }
    let turns_on = paging && !old.contains(Cr0::PG);
    let mut new_efer = efer;
    if turns_on && efer.contains(Efer::LME) {
        if !cr4.contains(Cr4::PAE) || control.segment(x86_defs::SegReg::Cs).l {
            return Err(Stop::GP0);
        }
        new_efer |= Efer::LMA;
    }
    if !paging {
        if cr4.contains(Cr4::PCIDE) || efer.contains(Efer::LMA) && is_in_64_bit(cx.state) {
            return Err(Stop::GP0);
        }
        new_efer &= !Efer::LMA;
    }
    if turns_on && cr4.contains(Cr4::PAE) && !new_efer.contains(Efer::LMA) {
        load_pdptrs(cx, cx.state.control.cr3())?;
    }
    let control = &mut cx.state.control;
    if new_efer != efer {
        control.set_efer(new_efer);
    }
    control.set_cr0(new);
    if (old ^ new).intersects(Cr0::PG | Cr0::WP) {
        control.flush_tlb();
    }
    Ok(())
}

fn is_in_64_bit<V: Vendor>(state: &VcpuState<V>) -> bool {
    state.control.segment(x86_defs::SegReg::Cs).l
}

/// The bit of CR3 that says, with CR4.PCIDE, that translations may stay.
const CR3_NO_FLUSH: u64 = 1 << 63;

fn write_cr3<V: Vendor>(cx: &mut Cx<'_, V>, value: u64) -> Result<(), Stop> {
    let control = &cx.state.control;
    let (cr4, efer) = (control.cr4(), control.efer());
    let mut value = value;
    let mut keep = false;
    if cr4.contains(Cr4::PCIDE) {
        keep = value & CR3_NO_FLUSH != 0;
        value &= !CR3_NO_FLUSH;
    }
    if efer.contains(Efer::LMA) {
        if value >> cx.state.physical_bits() != 0 {
            return Err(Stop::GP0);
        }
    } else {
        value &= 0xffff_ffff;
        if control.cr0().contains(Cr0::PG) && cr4.contains(Cr4::PAE) {
            load_pdptrs(cx, value)?;
        }
    }
    cx.state.control.set_cr3(value);
    if !keep {
        cx.state.control.flush_tlb();
    }
    Ok(())
}

/// Loads the page-directory pointers of PAE paging (SDM vol. 3, 4.4.1).
pub(crate) fn load_pdptrs<V: Vendor>(cx: &mut Cx<'_, V>, cr3: u64) -> Result<(), Stop> {
    const PRESENT: u64 = 1;
    const RESERVED: u64 = 0x1e6;
    let mut bytes = [0; 32];
    let table = Gpa::new(cr3 & 0xffff_ffe0);
    cx.vm.memory().read(table, &mut bytes).map_err(|_| Stop::GP0)?;
    let mut pointers = [0; 4];
    for (pointer, bytes) in pointers.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut raw = [0; 8];
        raw.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        *pointer = u64::from_le_bytes(raw);
        if *pointer & PRESENT != 0 && *pointer & RESERVED != 0 {
            return Err(Stop::GP0);
        }
    }
    cx.state.pdptrs = pointers;
    Ok(())
}

fn write_cr4<V: Vendor>(cx: &mut Cx<'_, V>, value: u64) -> Result<(), Stop> {
    let new = Cr4::from_bits_retain(value);
    if !cx.state.allows_cr4(value) {
        return Err(Stop::GP0);
    }
    let control = &cx.state.control;
    let (old, efer) = (control.cr4(), control.efer());
    let is_long = efer.contains(Efer::LMA);
    if is_long && (!new.contains(Cr4::PAE) || (old ^ new).contains(Cr4::LA57)) {
        return Err(Stop::GP0);
    }
    let pcid_on = new.contains(Cr4::PCIDE) && !old.contains(Cr4::PCIDE);
    if pcid_on && (!is_long || control.cr3() & 0xfff != 0) {
        return Err(Stop::GP0);
    }
    const PDPTR_BITS: Cr4 =
        Cr4::PAE.union(Cr4::PSE).union(Cr4::PGE).union(Cr4::SMEP).union(Cr4::SMAP);
    let changed = old ^ new;
    let is_pae = control.cr0().contains(Cr0::PG) && new.contains(Cr4::PAE) && !is_long;
    if is_pae && changed.intersects(PDPTR_BITS) {
        load_pdptrs(cx, cx.state.control.cr3())?;
    }
    cx.state.set_cr4(new);
    if changed.intersects(PDPTR_BITS | Cr4::LA57 | Cr4::PKE)
        || changed.contains(Cr4::PCIDE) && !new.contains(Cr4::PCIDE)
    {
        cx.state.control.flush_tlb();
    }
    Ok(())
}

fn write_cr8<V: Vendor>(cx: &mut Cx<'_, V>, value: u64) -> Result<(), Stop> {
    if value > 15 {
        return Err(Stop::GP0);
    }
    let cr8 = value as u8;
    match &mut cx.state.apic {
        Some(apic) => {
            let _ = apic.set_cr8(cr8);
        }
        None => cx.state.control.set_cr8(cr8, None),
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
    cx.state.control.set_efer(new.efer);
    if change.contains(Change::PAGING) {
        cx.state.control.flush_tlb();
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
    let allowed = value & !cx.state.cpuid.features.xcr0 == 0;
    if n != 0 || !allowed || !cx.state.extended.set_xcr0(value) {
        return Err(Stop::GP0);
    }
    Ok(())
}
