// SPDX-License-Identifier: GPL-2.0
//! Sizes and places of the XSAVE state components.
//!
//! Intel SDM volume 1 sections 13.2, 13.4.3 and 13.5; AMD APM volume 2
//! section 11.5.

use crate::cpuid::CpuidRegs;
use x86_defs::Xcr0;

/// Legacy area and header, which every image starts with.
const FIXED_SIZE: u32 = 512 + 64;

/// The first component that lies behind the header.
const FIRST: usize = 2;

/// Components that are tracked; no processor has higher ones.
const COMPONENTS: usize = 32;

/// Control-flow enforcement, user and supervisor state, in IA32_XSS.
pub const XSS_CET: u64 = 3 << 11;

/// States of XCR0 that a process needs permission for (AMX tiles).
pub const DYNAMIC: Xcr0 = Xcr0::TILE_DATA;

/// Where one component lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Component {
    /// Bytes.
    size: u32,
    /// Offset in the standard format.
    offset: u32,
    /// Starts at a multiple of 64 bytes in the compacted format.
    aligned: bool,
}

/// Sizes and offsets of all components of the host's processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XstateLayout([Component; COMPONENTS]);

impl XstateLayout {
    /// Reads leaf Dh. `cpuid` executes the instruction for a leaf and subleaf.
    pub fn of_host(cpuid: impl Fn(u32, u32) -> CpuidRegs) -> Self {
        let mut layout = Self::default();
        if cpuid(0, 0).eax < 0xd {
            return layout;
        }
        let indices = 0..COMPONENTS as u32;
        for (index, component) in indices.zip(layout.0.iter_mut()).skip(FIRST) {
            let regs = cpuid(0xd, index);
            *component = Component { size: regs.eax, offset: regs.ebx, aligned: regs.ecx & 2 != 0 };
        }
        layout
    }

    /// Bytes of an image with the components of `mask` in the standard format
    /// (XSAVE): the end of the one that lies highest.
    pub fn standard_size(&self, mask: u64) -> u32 {
        let mut size = FIXED_SIZE;
        for component in self.of_mask(mask) {
            size = size.max(component.offset.saturating_add(component.size));
        }
        size
    }

    /// Bytes of an image with the components of `mask` in the compacted format
    /// (XSAVEC, XSAVES): one behind the other.
    pub fn compacted_size(&self, mask: u64) -> u32 {
        let mut size = FIXED_SIZE;
        for component in self.of_mask(mask) {
            if component.aligned {
                size = size.checked_next_multiple_of(64).unwrap_or(size);
            }
            size = size.saturating_add(component.size);
        }
        size
    }

    fn of_mask(&self, mask: u64) -> impl Iterator<Item = &Component> {
        let mut bits = mask;
        let wanted = move |_: &&Component| {
            let is_set = bits & 1 != 0;
            bits >>= 1;
            is_set
        };
        // The first two lie in the fixed part and have no size here.
        self.0.iter().filter(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A processor with AVX, PKRU and AVX-512 as Skylake-SP lays them out, and
    /// CET in IA32_XSS.
    pub(crate) fn skylake(leaf: u32, subleaf: u32) -> CpuidRegs {
        let regs = |eax, ebx, ecx| CpuidRegs { eax, ebx, ecx, edx: 0 };
        match (leaf, subleaf) {
            (0, _) => regs(0xd, 0, 0),
            (0xd, 2) => regs(256, 576, 0),
            (0xd, 5) => regs(64, 1088, 0),
            (0xd, 6) => regs(512, 1152, 0),
            (0xd, 7) => regs(1024, 1664, 0),
            (0xd, 9) => regs(8, 2688, 0),
            (0xd, 11) => regs(16, 0, 1),
            (0xd, 12) => regs(24, 0, 1),
            (0xd, 17) => regs(64, 2752, 2),
            _ => CpuidRegs::ZERO,
        }
    }

    #[test]
    fn sizes_as_the_processor_reports_them() {
        let layout = XstateLayout::of_host(skylake);
        assert_eq!(layout.standard_size(3), 576);
        assert_eq!(layout.standard_size(7), 832);
        assert_eq!(layout.standard_size(0xe7), 2688);
        assert_eq!(layout.standard_size(0x2e7), 2696);
        assert_eq!(layout.compacted_size(7), 832);
        // Without AVX-512, PKRU follows the YMM halves.
        assert_eq!(layout.compacted_size(0x207), 840);
        assert_eq!(layout.compacted_size(0x207 | XSS_CET), 880);
        // Tile configuration starts at the next multiple of 64.
        assert_eq!(layout.compacted_size(0x207 | 1 << 17), 896 + 64);
    }

    #[test]
    fn no_leaf_no_components() {
        let layout = XstateLayout::of_host(|_, _| CpuidRegs { eax: 7, ..CpuidRegs::ZERO });
        assert_eq!(layout, XstateLayout::default());
        assert_eq!(layout.standard_size(u64::MAX), 576);
    }

    proptest! {
        #[test]
        fn sizes_grow_with_the_mask(a: u64, b: u64) {
            let layout = XstateLayout::of_host(skylake);
            prop_assert!(layout.standard_size(a) <= layout.standard_size(a | b));
            prop_assert!(layout.compacted_size(a) <= layout.compacted_size(a | b));
        }
    }
}
