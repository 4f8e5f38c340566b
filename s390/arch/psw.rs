// SPDX-License-Identifier: GPL-2.0
//! The program status word.

use bitflags::bitflags;

/// Bits of [`Psw::mask`], bit 0 of the manual being the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask(u64);

bitflags! {
    impl Mask: u64 {
        /// Program event recording.
        const PER = 1 << 62;
        /// Dynamic address translation.
        const DAT = 1 << 58;
        /// I/O interruptions.
        const IO = 1 << 57;
        /// External interruptions.
        const EXTERNAL = 1 << 56;
        /// Machine checks.
        const MACHINE_CHECK = 1 << 50;
        /// Wait state.
        const WAIT = 1 << 49;
        /// Problem state.
        const PROBLEM = 1 << 48;
        /// Extended addressing; with the next one: 64 bits.
        const EXTENDED = 1 << 32;
        /// Basic addressing: 31 bits.
        const BASIC = 1 << 31;
    }
}

impl Mask {
    /// Runtime instrumentation, bit 24.
    pub const RUNTIME_INSTRUMENTATION: u64 = 1 << 39;
    const KEY_SHIFT: u32 = 52;
    const SPACE_SHIFT: u32 = 46;
    const CONDITION_SHIFT: u32 = 44;
    /// Bits that must be zero.
    const UNASSIGNED: u64 = 0xb808_00fe_7fff_ffff;
}

/// The PSW of z/Architecture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Psw {
    /// The first half.
    pub mask: u64,
    /// Instruction address.
    pub address: u64,
}

/// How storage operands are addressed (bits 16 and 17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// By control register 1.
    Primary,
    /// By access registers.
    AccessRegister,
    /// By control register 7.
    Secondary,
    /// By control register 13.
    Home,
}

impl Psw {
    /// Whether all of these bits are on.
    pub const fn has(self, bits: Mask) -> bool {
        self.mask & bits.bits() == bits.bits()
    }

    /// The access key, 0 to 15.
    pub const fn key(self) -> u8 {
        (self.mask >> Mask::KEY_SHIFT & 0xf) as u8
    }

    /// The address space of operands; counts with [`Mask::DAT`] only.
    pub const fn space(self) -> Space {
        match self.mask >> Mask::SPACE_SHIFT & 3 {
            0 => Space::Primary,
            1 => Space::AccessRegister,
            2 => Space::Secondary,
            _ => Space::Home,
        }
    }

    /// Sets the condition code.
    pub fn set_condition(&mut self, code: u8) {
        let field = 3_u64 << Mask::CONDITION_SHIFT;
        self.mask = self.mask & !field | (u64::from(code) & 3) << Mask::CONDITION_SHIFT;
    }

    /// An address in this PSW's addressing mode.
    pub const fn wrap(self, address: u64) -> u64 {
        if self.has(Mask::EXTENDED) {
            address
        } else if self.has(Mask::BASIC) {
            address & 0x7fff_ffff
        } else {
            address & 0x00ff_ffff
        }
    }

    /// Moves the instruction address, back if `bytes` is negative.
    pub fn step(&mut self, bytes: i64) {
        self.address = self.wrap(self.address.wrapping_add_signed(bytes));
    }

    /// Whether a CPU runs with it without a specification exception.
    pub const fn is_valid(self) -> bool {
        if self.mask & Mask::UNASSIGNED != 0 {
            return false;
        }
        let wrapped = self.wrap(self.address) == self.address;
        let is_mode = self.has(Mask::BASIC) || !self.has(Mask::EXTENDED);
        wrapped && is_mode && self.address & 1 == 0
    }

    /// Whether nothing can end a wait with it: no interruption is enabled.
    pub const fn is_disabled(self) -> bool {
        let any = Mask::IO.bits() | Mask::EXTERNAL.bits() | Mask::MACHINE_CHECK.bits();
        self.mask & any == 0
    }

    /// The PSW that a short one (eight bytes, bit 12 on) stands for.
    pub const fn from_short(short: u64) -> Self {
        const SHORT: u64 = 1 << 51;
        let mask = (short & !SHORT & 0xffff_ffff_0000_0000) | short & 0x8000_0000;
        Self { mask, address: short & 0x7fff_ffff }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: Psw = Psw { mask: 0x0000_0001_8000_0000, address: 0x1000 };

    #[test]
    fn validity() {
        assert!(KERNEL.is_valid());
        assert!(!Psw { address: 0x1001, ..KERNEL }.is_valid());
        assert!(!Psw { mask: 0x0000_0001_0000_0000, ..KERNEL }.is_valid());
        assert!(!Psw { mask: 0x0008_0001_8000_0000, ..KERNEL }.is_valid());
        assert!(Psw { mask: 0x0000_0000_8000_0000, address: 0x7fff_fffe }.is_valid());
        assert!(!Psw { mask: 0x0000_0000_8000_0000, address: 0x8000_0000 }.is_valid());
        assert!(!Psw { mask: 0, address: 0x0100_0000 }.is_valid());
    }

    #[test]
    fn a_short_psw() {
        let psw = Psw::from_short(0x000a_0000_8000_1234);
        assert_eq!(psw, Psw { mask: 0x0002_0000_8000_0000, address: 0x1234 });
        assert!(psw.has(Mask::WAIT));
    }

    #[test]
    fn addresses_wrap() {
        let mut psw = Psw { mask: 0x8000_0000, address: 0x7fff_fffe };
        psw.step(4);
        assert_eq!(psw.address, 2);
        psw.step(-4);
        assert_eq!(psw.address, 0x7fff_fffe);
    }

    #[test]
    fn condition_code() {
        let mut psw = KERNEL;
        psw.set_condition(3);
        assert_eq!(psw.mask, 0x0000_3001_8000_0000);
        psw.set_condition(1);
        assert_eq!(psw.mask, 0x0000_1001_8000_0000);
    }
}
