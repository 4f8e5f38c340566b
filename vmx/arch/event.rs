// SPDX-License-Identifier: GPL-2.0
//! Events: what an entry delivers, what exited, and what an exit interrupted (25.8.3, 25.9.2,
//! 25.9.3). All have one format.

use bitflags::bitflags;

const TYPE_SHIFT: u32 = 8;
const ERROR_CODE_VALID: u32 = 1 << 11;
const NMI_UNBLOCKED: u32 = 1 << 12;
const VALID: u32 = 1 << 31;

/// Kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// External interrupt.
    Interrupt = 0,
    /// NMI.
    Nmi = 2,
    /// A fault or trap of the processor.
    Exception = 3,
    /// INT n.
    SoftwareInterrupt = 4,
    /// INT1.
    PrivilegedException = 5,
    /// INT3 or INTO.
    SoftwareException = 6,
}

/// An event, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Event(u32);

impl Event {
    /// No event.
    pub const NONE: Self = Self(0);

    /// An event without an error code.
    pub const fn new(kind: Kind, vector: u8) -> Self {
        Self(VALID | (kind as u32) << TYPE_SHIFT | vector as u32)
    }

    /// The same event with an error code.
    pub const fn with_error_code(self) -> Self {
        Self(self.0 | ERROR_CODE_VALID)
    }

    /// An event from the processor's bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits as u32)
    }

    /// The bits as the processor has them.
    pub const fn bits(self) -> u64 {
        self.0 as u64
    }

    /// Kind and vector; `None` if there is no event, or one of a type that isn't known.
    pub const fn get(self) -> Option<(Kind, u8)> {
        if self.0 & VALID == 0 {
            return None;
        }
        let kind = match self.0 >> TYPE_SHIFT & 7 {
            0 => Kind::Interrupt,
            2 => Kind::Nmi,
            3 => Kind::Exception,
            4 => Kind::SoftwareInterrupt,
            5 => Kind::PrivilegedException,
            6 => Kind::SoftwareException,
            _ => return None,
        };
        Some((kind, self.0 as u8))
    }

    /// Whether it is an NMI.
    #[inline]
    pub const fn is_nmi(self) -> bool {
        self.0 & (VALID | 7 << TYPE_SHIFT) == VALID | (Kind::Nmi as u32) << TYPE_SHIFT
    }

    /// Whether it has an error code, which is in a field of its own.
    pub const fn has_error_code(self) -> bool {
        self.0 & (VALID | ERROR_CODE_VALID) == VALID | ERROR_CODE_VALID
    }

    /// The exception that exited was raised by an IRET that had unblocked NMIs (28.2.3). Not
    /// defined for double faults, and while an event was delivered.
    pub const fn unblocked_nmis(self) -> bool {
        self.0 & (VALID | NMI_UNBLOCKED) == VALID | NMI_UNBLOCKED && self.0 as u8 != 8
    }
}

/// What is blocked (table 25-3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interruptibility(u64);

bitflags! {
    impl Interruptibility: u64 {
        /// Interrupts, by STI.
        const STI = 1 << 0;
        /// Events, by MOV SS or POP SS.
        const MOV_SS = 1 << 1;
        /// SMIs.
        const SMI = 1 << 2;
        /// NMIs.
        const NMI = 1 << 3;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_encoding() {
        for kind in [
            Kind::Interrupt,
            Kind::Nmi,
            Kind::Exception,
            Kind::SoftwareInterrupt,
            Kind::PrivilegedException,
            Kind::SoftwareException,
        ] {
            for vector in [0, 2, 14, 255] {
                let event = Event::new(kind, vector);
                assert_eq!(event.get(), Some((kind, vector)));
                assert_eq!(event.is_nmi(), kind == Kind::Nmi);
                assert!(!event.has_error_code());
                assert!(event.with_error_code().has_error_code());
                assert_eq!(event.with_error_code().get(), Some((kind, vector)));
            }
        }
        assert_eq!(Event::new(Kind::Exception, 14).with_error_code().bits(), 0x8000_0b0e);
    }

    #[test]
    fn what_is_no_event_is_none() {
        assert_eq!(Event::NONE.get(), None);
        assert_eq!(Event::from_bits(0x30e).get(), None);
        assert_eq!(Event::from_bits(0x8000_0100).get(), None);
        assert!(!Event::from_bits(0x0000_1b0e).unblocked_nmis());
        assert!(Event::from_bits(0x8000_1b0e).unblocked_nmis());
        assert!(!Event::from_bits(0x8000_1b08).unblocked_nmis());
    }
}
