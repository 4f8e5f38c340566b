// SPDX-License-Identifier: GPL-2.0
//! Selectors and cached segments.
//!
//! Intel SDM volume 3 sections 3.4.2 and 3.4.3. [`Segment`] is what the
//! processor holds behind a selector; descriptors in memory are in
//! [`Descriptor`](crate::Descriptor).

/// A segment register that instructions can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SegReg {
    /// Extra.
    Es = 0,
    /// Code.
    Cs = 1,
    /// Stack.
    Ss = 2,
    /// Data.
    Ds = 3,
    /// FS.
    Fs = 4,
    /// GS.
    Gs = 5,
    /// Local descriptor table.
    Ldtr = 6,
    /// Task.
    Tr = 7,
}

impl SegReg {
    /// The six registers that MOV can name, in encoding order.
    pub const USER: [Self; 6] = [Self::Es, Self::Cs, Self::Ss, Self::Ds, Self::Fs, Self::Gs];

    /// The register with this number in a ModRM reg field; 6 and 7 name none.
    #[inline]
    pub const fn from_encoding(n: u8) -> Option<Self> {
        match n {
            0 => Some(Self::Es),
            1 => Some(Self::Cs),
            2 => Some(Self::Ss),
            3 => Some(Self::Ds),
            4 => Some(Self::Fs),
            5 => Some(Self::Gs),
            _ => None,
        }
    }
}

/// A segment selector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selector(pub u16);

impl Selector {
    /// Requested privilege level.
    #[inline]
    pub const fn rpl(self) -> u8 {
        (self.0 & 3) as u8
    }

    /// Whether the index is into the LDT.
    #[inline]
    pub const fn is_local(self) -> bool {
        self.0 & 4 != 0
    }

    /// Byte offset of the descriptor in its table.
    #[inline]
    pub const fn offset(self) -> u16 {
        self.0 & !7
    }

    /// Whether this is one of the four null selectors.
    #[inline]
    pub const fn is_null(self) -> bool {
        self.0 & !3 == 0
    }

    /// The selector as part of an error code: without its RPL.
    #[inline]
    pub const fn error_code(self) -> u32 {
        (self.0 & !3) as u32
    }

    /// The same selector with another RPL.
    #[inline]
    pub const fn with_rpl(self, rpl: u8) -> Self {
        Self(self.0 & !3 | (rpl & 3) as u16)
    }
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Linear address of offset zero.
    pub base: u64,
    /// Highest offset, in bytes (granularity already applied).
    pub limit: u32,
    /// Visible selector.
    pub selector: u16,
    /// Type field, 4 bits.
    pub typ: u8,
    /// Descriptor privilege level, 0 to 3.
    pub dpl: u8,
    /// Code or data, not system.
    pub s: bool,
    /// Present.
    pub present: bool,
    /// Available to software.
    pub avl: bool,
    /// 64-bit code.
    pub l: bool,
    /// Default size of operands or stack: 32 bits.
    pub db: bool,
    /// Limit was in units of 4 KiB.
    pub g: bool,
    /// Loaded with a null selector: any use faults.
    pub unusable: bool,
}

impl Segment {
    /// Whether the type is code.
    #[inline]
    pub const fn is_code(&self) -> bool {
        self.s && self.typ & 8 != 0
    }

    /// Whether the type is data.
    #[inline]
    pub const fn is_data(&self) -> bool {
        self.s && self.typ & 8 == 0
    }

    /// Whether this is data that may be written.
    #[inline]
    pub const fn is_writable(&self) -> bool {
        self.is_data() && self.typ & 2 != 0
    }

    /// Whether this may be read: any data, or code with its R bit.
    #[inline]
    pub const fn is_readable(&self) -> bool {
        self.is_data() || self.typ & 2 != 0
    }

    /// Whether this is data whose valid offsets lie above the limit.
    #[inline]
    pub const fn is_expand_down(&self) -> bool {
        self.is_data() && self.typ & 4 != 0
    }

    /// Whether this is code that runs at the caller's privilege.
    #[inline]
    pub const fn is_conforming(&self) -> bool {
        self.is_code() && self.typ & 4 != 0
    }

    /// What a load in real or virtual-8086 mode leaves: base is selector * 16.
    ///
    /// `typ` 3 is read-write data, accessed; virtual-8086 mode has DPL 3.
    pub const fn real(selector: u16, dpl: u8) -> Self {
        Self {
            base: (selector as u64) << 4,
            limit: 0xffff,
            selector,
            typ: 3,
            dpl,
            s: true,
            present: true,
            avl: false,
            l: false,
            db: false,
            g: false,
            unusable: false,
        }
    }

    /// What loading a null selector leaves.
    pub const fn null(selector: u16) -> Self {
        let mut seg = Self::real(selector, 0);
        seg.base = 0;
        seg.limit = 0;
        seg.typ = 0;
        seg.s = false;
        seg.present = false;
        seg.unusable = true;
        seg
    }

    /// Access rights in the VMCS layout (Intel SDM volume 3 table 25-2).
    pub const fn vmx_access_rights(&self) -> u32 {
        let unusable = (self.unusable as u32) << 16;
        self.low_rights() as u32 | (self.high_rights() as u32) << 12 | unusable
    }

    /// Attributes in the VMCB layout (AMD APM volume 2 appendix B).
    pub const fn svm_attrib(&self) -> u16 {
        if self.unusable {
            return 0;
        }
        self.low_rights() as u16 | (self.high_rights() as u16) << 8
    }

    /// Sets type, S, DPL, P and AVL, L, D/B, G from the VMCS layout.
    pub const fn set_vmx_access_rights(&mut self, ar: u32) {
        self.set_rights((ar & 0xff) as u8, ((ar >> 12) & 0xf) as u8);
        self.unusable = ar & (1 << 16) != 0;
    }

    /// Sets type, S, DPL, P and AVL, L, D/B, G from the VMCB layout.
    pub const fn set_svm_attrib(&mut self, attrib: u16) {
        self.set_rights((attrib & 0xff) as u8, ((attrib >> 8) & 0xf) as u8);
        self.unusable = !self.present;
    }

    /// Bits 40 to 47 of a descriptor.
    pub(crate) const fn low_rights(&self) -> u8 {
        self.typ & 0xf | (self.s as u8) << 4 | (self.dpl & 3) << 5 | (self.present as u8) << 7
    }

    /// Bits 52 to 55 of a descriptor.
    pub(crate) const fn high_rights(&self) -> u8 {
        self.avl as u8 | (self.l as u8) << 1 | (self.db as u8) << 2 | (self.g as u8) << 3
    }

    pub(crate) const fn set_rights(&mut self, low: u8, high: u8) {
        self.typ = low & 0xf;
        self.s = low & 0x10 != 0;
        self.dpl = (low >> 5) & 3;
        self.present = low & 0x80 != 0;
        self.avl = high & 1 != 0;
        self.l = high & 2 != 0;
        self.db = high & 4 != 0;
        self.g = high & 8 != 0;
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableReg {
    /// Linear address of the table.
    pub base: u64,
    /// Highest valid byte offset.
    pub limit: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendor_layouts_round_trip() {
        for low in 0..=255u8 {
            for high in 0..16u8 {
                let mut seg = Segment::default();
                seg.set_rights(low, high);
                let mut vmx = Segment::default();
                vmx.set_vmx_access_rights(seg.vmx_access_rights());
                assert_eq!(vmx, seg);
                let mut svm = Segment::default();
                svm.set_svm_attrib(seg.svm_attrib());
                svm.unusable = false;
                assert_eq!(svm, seg);
            }
        }
    }
}
