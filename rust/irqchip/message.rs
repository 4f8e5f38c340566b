// SPDX-License-Identifier: GPL-2.0
//! What travels between interrupt controllers: [`Message`] and [`Ipi`].
//!
//! An IOAPIC pin, an MSI write and an interrupt command register all come down
//! to a destination, a vector and how to deliver it (SDM vol. 3, 12.6 and
//! 12.11). The owner takes a message from the device that returned it, finds
//! the target vCPUs in the [`map`](crate::map) and hands it to their inboxes.

/// Lowest vector that can be delivered as an interrupt; those below belong to
/// exceptions (SDM vol. 3, 12.5.2).
pub const FIRST_LEGAL_VECTOR: u8 = 16;

/// Delivery mode, bits 10:8 of an ICR, redirection entry or MSI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Delivery {
    /// To every processor addressed, at the message's vector.
    Fixed = 0,
    /// As fixed, to the one of lowest priority among those addressed.
    LowestPriority = 1,
    /// System management interrupt.
    Smi = 2,
    /// Remote read; reserved since the Pentium 4, and used by KVM's
    /// `KVM_HC_KICK_CPU` to wake a halted vCPU.
    RemoteRead = 3,
    /// Non-maskable interrupt; the vector is ignored.
    Nmi = 4,
    /// Resets the processor to wait for a start-up message.
    Init = 5,
    /// Start-up: the vector is the page number where execution begins.
    Startup = 6,
    /// The vector comes from the 8259.
    ExtInt = 7,
}

impl Delivery {
    /// Decodes a delivery mode from bits 10:8 of `register`.
    #[inline]
    pub const fn from_register(register: u32) -> Self {
        match register >> 8 & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            3 => Self::RemoteRead,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::Startup,
            _ => Self::ExtInt,
        }
    }

    /// Whether the message raises its vector in the target's IRR.
    #[inline]
    pub const fn is_vectored(self) -> bool {
        matches!(self, Self::Fixed | Self::LowestPriority)
    }
}

/// How the destination field names processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestMode {
    /// By APIC ID.
    Physical,
    /// By the logical ID in the LDR.
    Logical,
}

/// Trigger mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// One event per rising edge.
    Edge,
    /// Asserted until the device is served; EOI is broadcast to the IOAPICs.
    Level,
}

/// Destination shorthand of an ICR (SDM vol. 3, 12.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shorthand {
    /// The destination field counts.
    None,
    /// The sender itself.
    Itself,
    /// Every processor.
    All,
    /// Every processor but the sender.
    Others,
}

/// One interrupt message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Destination: APIC ID or logical destination, in the sender's width.
    pub dest: u32,
    /// Vector; the start-up page for [`Delivery::Startup`].
    pub vector: u8,
    /// What the message does at its target.
    pub delivery: Delivery,
    /// How `dest` is read.
    pub dest_mode: DestMode,
    /// Trigger mode, ends up in the target's TMR.
    pub trigger: Trigger,
    /// Level: false only for a de-assert message.
    pub assert: bool,
    /// MSI redirection hint: deliver to one of the processors addressed.
    pub redirect_hint: bool,
}

impl Message {
    /// Whether only one of the processors addressed is to get the message.
    #[inline]
    pub const fn is_arbitrated(&self) -> bool {
        self.redirect_hint || matches!(self.delivery, Delivery::LowestPriority)
    }
}

/// An interprocessor interrupt: a message and its shorthand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipi {
    /// What to deliver. `dest` has meaning only without a shorthand.
    pub message: Message,
    /// Whom to deliver it to.
    pub shorthand: Shorthand,
}

mod spec {
    pub(super) const LOGICAL: u32 = 1 << 11;
    pub(super) const ASSERT: u32 = 1 << 14;
    pub(super) const LEVEL: u32 = 1 << 15;
}

impl Ipi {
    /// Decodes the low half of an ICR; `dest` is the destination field as wide
    /// as the APIC's mode makes it.
    #[inline]
    pub const fn decode(icr_low: u32, dest: u32) -> Self {
        Self {
            message: Message {
                dest,
                vector: icr_low as u8,
                delivery: Delivery::from_register(icr_low),
                dest_mode: if icr_low & spec::LOGICAL != 0 {
                    DestMode::Logical
                } else {
                    DestMode::Physical
                },
                trigger: if icr_low & spec::LEVEL != 0 { Trigger::Level } else { Trigger::Edge },
                assert: icr_low & spec::ASSERT != 0,
                redirect_hint: false,
            },
            shorthand: match icr_low >> 18 & 3 {
                0 => Shorthand::None,
                1 => Shorthand::Itself,
                2 => Shorthand::All,
                _ => Shorthand::Others,
            },
        }
    }

    /// A fixed edge interrupt to the sender itself.
    #[inline]
    pub const fn to_self(vector: u8) -> Self {
        Self::decode(1 << 18 | spec::ASSERT | vector as u32, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn icr_fields() {
        let ipi = Ipi::decode(0x000c_cd42, 7);
        assert_eq!(ipi.shorthand, Shorthand::Others);
        let message = ipi.message;
        assert_eq!(message.dest, 7);
        assert_eq!(message.vector, 0x42);
        assert_eq!(message.delivery, Delivery::Init);
        assert_eq!(message.dest_mode, DestMode::Logical);
        assert_eq!(message.trigger, Trigger::Level);
        assert!(message.assert);
    }

    #[test]
    fn every_delivery_mode_round_trips() {
        for mode in 0..8u32 {
            assert_eq!(Delivery::from_register(mode << 8) as u32, mode);
        }
    }

    #[test]
    fn self_ipi() {
        let ipi = Ipi::to_self(0x99);
        assert_eq!(ipi.shorthand, Shorthand::Itself);
        assert_eq!(ipi.message.vector, 0x99);
        assert_eq!(ipi.message.delivery, Delivery::Fixed);
        assert_eq!(ipi.message.trigger, Trigger::Edge);
    }
}
