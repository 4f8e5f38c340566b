// SPDX-License-Identifier: GPL-2.0
//! How the processor reads code: mode and default operand size in one value.
//!
//! Intel SDM volume 3 section 2.2. Compatibility mode is [`Mode::Prot16`] or
//! [`Mode::Prot32`] with EFER.LMA set.

use crate::{Cr0, Efer, Rflags, Segment};

/// The mode that instructions are decoded and executed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Real-address mode.
    Real,
    /// Virtual-8086 mode.
    Vm86,
    /// Protected or compatibility mode, 16-bit code segment.
    Prot16,
    /// Protected or compatibility mode, 32-bit code segment.
    Prot32,
    /// 64-bit mode.
    Long64,
}

impl Mode {
    /// The mode that these registers select.
    pub fn of(cr0: Cr0, efer: Efer, rflags: Rflags, cs: &Segment) -> Self {
        if !cr0.contains(Cr0::PE) {
            Self::Real
        } else if efer.contains(Efer::LMA) && cs.l {
            Self::Long64
        } else if rflags.contains(Rflags::VM) && !efer.contains(Efer::LMA) {
            Self::Vm86
        } else if cs.db {
            Self::Prot32
        } else {
            Self::Prot16
        }
    }

    /// Whether segments have descriptors and there are privilege levels.
    #[inline]
    pub const fn is_protected(self) -> bool {
        !matches!(self, Self::Real | Self::Vm86)
    }

    /// Whether this is 64-bit mode.
    #[inline]
    pub const fn is_long(self) -> bool {
        matches!(self, Self::Long64)
    }
}

/// Whether `addr` is the sign extension of its low 48 (or, with `la57`, 57) bits.
#[inline]
pub const fn is_canonical(addr: u64, la57: bool) -> bool {
    if la57 {
        ((addr << 7) as i64 >> 7) as u64 == addr
    } else {
        ((addr << 16) as i64 >> 16) as u64 == addr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_at_the_borders() {
        assert!(is_canonical(0x7fff_ffff_ffff, false));
        assert!(!is_canonical(0x8000_0000_0000, false));
        assert!(is_canonical(0x8000_0000_0000, true));
        assert!(is_canonical(0xffff_8000_0000_0000, false));
    }

    #[test]
    fn mode_follows_registers() {
        let cs = Segment { l: true, ..Segment::default() };
        assert_eq!(Mode::of(Cr0::empty(), Efer::empty(), Rflags::VM, &cs), Mode::Real);
        assert_eq!(Mode::of(Cr0::PE, Efer::LMA, Rflags::empty(), &cs), Mode::Long64);
        assert_eq!(Mode::of(Cr0::PE, Efer::empty(), Rflags::VM, &cs), Mode::Vm86);
    }
}
