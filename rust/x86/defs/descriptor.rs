// SPDX-License-Identifier: GPL-2.0
//! Descriptors as they lie in the GDT, LDT and IDT.
//!
//! Intel SDM volume 3 sections 3.4.5, 3.5, 6.11 and 6.14. Eight bytes, and
//! sixteen for system descriptors and gates in long mode, where the second
//! half holds the upper half of the base or offset.

use crate::{Segment, Selector};

/// An eight-byte descriptor; system descriptors of long mode have a second half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor(pub u64);

/// The type field of a system descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemType {
    /// 16-bit TSS, available.
    Tss16,
    /// LDT.
    Ldt,
    /// 16-bit TSS, busy.
    Tss16Busy,
    /// 16-bit call gate.
    CallGate16,
    /// Task gate.
    TaskGate,
    /// 16-bit interrupt gate.
    IntGate16,
    /// 16-bit trap gate.
    TrapGate16,
    /// 32- or 64-bit TSS, available.
    Tss32,
    /// 32- or 64-bit TSS, busy.
    Tss32Busy,
    /// 32- or 64-bit call gate.
    CallGate32,
    /// 32- or 64-bit interrupt gate.
    IntGate32,
    /// 32- or 64-bit trap gate.
    TrapGate32,
    /// A reserved type.
    Reserved,
}

impl Descriptor {
    /// The accessed bit of code and data.
    pub const ACCESSED: u64 = 1 << 40;
    /// The busy bit of a TSS.
    pub const BUSY: u64 = 1 << 41;

    /// Type field, 4 bits.
    #[inline]
    pub const fn typ(self) -> u8 {
        ((self.0 >> 40) & 0xf) as u8
    }

    /// Code or data, not system.
    #[inline]
    pub const fn s(self) -> bool {
        self.0 & (1 << 44) != 0
    }

    /// Privilege level.
    #[inline]
    pub const fn dpl(self) -> u8 {
        ((self.0 >> 45) & 3) as u8
    }

    /// Present.
    #[inline]
    pub const fn present(self) -> bool {
        self.0 & (1 << 47) != 0
    }

    /// 64-bit code.
    #[inline]
    pub const fn l(self) -> bool {
        self.0 & (1 << 53) != 0
    }

    /// Default size is 32 bits.
    #[inline]
    pub const fn db(self) -> bool {
        self.0 & (1 << 54) != 0
    }

    /// The system type; meaningful when [`Self::s`] is false.
    pub const fn system_type(self) -> SystemType {
        match self.typ() {
            1 => SystemType::Tss16,
            2 => SystemType::Ldt,
            3 => SystemType::Tss16Busy,
            4 => SystemType::CallGate16,
            5 => SystemType::TaskGate,
            6 => SystemType::IntGate16,
            7 => SystemType::TrapGate16,
            9 => SystemType::Tss32,
            11 => SystemType::Tss32Busy,
            12 => SystemType::CallGate32,
            14 => SystemType::IntGate32,
            15 => SystemType::TrapGate32,
            _ => SystemType::Reserved,
        }
    }

    /// Base address, low 32 bits.
    #[inline]
    pub const fn base(self) -> u32 {
        ((self.0 >> 16) & 0xff_ffff) as u32 | ((self.0 >> 56) << 24) as u32
    }

    /// Highest offset in bytes, granularity applied.
    #[inline]
    pub const fn limit(self) -> u32 {
        let raw = (self.0 & 0xffff) as u32 | ((self.0 >> 32) & 0xf_0000) as u32;
        if self.0 & (1 << 55) != 0 {
            raw << 12 | 0xfff
        } else {
            raw
        }
    }

    /// What a segment register caches after loading this descriptor.
    ///
    /// `high` is the second half of a long-mode system descriptor, else 0.
    pub const fn to_segment(self, selector: Selector, high: u64) -> Segment {
        let mut seg = Segment::null(selector.0);
        seg.unusable = false;
        seg.base = self.base() as u64 | (high & 0xffff_ffff) << 32;
        seg.limit = self.limit();
        seg.set_rights((self.0 >> 40) as u8, ((self.0 >> 52) & 0xf) as u8);
        seg
    }

    /// The descriptor and its second half that would load as `seg`.
    pub const fn from_segment(seg: &Segment) -> (Self, u64) {
        let limit = if seg.g { seg.limit >> 12 } else { seg.limit } as u64;
        let low = limit & 0xffff
            | (seg.base & 0xff_ffff) << 16
            | (seg.low_rights() as u64) << 40
            | (limit & 0xf_0000) << 32
            | (seg.high_rights() as u64) << 52
            | (seg.base & 0xff00_0000) << 32;
        (Self(low), seg.base >> 32)
    }
}

/// A call, interrupt, trap or task gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateDescriptor {
    /// Where it leads.
    pub selector: Selector,
    /// Entry point, with the upper half in long mode.
    pub offset: u64,
    /// Parameters that a call gate copies, 0 to 31.
    pub params: u8,
    /// Interrupt-stack-table index of a 64-bit interrupt gate, 0 to 7.
    pub ist: u8,
}

impl GateDescriptor {
    /// Splits a gate; `high` is the second half in long mode, else 0.
    pub const fn new(desc: Descriptor, high: u64) -> Self {
        Self {
            selector: Selector(((desc.0 >> 16) & 0xffff) as u16),
            offset: desc.0 & 0xffff | (desc.0 >> 32) & 0xffff_0000 | (high & 0xffff_ffff) << 32,
            params: ((desc.0 >> 32) & 0x1f) as u8,
            ist: ((desc.0 >> 32) & 7) as u8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_code_descriptor() {
        let desc = Descriptor(0x00cf_9b00_0000_ffff);
        let seg = desc.to_segment(Selector(0x10), 0);
        assert_eq!((seg.base, seg.limit, seg.typ), (0, u32::MAX, 0xb));
        assert!(seg.is_code() && seg.db && seg.g && !seg.l && seg.present);
        assert_eq!(Descriptor::from_segment(&seg), (desc, 0));
    }

    #[test]
    fn every_segment_round_trips() {
        let mut raw = 0x1234_5678_9abc_def1u64;
        for _ in 0..10_000 {
            raw =
                raw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let desc = Descriptor(raw);
            let seg = desc.to_segment(Selector(8), 0xffff_8000);
            assert_eq!(Descriptor::from_segment(&seg), (desc, 0xffff_8000));
        }
    }

    #[test]
    fn gate_fields() {
        let gate = GateDescriptor::new(Descriptor(0x1234_ee03_0010_5678), 0xffff_ffff);
        assert_eq!(gate.selector, Selector(0x10));
        assert_eq!(gate.offset, 0xffff_ffff_1234_5678);
        assert_eq!((gate.params, gate.ist), (3, 3));
    }
}
