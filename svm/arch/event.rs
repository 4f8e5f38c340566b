// SPDX-License-Identifier: GPL-2.0
//! Events: what is injected on entry, and what an exit interrupted (APM vol. 2,
//! 15.20 and 15.7.2). Both have one format.

const TYPE_SHIFT: u32 = 8;
const ERROR_CODE_VALID: u64 = 1 << 11;
const VALID: u64 = 1 << 31;

/// Kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// External or virtual interrupt.
    Interrupt,
    /// NMI; the vector doesn't count.
    Nmi,
    /// Exception, a fault or trap.
    Exception,
    /// INT n.
    SoftwareInterrupt,
}

/// An event, or none, in the processor's format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Event(u64);

impl Event {
    /// No event.
    pub const NONE: Self = Self(0);

    /// An event without an error code.
    pub const fn new(kind: Kind, vector: u8) -> Self {
        let kind = match kind {
            Kind::Interrupt => 0,
            Kind::Nmi => 2,
            Kind::Exception => 3,
            Kind::SoftwareInterrupt => 4,
        };
        Self(VALID | kind << TYPE_SHIFT | vector as u64)
    }

    /// An exception that pushes an error code.
    pub const fn with_error_code(vector: u8, code: u32) -> Self {
        Self(Self::new(Kind::Exception, vector).0 | ERROR_CODE_VALID | (code as u64) << 32)
    }

    /// The event's kind and vector, `None` if there is none or if its type is one
    /// that the manual doesn't define.
    pub const fn get(self) -> Option<(Kind, u8)> {
        if self.0 & VALID == 0 {
            return None;
        }
        let kind = match self.0 >> TYPE_SHIFT & 7 {
            0 => Kind::Interrupt,
            2 => Kind::Nmi,
            3 => Kind::Exception,
            4 => Kind::SoftwareInterrupt,
            _ => return None,
        };
        Some((kind, self.0 as u8))
    }

    /// The error code, if the event has one.
    pub const fn error_code(self) -> Option<u32> {
        if self.0 & (VALID | ERROR_CODE_VALID) == VALID | ERROR_CODE_VALID {
            return Some((self.0 >> 32) as u32);
        }
        None
    }

    /// The bits as the processor has them.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// An event from the processor's bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_encoding() {
        for kind in [Kind::Interrupt, Kind::Nmi, Kind::Exception, Kind::SoftwareInterrupt] {
            for vector in [0, 2, 14, 255] {
                let event = Event::new(kind, vector);
                assert_eq!(event.get(), Some((kind, vector)));
                assert_eq!(event.error_code(), None);
            }
        }
        let fault = Event::with_error_code(14, 0x8000_0003);
        assert_eq!(fault.get(), Some((Kind::Exception, 14)));
        assert_eq!(fault.error_code(), Some(0x8000_0003));
        assert_eq!(fault.bits(), 0x8000_0003_8000_0b0e);
    }

    #[test]
    fn what_is_no_event_is_none() {
        assert_eq!(Event::NONE.get(), None);
        assert_eq!(Event::from_bits(0x30e).get(), None);
        assert_eq!(Event::from_bits(VALID | 1 << 8).get(), None);
        assert_eq!(Event::from_bits(ERROR_CODE_VALID).error_code(), None);
    }
}
