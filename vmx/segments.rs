// SPDX-License-Identifier: GPL-2.0
//! Segment registers in the VMCS (SDM vol. 3, 25.4.1), and what an entry wants of them
//! (27.3.1.2).

use crate::fields::Fields;
use kvm_emulate::Table;
use vmx_arch::{check::LONG, field::Slot};
use x86_defs::{SegReg, Segment};

/// Selector, base, limit and access rights.
const fn slots(reg: SegReg) -> (Slot, Slot, Slot, Slot) {
    match reg {
        SegReg::Es => (Slot::Selector0, Slot::Base0, Slot::Limit0, Slot::Rights0),
        SegReg::Cs => (Slot::Selector1, Slot::Base1, Slot::Limit1, Slot::Rights1),
        SegReg::Ss => (Slot::Selector2, Slot::Base2, Slot::Limit2, Slot::Rights2),
        SegReg::Ds => (Slot::Selector3, Slot::Base3, Slot::Limit3, Slot::Rights3),
        SegReg::Fs => (Slot::Selector4, Slot::Base4, Slot::Limit4, Slot::Rights4),
        SegReg::Gs => (Slot::Selector5, Slot::Base5, Slot::Limit5, Slot::Rights5),
        SegReg::Ldtr => (Slot::Selector6, Slot::Base6, Slot::Limit6, Slot::Rights6),
        SegReg::Tr => (Slot::Selector7, Slot::Base7, Slot::Limit7, Slot::Rights7),
    }
}

/// Base and limit of a descriptor table.
pub(crate) const fn table(table: Table) -> (Slot, Slot) {
    match table {
        Table::Gdt => (Slot::GdtBase, Slot::GdtLimit),
        Table::Idt => (Slot::IdtBase, Slot::IdtLimit),
    }
}

/// Bits of the access rights that hold the privilege level.
const DPL: u64 = 3 << 5;

/// Whether CS has 64-bit code, if long mode is on.
#[inline]
pub(crate) fn is_64_bit_code(fields: &Fields) -> bool {
    fields.get(Slot::Rights1) & LONG != 0
}

/// A register.
pub(crate) fn read(fields: &Fields, reg: SegReg) -> Segment {
    let (selector, base, limit, rights) = slots(reg);
    let mut segment = Segment {
        base: fields.get(base),
        limit: fields.get(limit) as u32,
        selector: fields.get(selector) as u16,
        ..Segment::default()
    };
    segment.set_vmx_access_rights(fields.get(rights) as u32);
    segment
}

/// Sets a register.
pub(crate) fn write(fields: &mut Fields, reg: SegReg, segment: &Segment) {
    let mut segment = *segment;
    if reg != SegReg::Ldtr {
        // What is loaded has been accessed, and a task that runs is busy: an entry
        // insists on it, and some VMMs forget it.
        segment.typ |= 1;
    }
    segment.unusable |= !segment.present;
    let (selector, base, limit, rights) = slots(reg);
    fields.set(selector, segment.selector.into());
    fields.set(base, segment.base);
    fields.set(limit, segment.limit.into());
    fields.set(rights, segment.vmx_access_rights().into());
}

/// The privilege level: that of SS, usable or not.
#[inline]
pub(crate) fn cpl(fields: &Fields) -> u8 {
    (fields.get(Slot::Rights2) >> 5 & 3) as u8
}

/// Sets the privilege level.
pub(crate) fn set_cpl(fields: &mut Fields, cpl: u8) {
    let rights = fields.get(Slot::Rights2) & !DPL | u64::from(cpl & 3) << 5;
    fields.set(Slot::Rights2, rights);
}
