// SPDX-License-Identifier: GPL-2.0
//! RFLAGS.
//!
//! Intel SDM volume 1 section 3.4.3.

use bitflags::bitflags;

/// RFLAGS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rflags(u64);

bitflags! {
    impl Rflags: u64 {
        /// Carry.
        const CF = 1;
        /// Bit 1 reads as one.
        const FIXED = 1 << 1;
        /// Parity of the low byte.
        const PF = 1 << 2;
        /// Carry out of bit 3.
        const AF = 1 << 4;
        /// Zero.
        const ZF = 1 << 6;
        /// Sign.
        const SF = 1 << 7;
        /// Single-step trap.
        const TF = 1 << 8;
        /// Interrupt enable.
        const IF = 1 << 9;
        /// String direction: set counts down.
        const DF = 1 << 10;
        /// Signed overflow.
        const OF = 1 << 11;
        /// I/O privilege level, two bits.
        const IOPL = 3 << 12;
        /// Nested task.
        const NT = 1 << 14;
        /// Resume: suppress instruction breakpoints once.
        const RF = 1 << 16;
        /// Virtual-8086 mode.
        const VM = 1 << 17;
        /// Alignment check, or SMAP override at CPL 0 to 2.
        const AC = 1 << 18;
        /// Virtual interrupt flag.
        const VIF = 1 << 19;
        /// Virtual interrupt pending.
        const VIP = 1 << 20;
        /// CPUID available.
        const ID = 1 << 21;
        /// The six flags set by arithmetic.
        const ARITH = 0x8d5;
    }
}

impl Rflags {
    /// The I/O privilege level, 0 to 3.
    #[inline]
    pub fn iopl(self) -> u8 {
        ((self.bits() >> 12) & 3) as u8
    }
}
