// SPDX-License-Identifier: GPL-2.0
//! [`Line`]: an interrupt input that several sources share.
//!
//! The input is asserted while any source asserts it. A source is what the VM
//! tells apart (userspace, resampling irqfds, the PIT), not a guest device.

/// State of one input: a bit for each of 32 sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line(u32);

impl Line {
    /// Asserted by none.
    pub const LOW: Self = Self(0);

    /// Takes the level that `source` (0 to 31) drives; returns the input's.
    #[inline]
    pub fn drive(&mut self, source: u8, level: bool) -> bool {
        let bit = 1u32.wrapping_shl(u32::from(source));
        if level {
            self.0 |= bit;
        } else {
            self.0 &= !bit;
        }
        self.0 != 0
    }

    /// Releases `source` when it goes away; returns the input's level.
    pub fn release(&mut self, source: u8) -> bool {
        self.drive(source, false)
    }

    /// Whether any source asserts the input.
    pub const fn is_asserted(self) -> bool {
        self.0 != 0
    }
}

/// What became of a level that was driven on an input; `KVM_IRQ_LINE_STATUS`
/// reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineStatus {
    /// Masked, or waiting behind one that is being served.
    Ignored,
    /// An interrupt of this input was pending already.
    Coalesced,
    /// Taken.
    Taken,
}

impl LineStatus {
    /// The ABI's number: negative ignored, zero coalesced, positive taken.
    pub const fn code(self) -> i32 {
        match self {
            Self::Ignored => -1,
            Self::Coalesced => 0,
            Self::Taken => 1,
        }
    }
}

/// A set of up to 32 inputs, iterated in ascending order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pins(pub u32);

impl Pins {
    /// Whether `pin` is in the set.
    pub const fn contains(self, pin: u8) -> bool {
        self.0 & 1u32.wrapping_shl(pin as u32) != 0
    }
}

impl Iterator for Pins {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.0 == 0 {
            return None;
        }
        let pin = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        Some(pin as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_ored() {
        let mut line = Line::default();
        assert!(line.drive(0, true));
        assert!(line.drive(2, true));
        assert!(line.drive(0, false));
        assert!(!line.release(2));
        assert!(!line.is_asserted());
    }

    #[test]
    fn pins_ascend() {
        let pins: std::vec::Vec<_> = Pins(0x8000_0105).collect();
        assert_eq!(pins, [0, 2, 8, 31]);
        assert!(Pins(4).contains(2) && !Pins(4).contains(3));
    }
}
