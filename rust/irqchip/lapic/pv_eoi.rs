// SPDX-License-Identifier: GPL-2.0
//! [`PvEoi`]: end of interrupt without an exit (`MSR_KVM_PV_EOI_EN`).
//!
//! The guest offers a word in its memory. While bit 0 of it is set, clearing the
//! bit is an EOI. The owner sets it before an entry when the next EOI concerns
//! nobody else, and looks after the exit what the guest did.

use super::{Eoi, LocalApic};

/// The MSR and whether the bit in guest memory is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PvEoi {
    msr: u64,
    armed: bool,
}

/// What to do after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum PvEoiExit {
    /// Nothing.
    None,
    /// The guest didn't use it: clear the word in its memory.
    Clear,
    /// The guest ended this interrupt.
    Ended(Eoi),
}

mod spec {
    pub(super) const ENABLE: u64 = 1;
    pub(super) const RESERVED: u64 = 2;
}

impl PvEoi {
    /// Takes the MSR; `None` when bit 1 is set (the word is 4-byte aligned).
    #[must_use]
    pub const fn new(msr: u64) -> Option<Self> {
        if msr & spec::RESERVED != 0 {
            None
        } else {
            Some(Self { msr, armed: false })
        }
    }

    /// The MSR.
    pub const fn msr(&self) -> u64 {
        self.msr
    }

    /// Guest physical address of the word; `None` while the guest hasn't
    /// enabled it.
    pub const fn address(&self) -> Option<u64> {
        if self.msr & spec::ENABLE != 0 {
            Some(self.msr & !(spec::ENABLE | spec::RESERVED))
        } else {
            None
        }
    }

    /// Whether the owner must read the word after an exit.
    #[inline]
    pub const fn is_armed(&self) -> bool {
        self.armed
    }

    /// Before an entry: true when the owner is to set bit 0 of the word. When
    /// that fails, it calls [`PvEoi::disarm`].
    #[inline]
    #[must_use]
    pub fn enter(&mut self, apic: &LocalApic) -> bool {
        let arm = !self.armed && self.address().is_some() && apic.may_skip_eoi();
        self.armed |= arm;
        arm
    }

    /// The word couldn't be written.
    pub fn disarm(&mut self) {
        self.armed = false;
    }

    /// After an exit, while armed: `word` is what the guest's memory holds, or
    /// `None` when it couldn't be read, which counts as an EOI because the guest
    /// can't do another one for it.
    pub fn exit(&mut self, apic: &mut LocalApic, word: Option<u8>) -> PvEoiExit {
        if !self.armed {
            return PvEoiExit::None;
        }
        self.armed = false;
        if word.is_some_and(|word| word & 1 != 0) {
            return PvEoiExit::Clear;
        }
        apic.eoi().map_or(PvEoiExit::None, PvEoiExit::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn one_round() {
        let mut apic = LocalApic::new(Config::default());
        let mut pv = PvEoi::new(0x1001).unwrap();
        assert_eq!(pv.address(), Some(0x1000));
        assert!(!pv.enter(&apic));
        apic.ack(0x40);
        assert!(pv.enter(&apic) && pv.is_armed());
        assert!(!pv.enter(&apic));
        assert_eq!(pv.exit(&mut apic, Some(1)), PvEoiExit::Clear);
        assert!(pv.enter(&apic));
        assert!(matches!(pv.exit(&mut apic, Some(0)), PvEoiExit::Ended(eoi) if eoi.vector == 0x40));
        assert_eq!(pv.exit(&mut apic, Some(0)), PvEoiExit::None);
        assert!(!pv.enter(&apic));
    }

    #[test]
    fn disabled_and_reserved() {
        let mut apic = LocalApic::new(Config::default());
        apic.ack(0x40);
        assert!(!PvEoi::default().enter(&apic));
        assert_eq!(PvEoi::new(2), None);
        let mut pv = PvEoi::new(1).unwrap();
        assert!(pv.enter(&apic));
        pv.disarm();
        assert_eq!(pv.exit(&mut apic, None), PvEoiExit::None);
    }
}
