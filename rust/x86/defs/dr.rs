// SPDX-License-Identifier: GPL-2.0
//! Debug status and control, DR6 and DR7.
//!
//! Intel SDM volume 3 section 18.2.

use bitflags::bitflags;

/// Bits of DR6 that read as one on processors without bus-lock or RTM debugging.
pub const DR6_FIXED_1: u64 = 0xffff_0ff0;

/// Bit of DR7 that reads as one.
pub const DR7_FIXED_1: u64 = 0x400;

/// DR6, what caused the last #DB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dr6(u64);

bitflags! {
    impl Dr6: u64 {
        /// Breakpoint 0 matched.
        const B0 = 1;
        /// Breakpoint 1 matched.
        const B1 = 1 << 1;
        /// Breakpoint 2 matched.
        const B2 = 1 << 2;
        /// Breakpoint 3 matched.
        const B3 = 1 << 3;
        /// Bus lock detected, active low.
        const BLD = 1 << 11;
        /// Debug register access while DR7.GD was set.
        const BD = 1 << 13;
        /// Single step.
        const BS = 1 << 14;
        /// Task switch to a TSS with its T bit set.
        const BT = 1 << 15;
        /// Inside a transactional region, active low.
        const RTM = 1 << 16;
    }
}

/// DR7, which breakpoints are armed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dr7(u64);

bitflags! {
    impl Dr7: u64 {
        /// Local enable of breakpoint 0.
        const L0 = 1;
        /// Global enable of breakpoint 0.
        const G0 = 1 << 1;
        /// Local enable of breakpoint 1.
        const L1 = 1 << 2;
        /// Global enable of breakpoint 1.
        const G1 = 1 << 3;
        /// Local enable of breakpoint 2.
        const L2 = 1 << 4;
        /// Global enable of breakpoint 2.
        const G2 = 1 << 5;
        /// Local enable of breakpoint 3.
        const L3 = 1 << 6;
        /// Global enable of breakpoint 3.
        const G3 = 1 << 7;
        /// Local exact matching.
        const LE = 1 << 8;
        /// Global exact matching.
        const GE = 1 << 9;
        /// General detect: accesses to debug registers raise #DB.
        const GD = 1 << 13;
        /// All local enables, cleared by a task switch.
        const LOCAL = 0x155;
        /// Every enable bit of a breakpoint.
        const ENABLED = 0xff;
    }
}

impl Dr7 {
    /// The R/W field of breakpoint `n` (0 to 3): 0 execute, 1 write, 2 I/O, 3 read or write.
    #[inline]
    pub fn kind(self, n: u8) -> u8 {
        let shift = 16u32.wrapping_add(u32::from(n & 3).wrapping_mul(4));
        (self.bits().wrapping_shr(shift) & 3) as u8
    }

    /// The length in bytes watched by breakpoint `n` (0 to 3).
    #[inline]
    pub fn len(self, n: u8) -> u8 {
        let shift = 18u32.wrapping_add(u32::from(n & 3).wrapping_mul(4));
        match self.bits().wrapping_shr(shift) & 3 {
            0 => 1,
            1 => 2,
            2 => 8,
            _ => 4,
        }
    }

    /// Whether breakpoint `n` (0 to 3) is armed, locally or globally.
    #[inline]
    pub fn armed(self, n: u8) -> bool {
        self.bits().wrapping_shr(u32::from(n & 3).wrapping_mul(2)) & 3 != 0
    }
}
