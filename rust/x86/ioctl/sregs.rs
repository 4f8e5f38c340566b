// SPDX-License-Identifier: GPL-2.0
//! `KVM_GET_SREGS` and `KVM_SET_SREGS`, and the same with page-directory pointers.

use super::events;
use crate::{apic, control::Control, inject::Injected, registers, regs, state::Cx, vendor::Vendor};
use kernel::prelude::*;
use kvm_emulate::Table;
use kvm_policy::{
    control::is_valid_cr8,
    msr::By,
    sregs::{check_sregs, check_sregs2, PDPTRS_VALID},
};
use kvm_sys::user;
use kvm_uapi::x86::{self as uapi, Dtable, Sregs, Sregs2};
use x86_defs::{Cr0, Cr4, Efer, SegReg, Segment, TableReg};

fn to_user(from: &Segment) -> uapi::Segment {
    uapi::Segment {
        base: from.base,
        limit: from.limit,
        selector: from.selector,
        type_: from.typ,
        present: from.present.into(),
        dpl: from.dpl,
        db: from.db.into(),
        s: from.s.into(),
        l: from.l.into(),
        g: from.g.into(),
        avl: from.avl.into(),
        unusable: from.unusable.into(),
        padding: 0,
    }
}

fn from_user(from: &uapi::Segment) -> Segment {
    Segment {
        base: from.base,
        limit: from.limit,
        selector: from.selector,
        typ: from.type_ & 0xf,
        dpl: from.dpl & 3,
        s: from.s != 0,
        present: from.present != 0,
        avl: from.avl != 0,
        l: from.l != 0,
        db: from.db != 0,
        g: from.g != 0,
        unusable: from.unusable != 0 || from.present == 0,
    }
}

fn table<V: Vendor>(cx: &Cx<'_, V>, table: Table) -> Dtable {
    let TableReg { base, limit } = cx.state.control.table(table);
    Dtable { base, limit, padding: [0; 3] }
}

/// The registers, as userspace has them.
pub(crate) fn snapshot<V: Vendor>(cx: &mut Cx<'_, V>) -> Sregs {
    events::settle_payload(cx);
    let control = &cx.state.control;
    let segment = |reg| to_user(&control.segment(reg));
    Sregs {
        cs: segment(SegReg::Cs),
        ds: segment(SegReg::Ds),
        es: segment(SegReg::Es),
        fs: segment(SegReg::Fs),
        gs: segment(SegReg::Gs),
        ss: segment(SegReg::Ss),
        tr: segment(SegReg::Tr),
        ldt: segment(SegReg::Ldtr),
        gdt: table(cx, Table::Gdt),
        idt: table(cx, Table::Idt),
        cr0: control.cr0().bits(),
        cr2: control.cr2(),
        cr3: control.cr3(),
        cr4: control.cr4().bits(),
        cr8: regs::cr8(cx.state).into(),
        efer: control.efer().bits(),
        apic_base: regs::apic_base(cx.state),
        interrupt_bitmap: pending_interrupt(cx),
    }
}

fn pending_interrupt<V: Vendor>(cx: &Cx<'_, V>) -> [u64; 4] {
    let mut bitmap = [0u64; 4];
    if let Some(vector) = events::injected_interrupt(cx) {
        if let Some(word) = bitmap.get_mut(usize::from(vector / 64)) {
            *word = 1u64.wrapping_shl(u32::from(vector));
        }
    }
    bitmap
}

/// Sets them.
///
/// # Errors
///
/// `EINVAL` for a state that no processor can be in.
pub(crate) fn restore<V: Vendor>(cx: &mut Cx<'_, V>, sregs: &Sregs) -> Result {
    check_sregs(sregs, &cx.state.cpuid.features).map_err(|_| EINVAL)?;
    load(cx, sregs)?;
    if let Some(vector) = first_vector(&sregs.interrupt_bitmap) {
        inject_interrupt(cx, vector);
    }
    if is_pae(sregs) {
        // Userspace may have set registers before memory: what can't be read now
        // is found out by the guest.
        let _ = registers::load_pdptrs(cx, sregs.cr3);
    }
    Ok(())
}

/// The interrupt with this vector was on its way to the guest.
fn inject_interrupt<V: Vendor>(cx: &mut Cx<'_, V>, vector: u8) {
    let state = &mut *cx.state;
    if state.apic.is_none() {
        state.events.user_interrupt = Some(vector);
    } else if matches!(state.events.injected, None | Some(Injected::Interrupt(_))) {
        state.events.injected = Some(Injected::Interrupt(vector));
    }
}

/// Loads what both structures have; the values were checked.
fn load<V: Vendor>(cx: &mut Cx<'_, V>, sregs: &Sregs) -> Result {
    if !is_valid_cr8(sregs.cr8) {
        return Err(EINVAL);
    }
    apic::set_base(cx, sregs.apic_base, By::Host).map_err(|_| EINVAL)?;
    let state = &mut *cx.state;
    state.set_cr4(Cr4::from_bits_retain(sregs.cr4));
    state.set_efer(Efer::from_bits_retain(sregs.efer));
    let control = &mut state.control;
    for (which, table) in [(Table::Gdt, &sregs.gdt), (Table::Idt, &sregs.idt)] {
        control.set_table(which, TableReg { base: table.base, limit: table.limit });
    }
    control.set_cr2(sregs.cr2);
    control.set_cr3(sregs.cr3);
    control.set_cr0(Cr0::from_bits_retain(sregs.cr0) | Cr0::ET);
    let segments = [
        (SegReg::Cs, &sregs.cs),
        (SegReg::Ds, &sregs.ds),
        (SegReg::Es, &sregs.es),
        (SegReg::Fs, &sregs.fs),
        (SegReg::Gs, &sregs.gs),
        (SegReg::Ss, &sregs.ss),
        (SegReg::Tr, &sregs.tr),
        (SegReg::Ldtr, &sregs.ldt),
    ];
    for (reg, segment) in segments {
        control.set_segment(reg, &from_user(segment));
    }
    control.flush_guest_tlb();
    let cr8 = sregs.cr8 as u8;
    match &mut state.apic {
        Some(apic) => {
            let _ = apic.set_cr8(cr8);
        }
        None => state.control.set_tpr(cr8 << 4, Some(registers::ANY_PRIORITY)),
    }
    state.events.check = true;
    Ok(())
}

fn is_pae(sregs: &Sregs) -> bool {
    let paging = Cr0::from_bits_retain(sregs.cr0).contains(Cr0::PG);
    let pae = Cr4::from_bits_retain(sregs.cr4).contains(Cr4::PAE);
    paging && pae && !Efer::from_bits_retain(sregs.efer).contains(Efer::LMA)
}

fn first_vector(bitmap: &[u64; 4]) -> Option<u8> {
    let (index, word) = bitmap.iter().enumerate().find(|(_, word)| **word != 0)?;
    Some((index as u8).wrapping_mul(64).wrapping_add(word.trailing_zeros() as u8))
}

pub(crate) fn get<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    user::write(arg, &snapshot(cx)).map(|()| 0)
}

pub(crate) fn set<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let sregs: Sregs = user::read(arg)?;
    restore(cx, &sregs).map(|()| 0)
}

/// `KVM_GET_SREGS2`.
pub(crate) fn get2<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let Sregs { cs, ds, es, fs, gs, ss, tr, ldt, gdt, idt, cr0, cr2, cr3, cr4, cr8, .. } =
        snapshot(cx);
    let is_pae = registers::all(cx.state).is_pae_paging();
    let all = Sregs2 {
        cs,
        ds,
        es,
        fs,
        gs,
        ss,
        tr,
        ldt,
        gdt,
        idt,
        cr0,
        cr2,
        cr3,
        cr4,
        cr8,
        efer: cx.state.control.efer().bits(),
        apic_base: regs::apic_base(cx.state),
        flags: if is_pae { PDPTRS_VALID } else { 0 },
        pdptrs: if is_pae { registers::pdptrs(cx) } else { [0; 4] },
    };
    user::write(arg, &all).map(|()| 0)
}

/// `KVM_SET_SREGS2`.
///
/// # Errors
///
/// `EINVAL` for a state that no processor can be in, or unknown flags.
pub(crate) fn set2<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let all: Sregs2 = user::read(arg)?;
    check_sregs2(&all, &cx.state.cpuid.features).map_err(|_| EINVAL)?;
    let Sregs2 { cs, ds, es, fs, gs, ss, tr, ldt, gdt, idt, cr0, cr2, cr3, cr4, cr8, .. } = all;
    let sregs = Sregs {
        cs,
        ds,
        es,
        fs,
        gs,
        ss,
        tr,
        ldt,
        gdt,
        idt,
        cr0,
        cr2,
        cr3,
        cr4,
        cr8,
        efer: all.efer,
        apic_base: all.apic_base,
        interrupt_bitmap: [0; 4],
    };
    load(cx, &sregs)?;
    if all.flags & PDPTRS_VALID != 0 {
        cx.state.control.set_pdptrs(all.pdptrs);
    } else if is_pae(&sregs) {
        // As above.
        let _ = registers::load_pdptrs(cx, sregs.cr3);
    }
    Ok(0)
}
