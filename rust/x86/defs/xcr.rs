// SPDX-License-Identifier: GPL-2.0
//! XCR0, the mask of enabled XSAVE states.
//!
//! Intel SDM volume 1 section 13.3.

use bitflags::bitflags;

/// XCR0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Xcr0(u64);

bitflags! {
    impl Xcr0: u64 {
        /// x87 state, always set.
        const X87 = 1;
        /// XMM registers and MXCSR.
        const SSE = 1 << 1;
        /// Upper halves of the YMM registers.
        const YMM = 1 << 2;
        /// MPX bound registers.
        const BNDREGS = 1 << 3;
        /// MPX configuration.
        const BNDCSR = 1 << 4;
        /// AVX-512 mask registers.
        const OPMASK = 1 << 5;
        /// Upper halves of ZMM0 to ZMM15.
        const ZMM_HI256 = 1 << 6;
        /// ZMM16 to ZMM31.
        const HI16_ZMM = 1 << 7;
        /// Protection-key register.
        const PKRU = 1 << 9;
        /// AMX tile configuration.
        const TILE_CFG = 1 << 17;
        /// AMX tile data.
        const TILE_DATA = 1 << 18;
    }
}
