// SPDX-License-Identifier: GPL-2.0
//! What an entry checks of the guest's state (27.3.1): the processor says that it refuses it, not why.
//!
//! The rules are those for unrestricted guests. In the order of the manual, so that the first
//! that fails is the one that is worth a look.

use crate::{
    control::{Entry, Secondary},
    event::{Event, Interruptibility, Kind},
    field::Slot,
};
use core::fmt;
use x86_defs::{Cr0, Cr4, Efer, Rflags};

/// What the processor has of the registers that are checked.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Width of physical addresses.
    pub physical_bits: u32,
    /// Width of linear addresses: 48 or 57.
    pub linear_bits: u32,
    /// Bits of CR0 that must be 1, and those that may be (IA32_VMX_CR0_FIXED0 and 1).
    pub cr0: (u64, u64),
    /// The same of CR4.
    pub cr4: (u64, u64),
}

/// A check that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// What is wrong.
    pub what: &'static str,
    /// What it has.
    pub value: u64,
    /// What would be right.
    pub rule: &'static str,
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:#x}: {}", self.what, self.value, self.rule)
    }
}

/// The first check that fails of the state that `get` reads; `None` if all of them hold, and the
/// processor has another reason.
pub fn first_failing(get: &dyn Fn(Slot) -> u64, limits: &Limits) -> Option<Failing> {
    let guest = Guest { get, limits };
    let checks = [
        Guest::control_registers,
        Guest::msrs,
        Guest::code_segment,
        Guest::stack_segment,
        Guest::data_segments,
        Guest::system_segments,
        Guest::tables,
        Guest::instruction,
        Guest::blocking,
        Guest::debug,
        Guest::pointers,
    ];
    checks.iter().find_map(|check| check(&guest).err())
}

/// How the number of VM-instruction error that concerns an entry is put in words (table 31-1).
pub const fn instruction_error(number: u64) -> &'static str {
    match number {
        4 => "VMLAUNCH of a structure that was launched",
        5 => "VMRESUME of a structure that wasn't launched",
        7 => "invalid control field",
        8 => "invalid host state",
        26 => "events are blocked by MOV SS",
        _ => "unexpected error",
    }
}

struct Guest<'a> {
    get: &'a dyn Fn(Slot) -> u64,
    limits: &'a Limits,
}

type Outcome = Result<(), Failing>;

/// Fails with what is wrong unless a rule holds.
const fn rule(holds: bool, what: &'static str, value: u64, rule: &'static str) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(Failing { what, value, rule })
    }
}

/// ES, CS, SS, DS, FS, GS, LDTR, TR: base, limit, access rights, and the names of each.
const SEGMENTS: [(Slot, Slot, Slot, [&str; 3]); 8] = [
    (Slot::Base0, Slot::Limit0, Slot::Rights0, ["ES base", "ES limit", "ES access rights"]),
    (Slot::Base1, Slot::Limit1, Slot::Rights1, ["CS base", "CS limit", "CS access rights"]),
    (Slot::Base2, Slot::Limit2, Slot::Rights2, ["SS base", "SS limit", "SS access rights"]),
    (Slot::Base3, Slot::Limit3, Slot::Rights3, ["DS base", "DS limit", "DS access rights"]),
    (Slot::Base4, Slot::Limit4, Slot::Rights4, ["FS base", "FS limit", "FS access rights"]),
    (Slot::Base5, Slot::Limit5, Slot::Rights5, ["GS base", "GS limit", "GS access rights"]),
    (Slot::Base6, Slot::Limit6, Slot::Rights6, ["LDTR base", "LDTR limit", "LDTR access rights"]),
    (Slot::Base7, Slot::Limit7, Slot::Rights7, ["TR base", "TR limit", "TR access rights"]),
];
const ES: usize = 0;
const CS: usize = 1;
const SS: usize = 2;
const DS: usize = 3;
const FS: usize = 4;
const GS: usize = 5;
const LDTR: usize = 6;
const TR: usize = 7;

/// Bits of access rights.
const CODE_OR_DATA: u64 = 1 << 4;
const PRESENT: u64 = 1 << 7;
/// 64-bit code, in CS.
pub const LONG: u64 = 1 << 13;
const DEFAULT_32: u64 = 1 << 14;
const GRANULAR: u64 = 1 << 15;
const UNUSABLE: u64 = 1 << 16;
const RIGHTS_RESERVED: u64 = 0xf00 | 0xffff_ffff << 17;

const fn level(rights: u64) -> u64 {
    rights >> 5 & 3
}

/// A segment register.
#[derive(Clone, Copy)]
struct Segment {
    base: u64,
    limit: u64,
    rights: u64,
    names: [&'static str; 3],
}

impl Segment {
    const fn is_usable(self) -> bool {
        self.rights & UNUSABLE == 0
    }

    const fn kind(self) -> u64 {
        self.rights & 0xf
    }

    fn base(self, holds: bool, text: &'static str) -> Outcome {
        let [what, ..] = self.names;
        rule(holds, what, self.base, text)
    }

    fn rights(self, holds: bool, text: &'static str) -> Outcome {
        let [_, _, what] = self.names;
        rule(holds, what, self.rights, text)
    }

    /// What holds of all that are usable; `is_system` of LDTR and TR.
    fn common(self, is_system: bool) -> Outcome {
        let [_, limit, _] = self.names;
        self.rights(
            (self.rights & CODE_OR_DATA == 0) == is_system,
            "bit 4 (S) is of another kind",
        )?;
        self.rights(self.rights & PRESENT != 0, "bit 7 (P) must be 1")?;
        self.rights(self.rights & RIGHTS_RESERVED == 0, "reserved bits must be 0")?;
        let fine = self.limit & 0xfff != 0xfff;
        let coarse = self.limit >> 20 != 0;
        let is_granular = self.rights & GRANULAR != 0;
        rule(!(fine && is_granular), limit, self.limit, "bits 11:0 must be 1 if G is")?;
        rule(!coarse || is_granular, limit, self.limit, "bits 31:20 must be 0 unless G is 1")
    }
}

impl Guest<'_> {
    fn get(&self, slot: Slot) -> u64 {
        (self.get)(slot)
    }

    fn segment(&self, index: usize) -> Segment {
        let (base, limit, rights, names) = SEGMENTS.get(index).copied().unwrap_or(SEGMENTS[CS]);
        Segment { base: self.get(base), limit: self.get(limit), rights: self.get(rights), names }
    }

    fn is_long(&self) -> bool {
        self.get(Slot::EntryControls) & u64::from(Entry::LONG_MODE.bits()) != 0
    }

    fn cr0(&self) -> Cr0 {
        Cr0::from_bits_retain(self.get(Slot::Cr0))
    }

    fn cr4(&self) -> Cr4 {
        Cr4::from_bits_retain(self.get(Slot::Cr4))
    }

    fn rflags(&self) -> Rflags {
        Rflags::from_bits_retain(self.get(Slot::Rflags))
    }

    fn is_virtual_8086(&self) -> bool {
        self.rflags().contains(Rflags::VM)
    }

    /// All bits from the highest of a linear address on are equal.
    fn canonical(&self, what: &'static str, value: u64) -> Outcome {
        let unused = 64_u32.saturating_sub(self.limits.linear_bits);
        let extended = (value.wrapping_shl(unused) as i64).wrapping_shr(unused) as u64;
        rule(extended == value, what, value, "must be canonical")
    }

    /// 27.3.1.1, registers.
    fn control_registers(&self) -> Outcome {
        let (cr0, cr4) = (self.cr0(), self.cr4());
        let (must, may) = self.limits.cr0;
        let has_unrestricted =
            self.get(Slot::Secondary) & u64::from(Secondary::UNRESTRICTED_GUEST.bits()) != 0;
        let free = if has_unrestricted { (Cr0::PE | Cr0::PG).bits() } else { 0 };
        let missing = must & !free & !cr0.bits();
        rule(missing == 0, "CR0", cr0.bits(), "VMX wants bits that are 0 to be 1")?;
        rule(cr0.bits() & !may == 0, "CR0", cr0.bits(), "VMX wants bits that are 1 to be 0")?;
        let paging = cr0.contains(Cr0::PG);
        rule(!paging || cr0.contains(Cr0::PE), "CR0", cr0.bits(), "PG needs PE")?;
        let (must, may) = self.limits.cr4;
        rule(must & !cr4.bits() == 0, "CR4", cr4.bits(), "VMX wants bits that are 0 to be 1")?;
        rule(cr4.bits() & !may == 0, "CR4", cr4.bits(), "the processor has no such bits")?;
        let cet = cr4.contains(Cr4::CET);
        rule(!cet || cr0.contains(Cr0::WP), "CR4", cr4.bits(), "CET needs CR0.WP")?;
        if self.is_long() {
            rule(paging, "CR0", cr0.bits(), "long mode needs PG")?;
            rule(cr4.contains(Cr4::PAE), "CR4", cr4.bits(), "long mode needs PAE")?;
        } else {
            rule(!cr4.contains(Cr4::PCIDE), "CR4", cr4.bits(), "PCIDE needs long mode")?;
        }
        let cr3 = self.get(Slot::Cr3);
        let beyond = cr3 & !(3 << 61) & u64::MAX.wrapping_shl(self.limits.physical_bits);
        rule(beyond == 0, "CR3", cr3, "it is beyond the width of physical addresses")?;
        let dr7 = self.get(Slot::Dr7);
        rule(dr7 >> 32 == 0, "DR7", dr7, "bits 63:32 must be 0")
    }

    /// 27.3.1.1, MSRs.
    fn msrs(&self) -> Outcome {
        self.canonical("SYSENTER_ESP", self.get(Slot::SysenterEsp))?;
        self.canonical("SYSENTER_EIP", self.get(Slot::SysenterEip))?;
        let controls = self.get(Slot::EntryControls);
        if controls & u64::from(Entry::LOAD_PAT.bits()) != 0 {
            let pat = self.get(Slot::Pat);
            let known = pat.to_le_bytes().iter().all(|kind| matches!(*kind, 0 | 1 | 4..=7));
            rule(known, "PAT", pat, "each byte must be one of 0, 1, 4, 5, 6, 7")?;
        }
        if controls & u64::from(Entry::LOAD_EFER.bits()) == 0 {
            return Ok(());
        }
        let value = self.get(Slot::Efer);
        let efer = Efer::from_bits_retain(value);
        let known = Efer::SCE | Efer::LME | Efer::LMA | Efer::NXE;
        rule(value & !known.bits() == 0, "EFER", value, "reserved bits must be 0")?;
        let (lma, lme) = (efer.contains(Efer::LMA), efer.contains(Efer::LME));
        rule(lma == self.is_long(), "EFER", value, "LMA must be that of the entry controls")?;
        let paging = self.cr0().contains(Cr0::PG);
        rule(!paging || lma == lme, "EFER", value, "LMA must be LME with paging")
    }

    /// 27.3.1.2: virtual 8086 mode has all segments alike.
    fn of_virtual_8086(&self, index: usize) -> Outcome {
        let segment = self.segment(index);
        let [_, limit, _] = segment.names;
        rule(segment.limit == 0xffff, limit, segment.limit, "virtual 8086 mode has 0xffff")?;
        segment.rights(segment.rights == 0xf3, "virtual 8086 mode has 0xf3")
    }

    fn code_segment(&self) -> Outcome {
        if self.is_virtual_8086() {
            return self.of_virtual_8086(CS);
        }
        let cs = self.segment(CS);
        cs.base(cs.base >> 32 == 0, "bits 63:32 must be 0")?;
        cs.rights(matches!(cs.kind(), 3 | 9 | 11 | 13 | 15), "type must be 3, 9, 11, 13 or 15")?;
        let (dpl, ss) = (level(cs.rights), level(self.segment(SS).rights));
        match cs.kind() {
            3 => cs.rights(dpl == 0, "DPL must be 0 with type 3")?,
            9 | 11 => cs.rights(dpl == ss, "DPL must be that of SS")?,
            _ => cs.rights(dpl <= ss, "DPL must not be above that of SS")?,
        }
        let is_64 = self.is_long() && cs.rights & LONG != 0;
        cs.rights(!is_64 || cs.rights & DEFAULT_32 == 0, "L and D/B exclude each other")?;
        cs.rights(cs.is_usable(), "it must be usable")?;
        cs.common(false)
    }

    fn stack_segment(&self) -> Outcome {
        if self.is_virtual_8086() {
            return self.of_virtual_8086(SS);
        }
        let ss = self.segment(SS);
        let is_flat = self.segment(CS).kind() == 3 || !self.cr0().contains(Cr0::PE);
        ss.rights(!is_flat || level(ss.rights) == 0, "DPL must be 0 here")?;
        if !ss.is_usable() {
            return Ok(());
        }
        ss.base(ss.base >> 32 == 0, "bits 63:32 must be 0")?;
        ss.rights(matches!(ss.kind(), 3 | 7), "type must be 3 or 7")?;
        ss.common(false)
    }

    fn data_segments(&self) -> Outcome {
        for index in [ES, DS, FS, GS] {
            if self.is_virtual_8086() {
                self.of_virtual_8086(index)?;
                continue;
            }
            let segment = self.segment(index);
            if matches!(index, FS | GS) {
                let [what, ..] = segment.names;
                self.canonical(what, segment.base)?;
            }
            if !segment.is_usable() {
                continue;
            }
            if matches!(index, ES | DS) {
                segment.base(segment.base >> 32 == 0, "bits 63:32 must be 0")?;
            }
            segment.rights(segment.kind() & 1 != 0, "bit 0 (accessed) must be 1")?;
            segment.rights(segment.kind() & 0xa != 8, "a code segment must be readable")?;
            segment.common(false)?;
        }
        Ok(())
    }

    fn system_segments(&self) -> Outcome {
        const LOCAL: u64 = 1 << 2;
        let tr = self.segment(TR);
        let selector = self.get(Slot::Selector7);
        rule(selector & LOCAL == 0, "TR selector", selector, "bit 2 (TI) must be 0")?;
        self.canonical("TR base", tr.base)?;
        tr.rights(tr.is_usable(), "it must be usable")?;
        if self.is_long() {
            tr.rights(tr.kind() == 11, "type must be 11 in long mode")?;
        } else {
            tr.rights(matches!(tr.kind(), 3 | 11), "type must be 3 or 11")?;
        }
        tr.common(true)?;
        let ldtr = self.segment(LDTR);
        if !ldtr.is_usable() {
            return Ok(());
        }
        let selector = self.get(Slot::Selector6);
        rule(selector & LOCAL == 0, "LDTR selector", selector, "bit 2 (TI) must be 0")?;
        self.canonical("LDTR base", ldtr.base)?;
        ldtr.rights(ldtr.kind() == 2, "type must be 2")?;
        ldtr.common(true)
    }

    /// 27.3.1.3.
    fn tables(&self) -> Outcome {
        self.canonical("GDTR base", self.get(Slot::GdtBase))?;
        self.canonical("IDTR base", self.get(Slot::IdtBase))?;
        let (gdt, idt) = (self.get(Slot::GdtLimit), self.get(Slot::IdtLimit));
        rule(gdt >> 16 == 0, "GDTR limit", gdt, "bits 31:16 must be 0")?;
        rule(idt >> 16 == 0, "IDTR limit", idt, "bits 31:16 must be 0")
    }

    /// 27.3.1.4.
    fn instruction(&self) -> Outcome {
        /// All bits that there are, and the one that is always 1.
        const KNOWN: u64 = 0x3f_7fd7;
        let rip = self.get(Slot::Rip);
        if self.is_long() && self.segment(CS).rights & LONG != 0 {
            self.canonical("RIP", rip)?;
        } else {
            rule(rip >> 32 == 0, "RIP", rip, "bits 63:32 must be 0")?;
        }
        let rflags = self.rflags();
        let bits = rflags.bits();
        rule(bits & !KNOWN == 0, "RFLAGS", bits, "reserved bits must be 0")?;
        rule(rflags.contains(Rflags::FIXED), "RFLAGS", bits, "bit 1 must be 1")?;
        let protected = self.cr0().contains(Cr0::PE) && !self.is_long();
        rule(!self.is_virtual_8086() || protected, "RFLAGS", bits, "VM needs protected mode")?;
        let is_open = rflags.contains(Rflags::IF);
        rule(!self.injects(Kind::Interrupt) || is_open, "RFLAGS", bits, "an interrupt needs IF")
    }

    fn injects(&self, wanted: Kind) -> bool {
        let event = Event::from_bits(self.get(Slot::EntryInfo));
        event.get().is_some_and(|(kind, _)| kind == wanted)
    }

    fn blocked(&self) -> Interruptibility {
        Interruptibility::from_bits_retain(self.get(Slot::Interruptibility))
    }

    /// 27.3.1.5, what the guest does and what is blocked.
    fn blocking(&self) -> Outcome {
        let activity = self.get(Slot::Activity);
        rule(activity <= 3, "activity state", activity, "there is none above 3")?;
        let blocked = self.blocked();
        let bits = blocked.bits();
        let what = "interruptibility";
        rule(bits & !0x1f == 0, what, bits, "reserved bits must be 0")?;
        let (sti, mov_ss) =
            (blocked.contains(Interruptibility::STI), blocked.contains(Interruptibility::MOV_SS));
        rule(!(sti && mov_ss), what, bits, "STI and MOV SS exclude each other")?;
        let is_open = self.rflags().contains(Rflags::IF);
        rule(!sti || is_open, what, bits, "STI needs RFLAGS.IF")?;
        let interrupt = self.injects(Kind::Interrupt);
        rule(!interrupt || !(sti || mov_ss), what, bits, "an interrupt needs nothing blocked")?;
        let nmi = self.injects(Kind::Nmi);
        rule(!nmi || !mov_ss, what, bits, "an NMI needs that MOV SS blocks nothing")
    }

    /// 27.3.1.5, pending debug exceptions.
    fn debug(&self) -> Outcome {
        /// Breakpoints 0 to 3, bus lock, enabled breakpoint, single step, RTM.
        const KNOWN: u64 = 0xf | 1 << 11 | 1 << 12 | STEP | 1 << 16;
        const STEP: u64 = 1 << 14;
        const BRANCHES: u64 = 1 << 1;
        let pending = self.get(Slot::PendingDebug);
        let what = "pending debug exceptions";
        rule(pending & !KNOWN == 0, what, pending, "reserved bits must be 0")?;
        if self.blocked().intersects(Interruptibility::STI | Interruptibility::MOV_SS) {
            let steps =
                self.rflags().contains(Rflags::TF) && self.get(Slot::DebugCtl) & BRANCHES == 0;
            let same = (pending & STEP != 0) == steps;
            rule(same, what, pending, "BS must be RFLAGS.TF where STI or MOV SS blocks")?;
        }
        Ok(())
    }

    /// 27.3.1.5, the link pointer, and 27.3.1.6.
    fn pointers(&self) -> Outcome {
        /// In an entry: present, and bits that are reserved.
        const P: u64 = 1;
        const RESERVED: u64 = 0x1e6;
        let link = self.get(Slot::LinkPointer);
        rule(link == u64::MAX, "link pointer", link, "there is no shadow structure")?;
        let pae = self.cr0().contains(Cr0::PG) && self.cr4().contains(Cr4::PAE);
        if !pae || self.is_long() {
            return Ok(());
        }
        let beyond = u64::MAX.wrapping_shl(self.limits.physical_bits);
        for slot in [Slot::Pdpte0, Slot::Pdpte1, Slot::Pdpte2, Slot::Pdpte3] {
            let entry = self.get(slot);
            let fine = entry & P == 0 || entry & (RESERVED | beyond) == 0;
            rule(fine, "page-directory pointer", entry, "reserved bits must be 0")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        physical_bits: 40,
        linear_bits: 48,
        cr0: (0x8000_0021, 0xffff_ffff),
        cr4: (0x2000, 0x0037_27ff),
    };

    /// A guest in 64-bit mode.
    fn guest(slot: Slot) -> u64 {
        match slot {
            Slot::EntryControls => 0xd3ff,
            Slot::Secondary => 0xaa,
            Slot::Cr0 => 0x8005_0033,
            Slot::Cr4 => 0x26a0,
            Slot::Cr3 => 0x10_0000,
            Slot::Dr7 => 0x400,
            Slot::Pat => 0x0007_0406_0007_0406,
            Slot::Efer => 0xd01,
            Slot::Rights1 => 0xa09b,
            Slot::Rights0 | Slot::Rights2 | Slot::Rights3 => 0xc093,
            Slot::Rights4 | Slot::Rights5 | Slot::Rights6 => 0x1_0000,
            Slot::Rights7 => 0x8b,
            Slot::Limit0 | Slot::Limit1 | Slot::Limit2 | Slot::Limit3 => 0xffff_ffff,
            Slot::Limit7 => 0x67,
            Slot::Selector7 => 0x40,
            Slot::GdtLimit | Slot::IdtLimit => 0xfff,
            Slot::Rip => 0xffff_ffff_8000_0000,
            Slot::Rflags => 0x202,
            Slot::LinkPointer => u64::MAX,
            _ => 0,
        }
    }

    fn fails(changes: &[(Slot, u64)]) -> Option<&'static str> {
        let get = |slot| {
            let change = changes.iter().find(|(changed, _)| *changed == slot);
            change.map_or_else(|| guest(slot), |(_, value)| *value)
        };
        first_failing(&get, &LIMITS).map(|failing| failing.what)
    }

    /// 16-bit code without protection or paging.
    const REAL: &[(Slot, u64)] = &[
        (Slot::EntryControls, 0xd1ff),
        (Slot::Cr0, 0x30),
        (Slot::Cr4, 0x2000),
        (Slot::Efer, 0),
        (Slot::Rights0, 0x93),
        (Slot::Rights1, 0x9b),
        (Slot::Rights2, 0x93),
        (Slot::Rights3, 0x93),
        (Slot::Limit0, 0xffff),
        (Slot::Limit1, 0xffff),
        (Slot::Limit2, 0xffff),
        (Slot::Limit3, 0xffff),
        (Slot::Rip, 0xfff0),
        (Slot::Rflags, 2),
    ];

    #[test]
    fn right_states_pass() {
        assert_eq!(fails(&[]), None);
        assert_eq!(fails(REAL), None);
    }

    #[test]
    fn each_check_is_named() {
        for (slot, value, what) in [
            (Slot::Cr0, 0x8005_0013, "CR0"),
            (Slot::Cr0, 0x8005_0032, "CR0"),
            (Slot::Cr0, 0x0005_0033, "CR0"),
            (Slot::Cr4, 0x6a0, "CR4"),
            (Slot::Cr4, 0x2680, "CR4"),
            (Slot::Cr4, 0x8000_26a0, "CR4"),
            (Slot::Cr3, 1 << 40, "CR3"),
            (Slot::Dr7, 1 << 32, "DR7"),
            (Slot::SysenterEsp, 1 << 47, "SYSENTER_ESP"),
            (Slot::SysenterEip, 1 << 63, "SYSENTER_EIP"),
            (Slot::Pat, 2, "PAT"),
            (Slot::Efer, 0x101, "EFER"),
            (Slot::Efer, 0x1d01, "EFER"),
            (Slot::Base1, 1 << 32, "CS base"),
            (Slot::Rights1, 0xa092, "CS access rights"),
            (Slot::Rights1, 0xe09b, "CS access rights"),
            (Slot::Rights1, 0xa0fb, "CS access rights"),
            (Slot::Rights1, 0xa01b, "CS access rights"),
            (Slot::Limit1, 0xffff_f000, "CS limit"),
            (Slot::Rights2, 0xc091, "SS access rights"),
            (Slot::Rights3, 0xc092, "DS access rights"),
            (Slot::Rights3, 0x4093, "DS limit"),
            (Slot::Base0, 1 << 40, "ES base"),
            (Slot::Base4, 1 << 47, "FS base"),
            (Slot::Rights7, 0x83, "TR access rights"),
            (Slot::Rights7, 0x1_008b, "TR access rights"),
            (Slot::Selector7, 0x44, "TR selector"),
            (Slot::Rights6, 0x8b, "LDTR access rights"),
            (Slot::GdtBase, 1 << 62, "GDTR base"),
            (Slot::IdtLimit, 0x1_0000, "IDTR limit"),
            (Slot::Rip, 1 << 60, "RIP"),
            (Slot::Rflags, 0x200, "RFLAGS"),
            (Slot::Rflags, 0x8202, "RFLAGS"),
            (Slot::Rflags, 0x2_0202, "CS limit"),
            (Slot::Activity, 4, "activity state"),
            (Slot::Interruptibility, 3, "interruptibility"),
            (Slot::Interruptibility, 0x20, "interruptibility"),
            (Slot::PendingDebug, 1 << 5, "pending debug exceptions"),
            (Slot::LinkPointer, 0, "link pointer"),
        ] {
            assert_eq!(fails(&[(slot, value)]), Some(what), "{slot:?} {value:#x}");
        }
    }

    #[test]
    fn events_want_nothing_blocked() {
        let interrupt = (Slot::EntryInfo, Event::new(Kind::Interrupt, 0x41).bits());
        let nmi = (Slot::EntryInfo, Event::new(Kind::Nmi, 2).bits());
        assert_eq!(fails(&[interrupt]), None);
        assert_eq!(fails(&[interrupt, (Slot::Rflags, 2)]), Some("RFLAGS"));
        assert_eq!(fails(&[interrupt, (Slot::Interruptibility, 1)]), Some("interruptibility"));
        assert_eq!(fails(&[nmi, (Slot::Interruptibility, 2)]), Some("interruptibility"));
        assert_eq!(
            fails(&[(Slot::Rflags, 2), (Slot::Interruptibility, 1)]),
            Some("interruptibility")
        );
        let stepping = [(Slot::Rflags, 0x302), (Slot::Interruptibility, 1)];
        assert_eq!(fails(&stepping), Some("pending debug exceptions"));
    }

    #[test]
    fn pae_pointers() {
        let mut state = REAL.to_vec();
        state.retain(|(slot, _)| !matches!(slot, Slot::Cr0 | Slot::Cr4));
        state.extend([(Slot::Cr0, 0x8000_0031), (Slot::Cr4, 0x2020), (Slot::Pdpte2, 0x1001)]);
        assert_eq!(fails(&state), None);
        state.push((Slot::Pdpte3, 0x1003));
        assert_eq!(fails(&state), Some("page-directory pointer"));
    }

    #[test]
    fn says_it_in_words() {
        let failing = Failing { what: "TR", value: 3, rule: "no" };
        extern crate std;
        assert_eq!(std::format!("{failing}"), "TR is 0x3: no");
        assert_eq!(instruction_error(7), "invalid control field");
    }
}
