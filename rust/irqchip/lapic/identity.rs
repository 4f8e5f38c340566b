// SPDX-License-Identifier: GPL-2.0
//! [`Identity`]: what others must know of an APIC to address it.
//!
//! A sender never looks at another vCPU's registers. Each APIC publishes a copy
//! of its mode, IDs and enable bits when one of them changes
//! ([`Changed::IDENTITY`](super::Changed)), and matching a destination (SDM
//! vol. 3, 12.6.2) and deciding what a message does are functions of that copy.

use super::{base::Mode, spec};
use crate::message::{Delivery, DestMode, Message, Shorthand, Trigger, FIRST_LEGAL_VECTOR};

/// Destination ID that reaches every APIC in xAPIC mode.
pub const BROADCAST: u32 = 0xff;
/// Destination ID that reaches every APIC in x2APIC mode.
pub const BROADCAST_X2APIC: u32 = 0xffff_ffff;

/// How an xAPIC reads a logical destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogicalModel {
    /// One bit for each of eight APICs.
    Flat,
    /// Four bits of cluster, one bit for each of four APICs.
    Cluster,
    /// The DFR holds neither pattern: only broadcasts match.
    Reserved,
}

/// How an APIC can be addressed and what it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Mode; a disabled APIC matches nothing.
    pub mode: Mode,
    /// Software-enabled in the SVR: takes fixed interrupts.
    pub enabled: bool,
    /// Logical model of xAPIC mode.
    pub model: LogicalModel,
    /// 8-bit ID of xAPIC mode, which the guest may change.
    pub xapic_id: u8,
    /// 32-bit ID, which is the vCPU's and can't be changed.
    pub x2apic_id: u32,
    /// Logical ID: bits 7:0 in xAPIC mode, the whole LDR in x2APIC mode.
    pub logical_id: u32,
}

/// How destinations are read, a property of the VM (`KVM_CAP_X2APIC_API`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DestRules {
    /// `KVM_X2APIC_API_USE_32BIT_IDS`: an APIC whose ID needs more than 8 bits
    /// is reached by that ID alone, also in xAPIC mode. This is what lets a
    /// hotplugged vCPU, which starts in xAPIC mode, be told from another one.
    pub wide_ids: bool,
    /// `KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK`: 0xff in a device's message is
    /// an ID like others for an APIC in x2APIC mode. Without it, it is a
    /// broadcast, because there is no interrupt remapping to spell one.
    pub no_broadcast_quirk: bool,
}

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Another (or the same) local APIC.
    Ipi,
    /// An IOAPIC or a device's MSI.
    Device,
}

/// What a message does at the APIC that accepts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// Nothing: de-asserted, or the APIC is not enabled.
    Ignored,
    /// The vector goes into the IRR.
    Vector(u8, Trigger),
    /// The vector is reserved: an error is logged, nothing is delivered.
    IllegalVector,
    /// A system management interrupt.
    Smi,
    /// A non-maskable interrupt.
    Nmi,
    /// Reset to wait for start-up.
    Init,
    /// Start at this page.
    Startup(u8),
    /// Wakes a halted vCPU (`KVM_HC_KICK_CPU`).
    Unhalt,
    /// The 8259 is to be asked for a vector.
    ExtInt,
}

/// Logical ID that x2APIC mode derives from an ID: cluster in bits 31:16, one
/// of 16 members below (SDM vol. 3, 12.12.10.2).
#[inline]
pub const fn x2apic_ldr(id: u32) -> u32 {
    (id >> 4) << 16 | 1u32.wrapping_shl(id & 0xf)
}

impl LogicalModel {
    pub(super) const fn from_dfr(dfr: u32) -> Self {
        match dfr {
            spec::DFR_FLAT => Self::Flat,
            spec::DFR_CLUSTER => Self::Cluster,
            _ => Self::Reserved,
        }
    }
}

mod packed {
    //! An identity in one word: the x2APIC ID in bits 31:0, then these.
    pub(super) const XAPIC_ID: u32 = 32;
    pub(super) const LOGICAL_ID: u32 = 40;
    pub(super) const MODE: u32 = 48;
    pub(super) const MODEL: u32 = 50;
    pub(super) const ENABLED: u32 = 52;
}

impl Identity {
    /// All of it in bits 52:0 of one word, for an owner that publishes it at once.
    pub const fn pack(&self) -> u64 {
        let mode = match self.mode {
            Mode::Disabled => 0,
            Mode::XApic => 1,
            Mode::X2Apic => 2,
        };
        let model = match self.model {
            LogicalModel::Flat => 0,
            LogicalModel::Cluster => 1,
            LogicalModel::Reserved => 2,
        };
        self.x2apic_id as u64
            | (self.xapic_id as u64) << packed::XAPIC_ID
            | (self.logical_id as u64 & 0xff) << packed::LOGICAL_ID
            | mode << packed::MODE
            | model << packed::MODEL
            | (self.enabled as u64) << packed::ENABLED
    }

    /// What [`Identity::pack`] made a word of; bits 63:53 don't count.
    pub const fn unpack(word: u64) -> Self {
        let x2apic_id = word as u32;
        let mode = match word >> packed::MODE & 3 {
            0 => Mode::Disabled,
            1 => Mode::XApic,
            _ => Mode::X2Apic,
        };
        Self {
            mode,
            enabled: word >> packed::ENABLED & 1 != 0,
            model: match word >> packed::MODEL & 3 {
                0 => LogicalModel::Flat,
                1 => LogicalModel::Cluster,
                _ => LogicalModel::Reserved,
            },
            xapic_id: (word >> packed::XAPIC_ID) as u8,
            x2apic_id,
            logical_id: match mode {
                Mode::X2Apic => x2apic_ldr(x2apic_id),
                _ => (word >> packed::LOGICAL_ID) as u32 & 0xff,
            },
        }
    }

    /// Whether a message with this destination is for this APIC.
    pub fn matches(&self, dest: u32, mode: DestMode, source: Source, rules: DestRules) -> bool {
        match self.mode {
            Mode::Disabled => false,
            Mode::XApic if dest == BROADCAST || dest == BROADCAST_X2APIC => true,
            Mode::XApic => match mode {
                DestMode::Physical => self.matches_xapic_id(dest, rules),
                DestMode::Logical => self.matches_xapic_logical(dest),
            },
            Mode::X2Apic => {
                let quirk = source == Source::Device && !rules.no_broadcast_quirk;
                if dest == BROADCAST_X2APIC || quirk && dest == BROADCAST {
                    return true;
                }
                match mode {
                    DestMode::Physical => dest == self.x2apic_id,
                    DestMode::Logical => {
                        dest >> 16 == self.logical_id >> 16 && dest & self.logical_id & 0xffff != 0
                    }
                }
            }
        }
    }

    /// Whether an IPI is for this APIC; `is_sender` when it is the one that
    /// sent it.
    pub fn matches_ipi(
        &self,
        shorthand: Shorthand,
        message: &Message,
        is_sender: bool,
        rules: DestRules,
    ) -> bool {
        match shorthand {
            Shorthand::None => self.matches(message.dest, message.dest_mode, Source::Ipi, rules),
            Shorthand::Itself => is_sender,
            Shorthand::All => self.mode != Mode::Disabled,
            Shorthand::Others => self.mode != Mode::Disabled && !is_sender,
        }
    }

    fn matches_xapic_id(&self, dest: u32, rules: DestRules) -> bool {
        if dest > 0xff || rules.wide_ids && self.x2apic_id > 0xff {
            dest == self.x2apic_id
        } else {
            dest == u32::from(self.xapic_id)
        }
    }

    fn matches_xapic_logical(&self, dest: u32) -> bool {
        match self.model {
            LogicalModel::Flat => dest & self.logical_id != 0,
            LogicalModel::Cluster => {
                dest >> 4 == self.logical_id >> 4 && dest & self.logical_id & 0xf != 0
            }
            LogicalModel::Reserved => false,
        }
    }

    /// What `message`, found to be for this APIC, does there.
    #[inline]
    pub fn accept(&self, message: &Message) -> Acceptance {
        match message.delivery {
            Delivery::Fixed | Delivery::LowestPriority => self.accept_vector(message),
            Delivery::Smi => Acceptance::Smi,
            Delivery::Nmi => Acceptance::Nmi,
            // The level de-assert message of the Pentium and P6: ignored.
            Delivery::Init if message.trigger == Trigger::Level && !message.assert => {
                Acceptance::Ignored
            }
            Delivery::Init => Acceptance::Init,
            Delivery::Startup => Acceptance::Startup(message.vector),
            Delivery::RemoteRead => Acceptance::Unhalt,
            Delivery::ExtInt => Acceptance::ExtInt,
        }
    }

    #[inline]
    fn accept_vector(&self, message: &Message) -> Acceptance {
        let deassert = message.trigger == Trigger::Level && !message.assert;
        if deassert || !self.enabled || self.mode == Mode::Disabled {
            Acceptance::Ignored
        } else if message.vector < FIRST_LEGAL_VECTOR {
            Acceptance::IllegalVector
        } else {
            Acceptance::Vector(message.vector, message.trigger)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Ipi;

    const XAPIC: Identity = Identity {
        mode: Mode::XApic,
        enabled: true,
        model: LogicalModel::Flat,
        xapic_id: 3,
        x2apic_id: 3,
        logical_id: 0x08,
    };
    const X2APIC: Identity =
        Identity { mode: Mode::X2Apic, x2apic_id: 0x123, logical_id: 0x12_0008, ..XAPIC };
    const RULES: DestRules = DestRules { wide_ids: false, no_broadcast_quirk: false };

    fn physical(id: &Identity, dest: u32) -> bool {
        id.matches(dest, DestMode::Physical, Source::Ipi, RULES)
    }

    fn logical(id: &Identity, dest: u32) -> bool {
        id.matches(dest, DestMode::Logical, Source::Ipi, RULES)
    }

    #[test]
    fn packed_and_unpacked() {
        let cluster = Identity { model: LogicalModel::Cluster, logical_id: 0xa4, ..XAPIC };
        let reserved = Identity { model: LogicalModel::Reserved, enabled: false, ..XAPIC };
        let off = Identity { mode: Mode::Disabled, xapic_id: 0xfe, ..XAPIC };
        for identity in [XAPIC, X2APIC, cluster, reserved, off] {
            assert_eq!(Identity::unpack(identity.pack() | 0x7ff << 53), identity);
            assert_eq!(identity.pack() >> 53, 0);
        }
    }

    #[test]
    fn physical_ids() {
        assert!(physical(&XAPIC, 3) && physical(&XAPIC, 0xff) && !physical(&XAPIC, 4));
        assert!(!physical(&XAPIC, 0x103));
        assert!(physical(&X2APIC, 0x123) && physical(&X2APIC, BROADCAST_X2APIC));
        assert!(!physical(&X2APIC, 0x23) && !physical(&X2APIC, 0xff));
        let off = Identity { mode: Mode::Disabled, ..XAPIC };
        assert!(!physical(&off, 3) && !physical(&off, 0xff));
    }

    #[test]
    fn a_wide_id_has_no_narrow_alias() {
        let hotplugged = Identity { x2apic_id: 0x103, ..XAPIC };
        assert!(physical(&hotplugged, 3) && physical(&hotplugged, 0x103));
        let rules = DestRules { wide_ids: true, ..RULES };
        assert!(!hotplugged.matches(3, DestMode::Physical, Source::Ipi, rules));
        assert!(hotplugged.matches(0x103, DestMode::Physical, Source::Ipi, rules));
    }

    #[test]
    fn broadcast_quirk_is_for_devices() {
        let quirk = |source, off| {
            let rules = DestRules { no_broadcast_quirk: off, ..RULES };
            X2APIC.matches(0xff, DestMode::Physical, source, rules)
        };
        assert!(quirk(Source::Device, false));
        assert!(!quirk(Source::Device, true));
        assert!(!quirk(Source::Ipi, false));
    }

    #[test]
    fn logical_models() {
        assert!(logical(&XAPIC, 0x0c) && !logical(&XAPIC, 0x04));
        let cluster = Identity { model: LogicalModel::Cluster, logical_id: 0x24, ..XAPIC };
        assert!(logical(&cluster, 0x2c) && !logical(&cluster, 0x1c) && !logical(&cluster, 0x23));
        assert!(!logical(&cluster, 0x124));
        let reserved = Identity { model: LogicalModel::Reserved, ..XAPIC };
        assert!(!logical(&reserved, 0x08) && logical(&reserved, 0xff));
        assert!(logical(&X2APIC, 0x12_0009) && !logical(&X2APIC, 0x13_0008));
        assert_eq!(x2apic_ldr(0x123), 0x12_0008);
    }

    #[test]
    fn shorthands() {
        let message = Ipi::decode(0, 0).message;
        let matches = |s, sender| XAPIC.matches_ipi(s, &message, sender, RULES);
        assert!(matches(Shorthand::Itself, true) && !matches(Shorthand::Itself, false));
        assert!(matches(Shorthand::All, true) && matches(Shorthand::All, false));
        assert!(!matches(Shorthand::Others, true) && matches(Shorthand::Others, false));
        assert!(!matches(Shorthand::None, true));
    }

    #[test]
    fn acceptance() {
        let accept = |id: &Identity, low| id.accept(&Ipi::decode(low, 0).message);
        let off = Identity { enabled: false, ..XAPIC };
        assert_eq!(accept(&XAPIC, 0x4031), Acceptance::Vector(0x31, Trigger::Edge));
        assert_eq!(accept(&XAPIC, 0xc131), Acceptance::Vector(0x31, Trigger::Level));
        assert_eq!(accept(&XAPIC, 0x8031), Acceptance::Ignored);
        assert_eq!(accept(&XAPIC, 0x400f), Acceptance::IllegalVector);
        assert_eq!(accept(&off, 0x4031), Acceptance::Ignored);
        assert_eq!(accept(&off, 0x4400), Acceptance::Nmi);
        assert_eq!(accept(&XAPIC, 0x4200), Acceptance::Smi);
        assert_eq!(accept(&XAPIC, 0xc500), Acceptance::Init);
        assert_eq!(accept(&XAPIC, 0x8500), Acceptance::Ignored);
        assert_eq!(accept(&XAPIC, 0x4600 | 0x9f), Acceptance::Startup(0x9f));
        assert_eq!(accept(&XAPIC, 0x4700), Acceptance::ExtInt);
        assert_eq!(accept(&XAPIC, 0x4300), Acceptance::Unhalt);
    }
}
