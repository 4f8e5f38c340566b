// SPDX-License-Identifier: GPL-2.0
//! [`Entry`]: one 64-bit entry of the redirection table.

use crate::message::{Delivery, DestMode, Message, Trigger};

/// A redirection table entry (82093AA data sheet, 3.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(u64);

mod spec {
    pub(super) const LOGICAL: u64 = 1 << 11;
    pub(super) const DELIVERY_STATUS: u64 = 1 << 12;
    pub(super) const REMOTE_IRR: u64 = 1 << 14;
    pub(super) const LEVEL: u64 = 1 << 15;
    pub(super) const MASKED: u64 = 1 << 16;
    pub(super) const READ_ONLY: u64 = DELIVERY_STATUS | REMOTE_IRR;
}

impl Entry {
    /// After reset: masked.
    pub const RESET: Self = Self(spec::MASKED);

    /// An entry from a saved state.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The register's value.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the pin is masked.
    #[inline]
    pub const fn is_masked(self) -> bool {
        self.0 & spec::MASKED != 0
    }

    /// Whether the pin is level-triggered.
    #[inline]
    pub const fn is_level(self) -> bool {
        self.0 & spec::LEVEL != 0
    }

    /// Whether a level interrupt was accepted and its EOI is outstanding.
    #[inline]
    pub const fn remote_irr(self) -> bool {
        self.0 & spec::REMOTE_IRR != 0
    }

    pub(super) fn set_remote_irr(&mut self, pending: bool) {
        if pending {
            self.0 |= spec::REMOTE_IRR;
        } else {
            self.0 &= !spec::REMOTE_IRR;
        }
    }

    /// The vector.
    #[inline]
    pub const fn vector(self) -> u8 {
        self.0 as u8
    }

    /// The entry after a write of its low (`high` false) or high half.
    pub(super) const fn with_half(self, high: bool, value: u32) -> Self {
        let written = if high {
            self.0 & 0xffff_ffff | (value as u64) << 32
        } else {
            self.0 & !0xffff_ffff | value as u64
        };
        let new = Self(written & !spec::READ_ONLY | self.0 & spec::READ_ONLY);
        // Guests without an EOI register to write (version 0x11) clear the
        // remote IRR by making the pin edge-triggered for a moment.
        if new.is_level() {
            new
        } else {
            Self(new.0 & !spec::REMOTE_IRR)
        }
    }

    /// Whether the two send the same message, mask and status aside.
    pub(super) const fn routes_like(self, other: Self) -> bool {
        (self.0 ^ other.0) & !(spec::READ_ONLY | spec::MASKED) == 0
    }

    /// What the pin sends.
    #[inline]
    pub const fn message(self) -> Message {
        Message {
            dest: (self.0 >> 56) as u32,
            vector: self.vector(),
            delivery: Delivery::from_register(self.0 as u32),
            dest_mode: if self.0 & spec::LOGICAL != 0 {
                DestMode::Logical
            } else {
                DestMode::Physical
            },
            trigger: if self.is_level() { Trigger::Level } else { Trigger::Edge },
            assert: true,
            redirect_hint: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_of_an_entry() {
        let message = Entry::from_bits(0x0300_0000_0000_8931).message();
        assert_eq!((message.dest, message.vector), (3, 0x31));
        assert_eq!(message.delivery, Delivery::LowestPriority);
        assert_eq!(message.dest_mode, DestMode::Logical);
        assert_eq!(message.trigger, Trigger::Level);
    }

    #[test]
    fn halves_and_read_only_bits() {
        let mut entry = Entry::from_bits(0x8031);
        entry.set_remote_irr(true);
        let entry = entry.with_half(true, 0x0500_0000);
        assert!(entry.remote_irr());
        assert_eq!(entry.message().dest, 5);
        assert!(entry.with_half(false, 0x1_8032).remote_irr());
        assert!(!entry.with_half(false, 0x32).remote_irr());
        assert!(!Entry::RESET.with_half(false, 0xd031).remote_irr());
        assert!(entry.routes_like(entry.with_half(false, 0x1_8031)));
        assert!(!entry.routes_like(entry.with_half(false, 0x8032)));
    }
}
