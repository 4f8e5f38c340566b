// SPDX-License-Identifier: GPL-2.0
//! System-management mode: the state-save area, entry and resume.
//!
//! The area is the top 512 bytes of the 64 KiB at SMBASE. Guests with long mode
//! get AMD's 64-bit layout (APM volume 2 table 10-1), others the one of the P6
//! (SDM volume 3 table 32-1), both with the interrupt shadow in a reserved byte.
//! RSM builds the control registers up from real mode by the rules that the
//! guest itself is held to, and shuts down where one is broken.

use crate::control::{is_valid_cr0, Change, Control, GeneralProtection};
use crate::guest_features::GuestFeatures;
use x86_defs::{Cr0, Cr3, Cr4, Efer, SegReg, Segment, TableReg};

/// Bytes of the area.
pub const SIZE: usize = 512;
/// Where the area starts, relative to SMBASE.
pub const OFFSET: u64 = 0xfe00;
/// SMBASE after power-on.
pub const SMBASE_RESET: u32 = 0x3_0000;
/// RIP of the handler, relative to CS.
pub const ENTRY_RIP: u64 = 0x8000;

/// Revision of the 32-bit layout: SMBASE can be relocated.
const REVISION_32: u32 = 0x0002_0000;
/// Revision of the 64-bit layout.
const REVISION_64: u32 = 0x0002_0064;

/// An area as it lies in memory.
pub type Image = [u8; SIZE];

/// What is saved when SMM is entered, and loaded by RSM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmmState {
    /// General registers in encoding order.
    pub gprs: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER; not in the 32-bit layout.
    pub efer: u64,
    /// DR6.
    pub dr6: u64,
    /// DR7.
    pub dr7: u64,
    /// Segment registers by [`SegReg`] number.
    pub segments: [Segment; 8],
    /// GDTR.
    pub gdt: TableReg,
    /// IDTR.
    pub idt: TableReg,
    /// SMBASE: the handler may change it.
    pub smbase: u32,
    /// Interrupt shadow: bit 0 of MOV SS, bit 1 of STI.
    pub interrupt_shadow: u8,
    /// Shadow-stack pointer; not in the 32-bit layout.
    pub ssp: u64,
}

/// RSM found a state that can't be: shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown;

impl From<GeneralProtection> for Shutdown {
    fn from(_: GeneralProtection) -> Self {
        Self
    }
}

/// Offsets of the 64-bit layout. Segments have 16 bytes: selector, attributes,
/// limit, base.
mod at64 {
    use x86_defs::SegReg;

    pub(super) const SEGMENTS: [(SegReg, usize); 8] = [
        (SegReg::Es, 0x00),
        (SegReg::Cs, 0x10),
        (SegReg::Ss, 0x20),
        (SegReg::Ds, 0x30),
        (SegReg::Fs, 0x40),
        (SegReg::Gs, 0x50),
        (SegReg::Ldtr, 0x70),
        (SegReg::Tr, 0x90),
    ];
    pub(super) const GDTR: usize = 0x60;
    pub(super) const IDTR: usize = 0x80;
    pub(super) const SHADOW: usize = 0xcb;
    pub(super) const EFER: usize = 0xd0;
    pub(super) const REVISION: usize = 0xfc;
    pub(super) const SMBASE: usize = 0x100;
    pub(super) const SSP: usize = 0x118;
    pub(super) const CR4: usize = 0x148;
    pub(super) const CR3: usize = 0x150;
    pub(super) const CR0: usize = 0x158;
    pub(super) const DR7: usize = 0x160;
    pub(super) const DR6: usize = 0x168;
    pub(super) const RFLAGS: usize = 0x170;
    pub(super) const RIP: usize = 0x178;
    /// R15 first, RAX last.
    pub(super) const GPRS: usize = 0x180;
}

/// Offsets of the 32-bit layout. Segments have 12 bytes (flags, limit, base) and
/// their selectors elsewhere.
mod at32 {
    use x86_defs::SegReg;

    pub(super) const SMBASE: usize = 0xf8;
    pub(super) const REVISION: usize = 0xfc;
    pub(super) const CR4: usize = 0x114;
    pub(super) const SHADOW: usize = 0x11a;
    pub(super) const IDTR: usize = 0x150;
    pub(super) const GDTR: usize = 0x16c;
    /// Register, place of the hidden part, place of the selector.
    pub(super) const SEGMENTS: [(SegReg, usize, usize); 8] = [
        (SegReg::Ds, 0x12c, 0x1b4),
        (SegReg::Fs, 0x138, 0x1b8),
        (SegReg::Gs, 0x144, 0x1bc),
        (SegReg::Tr, 0x15c, 0x1c4),
        (SegReg::Ldtr, 0x178, 0x1c0),
        (SegReg::Es, 0x184, 0x1a8),
        (SegReg::Cs, 0x190, 0x1ac),
        (SegReg::Ss, 0x19c, 0x1b0),
    ];
    pub(super) const DR7: usize = 0x1c8;
    pub(super) const DR6: usize = 0x1cc;
    /// EAX first, EDI last.
    pub(super) const GPRS: usize = 0x1d0;
    pub(super) const EIP: usize = 0x1f0;
    pub(super) const EFLAGS: usize = 0x1f4;
    pub(super) const CR3: usize = 0x1f8;
    pub(super) const CR0: usize = 0x1fc;
}

fn put<const N: usize>(image: &mut Image, at: usize, bytes: [u8; N]) {
    for (byte, value) in image.iter_mut().skip(at).zip(bytes) {
        *byte = value;
    }
}

fn get<const N: usize>(image: &Image, at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    for (byte, value) in bytes.iter_mut().zip(image.iter().skip(at)) {
        *byte = *value;
    }
    bytes
}

fn get16(image: &Image, at: usize) -> u16 {
    u16::from_le_bytes(get(image, at))
}

fn get32(image: &Image, at: usize) -> u32 {
    u32::from_le_bytes(get(image, at))
}

fn get64(image: &Image, at: usize) -> u64 {
    u64::from_le_bytes(get(image, at))
}

fn put32(image: &mut Image, at: usize, value: u64) {
    put(image, at, (value as u32).to_le_bytes());
}

/// Type, S, DPL, P in 7:0 and AVL, L, D/B, G in 15:12. One that can't be used
/// isn't present.
fn attributes(segment: &Segment) -> u16 {
    let usable = Segment { unusable: false, ..*segment };
    let present = if segment.unusable { !0x80 } else { !0 };
    usable.vmx_access_rights() as u16 & present
}

fn segment(selector: u16, attributes: u16, limit: u32, base: u64) -> Segment {
    let mut segment = Segment { selector, limit, base, ..Segment::default() };
    segment.set_vmx_access_rights(attributes.into());
    segment.unusable = !segment.present;
    segment
}

impl SmmState {
    fn segment(&self, reg: SegReg) -> Segment {
        self.segments.get(reg as usize).copied().unwrap_or_default()
    }

    fn set_segment(&mut self, reg: SegReg, value: Segment) {
        if let Some(segment) = self.segments.get_mut(reg as usize) {
            *segment = value;
        }
    }

    /// The area of a guest with long mode.
    pub fn to_image64(&self) -> Image {
        let mut image = [0; SIZE];
        for (reg, at) in at64::SEGMENTS {
            let segment = self.segment(reg);
            put(&mut image, at, segment.selector.to_le_bytes());
            put(&mut image, at.wrapping_add(2), attributes(&segment).to_le_bytes());
            put(&mut image, at.wrapping_add(4), segment.limit.to_le_bytes());
            put(&mut image, at.wrapping_add(8), segment.base.to_le_bytes());
        }
        for (table, at) in [(self.gdt, at64::GDTR), (self.idt, at64::IDTR)] {
            put(&mut image, at.wrapping_add(4), u32::from(table.limit).to_le_bytes());
            put(&mut image, at.wrapping_add(8), table.base.to_le_bytes());
        }
        put(&mut image, at64::SHADOW, [self.interrupt_shadow]);
        put(&mut image, at64::REVISION, REVISION_64.to_le_bytes());
        put(&mut image, at64::SMBASE, self.smbase.to_le_bytes());
        for (at, value) in [
            (at64::EFER, self.efer),
            (at64::SSP, self.ssp),
            (at64::CR4, self.cr4),
            (at64::CR3, self.cr3),
            (at64::CR0, self.cr0),
            (at64::DR7, self.dr7),
            (at64::DR6, self.dr6),
            (at64::RFLAGS, self.rflags),
            (at64::RIP, self.rip),
        ] {
            put(&mut image, at, value.to_le_bytes());
        }
        for (at, gpr) in (at64::GPRS..SIZE).step_by(8).zip(self.gprs.iter().rev()) {
            put(&mut image, at, gpr.to_le_bytes());
        }
        image
    }

    /// Reads the area of a guest with long mode.
    pub fn from_image64(image: &Image) -> Self {
        let table = |at: usize| TableReg {
            base: get64(image, at.wrapping_add(8)),
            limit: get32(image, at.wrapping_add(4)) as u16,
        };
        let [interrupt_shadow] = get(image, at64::SHADOW);
        let mut state = Self {
            rip: get64(image, at64::RIP),
            rflags: get64(image, at64::RFLAGS),
            cr0: get64(image, at64::CR0),
            cr3: get64(image, at64::CR3),
            cr4: get64(image, at64::CR4),
            efer: get64(image, at64::EFER),
            dr6: get64(image, at64::DR6),
            dr7: get64(image, at64::DR7),
            gdt: table(at64::GDTR),
            idt: table(at64::IDTR),
            smbase: get32(image, at64::SMBASE),
            interrupt_shadow,
            ssp: get64(image, at64::SSP),
            ..Self::default()
        };
        for (at, gpr) in (at64::GPRS..SIZE).step_by(8).zip(state.gprs.iter_mut().rev()) {
            *gpr = get64(image, at);
        }
        for (reg, at) in at64::SEGMENTS {
            let selector = get16(image, at);
            let attributes = get16(image, at.wrapping_add(2));
            let limit = get32(image, at.wrapping_add(4));
            let base = get64(image, at.wrapping_add(8));
            state.set_segment(reg, segment(selector, attributes, limit, base));
        }
        state
    }

    /// The area of a guest without long mode: low halves.
    pub fn to_image32(&self) -> Image {
        let mut image = [0; SIZE];
        for (reg, at, selector_at) in at32::SEGMENTS {
            let segment = self.segment(reg);
            put32(&mut image, at, u64::from(attributes(&segment)) << 8);
            put32(&mut image, at.wrapping_add(4), segment.limit.into());
            put32(&mut image, at.wrapping_add(8), segment.base);
            put32(&mut image, selector_at, segment.selector.into());
        }
        for (table, at) in [(self.gdt, at32::GDTR), (self.idt, at32::IDTR)] {
            put32(&mut image, at.wrapping_add(4), table.limit.into());
            put32(&mut image, at.wrapping_add(8), table.base);
        }
        put(&mut image, at32::SHADOW, [self.interrupt_shadow]);
        for (at, value) in [
            (at32::SMBASE, self.smbase.into()),
            (at32::REVISION, REVISION_32.into()),
            (at32::CR4, self.cr4),
            (at32::DR7, self.dr7),
            (at32::DR6, self.dr6),
            (at32::EIP, self.rip),
            (at32::EFLAGS, self.rflags),
            (at32::CR3, self.cr3),
            (at32::CR0, self.cr0),
        ] {
            put32(&mut image, at, value);
        }
        for (at, gpr) in (at32::GPRS..SIZE).step_by(4).zip(self.gprs.iter().take(8)) {
            put32(&mut image, at, *gpr);
        }
        image
    }

    /// Reads the area of a guest without long mode.
    pub fn from_image32(image: &Image) -> Self {
        let word = |at: usize| u64::from(get32(image, at));
        let table = |at: usize| TableReg {
            base: word(at.wrapping_add(8)),
            limit: word(at.wrapping_add(4)) as u16,
        };
        let [interrupt_shadow] = get(image, at32::SHADOW);
        let mut state = Self {
            rip: word(at32::EIP),
            rflags: word(at32::EFLAGS),
            cr0: word(at32::CR0),
            cr3: word(at32::CR3),
            cr4: word(at32::CR4),
            dr6: word(at32::DR6),
            dr7: word(at32::DR7),
            gdt: table(at32::GDTR),
            idt: table(at32::IDTR),
            smbase: get32(image, at32::SMBASE),
            interrupt_shadow,
            ..Self::default()
        };
        for (at, gpr) in (at32::GPRS..SIZE).step_by(4).zip(state.gprs.iter_mut().take(8)) {
            *gpr = word(at);
        }
        for (reg, at, selector_at) in at32::SEGMENTS {
            let attributes = (get32(image, at) >> 8) as u16;
            let limit = get32(image, at.wrapping_add(4));
            let base = word(at.wrapping_add(8));
            state.set_segment(reg, segment(get16(image, selector_at), attributes, limit, base));
        }
        state
    }

    /// The control registers that RSM loads, and what follows.
    ///
    /// # Errors
    ///
    /// [`Shutdown`].
    pub fn resume(&self, guest: &GuestFeatures) -> Result<(Control, Change), Shutdown> {
        if !is_valid_cr0(self.cr0) {
            return Err(Shutdown);
        }
        // PCIDs can be turned on only in long mode and with the field still zero.
        let pcid = self.cr4 & Cr4::PCIDE.bits() != 0;
        let plain_cr3 = if pcid { self.cr3 & !Cr3::PCID_MASK } else { self.cr3 };
        let real = Control { cr3: 0, cr4: Cr4::empty(), ..Control::RESET };
        let late = (Cr4::PCIDE | Cr4::CET).bits();
        let mut change = Change::FLUSH_ALL | Change::PAGING | Change::CPUID;
        let mut step = |(control, follows): (Control, Change)| {
            change |= follows;
            control
        };
        let mut control = step(real.write_efer(self.efer & !Efer::LMA.bits(), guest)?);
        control = step(control.write_cr3(plain_cr3, guest)?);
        control = step(control.write_cr4(self.cr4 & !late, guest)?);
        control = step(control.write_cr0(self.cr0, false)?);
        control = step(control.write_cr4(self.cr4, guest)?);
        control = step(control.write_cr3(self.cr3, guest)?);
        Ok((control, change))
    }
}

/// Control registers in SMM: real mode, EFER cleared for guests with long mode.
pub fn entry_control(before: &Control) -> Control {
    Control {
        cr0: before.cr0.difference(Cr0::PE | Cr0::EM | Cr0::TS | Cr0::PG),
        cr3: before.cr3,
        cr4: Cr4::empty(),
        efer: Efer::empty(),
    }
}

/// CS in SMM: its base is SMBASE.
pub const fn entry_cs(smbase: u32) -> Segment {
    let mut cs = entry_data();
    cs.selector = (smbase >> 4) as u16;
    cs.base = smbase as u64;
    cs
}

/// The other segments in SMM: 4 GiB from zero.
pub const fn entry_data() -> Segment {
    let mut data = Segment::real(0, 0);
    data.limit = u32::MAX;
    data.g = true;
    data
}
