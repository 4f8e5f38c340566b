// SPDX-License-Identifier: GPL-2.0
//! Register writes, and what the owner has to do after one: [`Effects`].
//!
//! SDM vol. 3, 12.5 (LVT), 12.6.1 (ICR), 12.8.5 (EOI), 12.9 (SVR) and 12.12
//! (x2APIC).

use super::{
    deliver::Eoi, spec, DirectedEoi, GeneralProtection, LocalApic, LocalEvent, Lvt, Mode, Now,
};
use crate::message::{Ipi, FIRST_LEGAL_VECTOR};
use bitflags::bitflags;

/// What may have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed(u8);

bitflags! {
    impl Changed: u8 {
        /// Look at [`LocalApic::pending`] again before entering the guest.
        const RECHECK = 1 << 0;
        /// [`LocalApic::identity`]: publish it and build the map anew.
        const IDENTITY = 1 << 1;
        /// [`Timer::expiry`](super::Timer::expiry): program the host timer.
        const TIMER = 1 << 2;
        /// LINT0: [`LocalApic::accepts_pic`] and [`LocalApic::lint0_is_nmi`].
        const LINT0 = 1 << 3;
        /// The APIC was enabled just now: what was held back because it couldn't
        /// be delivered (async page faults) may go now.
        const ENABLED = 1 << 4;
        /// The TPR was accessed (`KVM_TPR_ACCESS_REPORTING`).
        const TPR = 1 << 5;
    }
}

/// Something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Deliver this interprocessor interrupt.
    Ipi(Ipi),
    /// An interrupt ended; tell those that wait for it.
    Eoi(Eoi),
}

/// What a register write asks of the owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Effects {
    /// What is to be looked at again.
    pub changed: Changed,
    /// What is to be sent.
    pub event: Option<Event>,
}

impl From<Changed> for Effects {
    fn from(changed: Changed) -> Self {
        Self { changed, event: None }
    }
}

impl LocalEvent {
    /// For sources that can raise nothing but a vector.
    fn changed(self) -> Changed {
        if self == Self::None {
            Changed::empty()
        } else {
            Changed::RECHECK
        }
    }
}

impl LocalApic {
    /// Writes four bytes at `offset` of the register page (xAPIC mode). Unaligned
    /// offsets are ignored, as the owner ignores other widths. `now` is called
    /// for the timer's registers only.
    #[inline]
    pub fn write_mmio(&mut self, offset: u32, value: u32, now: impl FnOnce() -> Now) -> Effects {
        if offset & 0xf != 0 {
            return Effects::default();
        }
        let register = (offset >> 4 & 0xff) as u8;
        match register {
            spec::EOI => self.write_eoi(),
            spec::ICR => self.write_icr_low(value),
            _ => match self.write_register(register, value, false, now) {
                Ok(changed) => changed.into(),
                Err(GeneralProtection) => self.log_register_error().into(),
            },
        }
    }

    /// Writes MSR 0x800 to 0x8ff.
    ///
    /// # Errors
    ///
    /// [`GeneralProtection`] outside x2APIC mode, for registers that are
    /// reserved or read-only, and for reserved bits.
    #[inline]
    pub fn write_msr(
        &mut self,
        msr: u32,
        value: u64,
        now: impl FnOnce() -> Now,
    ) -> Result<Effects, GeneralProtection> {
        let register = msr.wrapping_sub(spec::MSR_BASE);
        if self.mode() != Mode::X2Apic || register > u32::from(spec::SELF_IPI) {
            return Err(GeneralProtection);
        }
        self.write_full(register as u8, value, now)
    }

    /// Writes a register as the x2APIC has it, see [`LocalApic::read_full`].
    ///
    /// # Errors
    ///
    /// [`GeneralProtection`] for registers that are reserved or read-only, and
    /// for reserved bits.
    #[inline]
    pub fn write_full(
        &mut self,
        register: u8,
        value: u64,
        now: impl FnOnce() -> Now,
    ) -> Result<Effects, GeneralProtection> {
        if register == spec::ICR {
            return self.write_icr(value);
        }
        let low = u32::try_from(value).map_err(|_| GeneralProtection)?;
        let x2apic = self.mode() == Mode::X2Apic;
        match register {
            spec::EOI if x2apic && low != 0 => Err(GeneralProtection),
            spec::EOI => Ok(self.write_eoi()),
            spec::SELF_IPI if x2apic => {
                let vector = u8::try_from(low).map_err(|_| GeneralProtection)?;
                Ok(self.send(Ipi::to_self(vector)))
            }
            _ => self.write_register(register, low, x2apic, now).map(Effects::from),
        }
    }

    /// An EOI: what a write of the register does, for owners that know that the
    /// access is one.
    #[inline]
    pub fn write_eoi(&mut self) -> Effects {
        match self.eoi() {
            Some(eoi) => Effects { changed: Changed::RECHECK, event: Some(Event::Eoi(eoi)) },
            None => Effects::default(),
        }
    }

    /// Writes the 64-bit ICR of x2APIC mode.
    ///
    /// # Errors
    ///
    /// [`GeneralProtection`] for reserved bits.
    #[inline]
    pub fn write_icr(&mut self, value: u64) -> Result<Effects, GeneralProtection> {
        if value & spec::X2APIC_ICR_RESERVED != 0 {
            return Err(GeneralProtection);
        }
        self.icr = value & !spec::ICR_BUSY;
        let mut dest = (value >> 32) as u32;
        if self.mode() != Mode::X2Apic {
            dest >>= 24;
        }
        Ok(self.send(Ipi::decode(value as u32, dest)))
    }

    #[inline]
    fn write_icr_low(&mut self, value: u32) -> Effects {
        let high = self.icr & !0xffff_ffff;
        self.icr = high | u64::from(value) & !spec::ICR_BUSY;
        self.send(Ipi::decode(value, (high >> 56) as u32))
    }

    #[inline]
    fn send(&mut self, ipi: Ipi) -> Effects {
        if ipi.message.delivery.is_vectored() && ipi.message.vector < FIRST_LEGAL_VECTOR {
            return self.raise_error(spec::ESR_SEND_ILLEGAL_VECTOR).changed().into();
        }
        Effects { changed: Changed::empty(), event: Some(Event::Ipi(ipi)) }
    }

    /// An access to a reserved register of the page.
    pub(super) fn log_register_error(&mut self) -> Changed {
        self.raise_error(spec::ESR_ILLEGAL_REGISTER).changed()
    }

    fn write_register(
        &mut self,
        register: u8,
        value: u32,
        x2apic: bool,
        now: impl FnOnce() -> Now,
    ) -> Result<Changed, GeneralProtection> {
        match register {
            spec::TPR if x2apic && value > 0xff => return Err(GeneralProtection),
            spec::TPR => return Ok(self.set_tpr(value as u8) | Changed::TPR),
            spec::ID if !x2apic => self.xapic_id = (value >> 24) as u8,
            spec::LDR if !x2apic => self.ldr = value & spec::LDR_WRITABLE,
            spec::DFR if !x2apic => self.dfr = value | spec::DFR_FIXED,
            spec::SVR => return Ok(self.write_svr(value, now)),
            spec::ICR2 if !x2apic => {
                self.icr = self.icr & 0xffff_ffff | u64::from(value & 0xff00_0000) << 32;
                return Ok(Changed::empty());
            }
            spec::ESR => return self.write_esr(value, x2apic),
            spec::TMICT => {
                self.timer.set_initial(value, now().ns);
                return Ok(Changed::TIMER);
            }
            spec::TDCR => {
                self.tdcr = value & 0xb;
                self.timer.set_divide(self.tdcr, now());
                return Ok(Changed::TIMER);
            }
            // Read-only. The xAPIC ignores the write.
            spec::VERSION | spec::APR | spec::PPR | spec::RRR | spec::TMCCT if !x2apic => {
                return Ok(Changed::empty())
            }
            spec::ISR..=spec::IRR_LAST if !x2apic => return Ok(Changed::empty()),
            _ => return self.write_lvt(register, value, now),
        }
        Ok(Changed::IDENTITY)
    }

    fn write_svr(&mut self, value: u32, now: impl FnOnce() -> Now) -> Changed {
        let directed = self.config.x2apic && self.config.directed_eoi != DirectedEoi::Absent;
        let writable = spec::SVR_WRITABLE | if directed { spec::SVR_DIRECTED_EOI } else { 0 };
        let before = self.software_enabled();
        self.svr = value & writable;
        match (before, self.software_enabled()) {
            (false, true) => Changed::IDENTITY | Changed::ENABLED | Changed::RECHECK,
            (_, true) => Changed::empty(),
            (_, false) => {
                for entry in Lvt::ALL {
                    self.set_lvt(entry, self.lvt(entry) | spec::LVT_MASKED);
                }
                self.timer.set_lvt(self.lvt(Lvt::Timer), now());
                Changed::IDENTITY | Changed::TIMER | Changed::LINT0
            }
        }
    }

    /// A write shows the errors since the last one and starts to collect anew.
    fn write_esr(&mut self, value: u32, x2apic: bool) -> Result<Changed, GeneralProtection> {
        if x2apic && value != 0 {
            return Err(GeneralProtection);
        }
        self.esr = self.errors;
        self.errors = 0;
        Ok(Changed::empty())
    }

    fn write_lvt(
        &mut self,
        register: u8,
        value: u32,
        now: impl FnOnce() -> Now,
    ) -> Result<Changed, GeneralProtection> {
        let entry = Lvt::from_register(register)
            .filter(|entry| self.has_lvt(*entry))
            .ok_or(GeneralProtection)?;
        let mut value = value & self.lvt_writable(entry);
        if !self.software_enabled() {
            value |= spec::LVT_MASKED;
        }
        self.set_lvt(entry, value);
        Ok(match entry {
            Lvt::Timer => {
                self.timer.set_lvt(value, now());
                Changed::TIMER
            }
            Lvt::Lint0 => Changed::LINT0,
            _ => Changed::empty(),
        })
    }

    pub(super) const fn lvt_writable(&self, entry: Lvt) -> u32 {
        spec::LVT_BASE
            | match entry {
                Lvt::Timer if self.config.tsc_deadline => {
                    spec::LVT_PERIODIC | spec::LVT_TSC_DEADLINE
                }
                Lvt::Timer => spec::LVT_PERIODIC,
                Lvt::Error => 0,
                Lvt::Thermal | Lvt::Performance | Lvt::Cmci => spec::LVT_DELIVERY,
                Lvt::Lint0 | Lvt::Lint1 => spec::LVT_DELIVERY | spec::LVT_PIN,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BaseRules, Config, Expiry, TimerConfig};
    use super::*;
    use crate::message::{Delivery, DestMode, Shorthand};
    use proptest::prelude::*;

    fn now() -> Now {
        Now { ns: 500, tsc: 500 }
    }

    fn xapic() -> LocalApic {
        let timer = TimerConfig { bus_cycle_ns: 1, min_period_ns: 0 };
        let config = Config { id: 1, x2apic: true, tsc_deadline: true, timer, ..Config::default() };
        let mut apic = LocalApic::new(config);
        let effects = apic.write_mmio(0xf0, 0x1ff, now);
        assert!(effects.changed.contains(Changed::IDENTITY | Changed::ENABLED));
        apic
    }

    fn x2apic() -> LocalApic {
        let mut apic = xapic();
        let rules = BaseRules { address_bits: 40, x2apic: true, host: false };
        let base = apic.base().raw() | 1 << 10;
        apic.write_base(base, rules).unwrap();
        apic
    }

    fn ipi(effects: Effects) -> Ipi {
        match effects.event {
            Some(Event::Ipi(ipi)) => ipi,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn icr_of_the_xapic() {
        let mut apic = xapic();
        assert_eq!(apic.write_mmio(0x310, 0x05ff_ffff, now), Effects::default());
        let sent = ipi(apic.write_mmio(0x300, 0x5931, now));
        assert_eq!((sent.message.dest, sent.message.vector), (5, 0x31));
        assert_eq!(sent.message.dest_mode, DestMode::Logical);
        assert_eq!(apic.read_mmio(0x300, 4, now).0, 0x4931);
        assert_eq!(apic.read_mmio(0x310, 4, now).0, 0x0500_0000);
    }

    #[test]
    fn icr_of_the_x2apic() {
        let mut apic = x2apic();
        let value = 0x1234_5678_0000_44fe;
        let sent = ipi(apic.write_msr(0x830, value, now).unwrap());
        assert_eq!((sent.message.dest, sent.message.delivery), (0x1234_5678, Delivery::Nmi));
        assert_eq!(apic.read_msr(0x830, now), Ok(value));
        assert_eq!(apic.write_msr(0x830, 1 << 13, now), Err(GeneralProtection));
        assert_eq!(apic.write_msr(0x831, 0, now), Err(GeneralProtection));
        let sent = ipi(apic.write_msr(0x83f, 0x99, now).unwrap());
        assert_eq!((sent.shorthand, sent.message.vector), (Shorthand::Itself, 0x99));
        assert_eq!(apic.write_msr(0x83f, 0x100, now), Err(GeneralProtection));
    }

    #[test]
    fn reserved_in_x2apic_mode() {
        let mut apic = x2apic();
        for (msr, value) in [
            (0x802, 0),
            (0x803, 0),
            (0x80a, 0),
            (0x80b, 1),
            (0x80d, 0),
            (0x80e, 0),
            (0x810, 0),
            (0x827, 0),
            (0x828, 1),
            (0x82f, 0),
            (0x839, 0),
            (0x840, 0),
            (0x808, 0x1_0000_0000),
        ] {
            assert_eq!(apic.write_msr(msr, value, now), Err(GeneralProtection), "{msr:x}");
        }
        for (msr, value) in [(0x808, 0x20), (0x80b, 0), (0x80f, 0x1ff), (0x828, 0), (0x838, 0)] {
            assert!(apic.write_msr(msr, value, now).is_ok(), "{msr:x}");
        }
        assert_eq!(xapic().write_msr(0x80b, 0, now), Err(GeneralProtection));
    }

    #[test]
    fn errors_are_shown_by_a_write() {
        let mut apic = xapic();
        let _ = apic.write_mmio(0x370, 0xfe, now);
        let effects = apic.write_mmio(0x300, 0x400f, now);
        assert_eq!((effects.event, effects.changed), (None, Changed::RECHECK));
        assert_eq!(apic.pending(), Some(0xfe));
        assert_eq!(apic.read_mmio(0x280, 4, now).0, 0);
        let _ = apic.write_mmio(0x280, 0, now);
        assert_eq!(apic.read_mmio(0x280, 4, now).0, spec::ESR_SEND_ILLEGAL_VECTOR);
        let _ = apic.write_mmio(0x010, 0, now);
        let _ = apic.write_mmio(0x280, 0, now);
        assert_eq!(apic.read_mmio(0x280, 4, now).0, spec::ESR_ILLEGAL_REGISTER);
    }

    #[test]
    fn software_disable_masks_the_table() {
        let mut apic = xapic();
        let _ = apic.write_mmio(0x350, 0x1a731, now);
        assert_eq!(apic.read_mmio(0x350, 4, now).0, 0x1a731);
        let _ = apic.write_mmio(0x350, 0x700, now);
        assert!(apic.accepts_pic());
        let _ = apic.write_mmio(0x320, 0x30, now);
        let effects = apic.write_mmio(0x380, 1000, now);
        assert_eq!(effects.changed, Changed::TIMER);
        assert_eq!(apic.timer().expiry(), Expiry::Monotonic(500 + 2000));
        let effects = apic.write_mmio(0xf0, 0xff, now);
        assert!(effects.changed.contains(Changed::IDENTITY | Changed::TIMER | Changed::LINT0));
        assert!(!apic.accepts_pic());
        assert_eq!(apic.timer().expiry(), Expiry::Never);
        let _ = apic.write_mmio(0x320, 0x30, now);
        assert_eq!(apic.read_mmio(0x320, 4, now).0, 0x1_0030);
    }

    #[test]
    fn identity_registers() {
        let mut apic = xapic();
        for (offset, value) in [(0x20, 0x0700_0000), (0xd0, 0x0400_00ff), (0xe0, 0x0fff_ffff)] {
            assert_eq!(apic.write_mmio(offset, value, now).changed, Changed::IDENTITY);
        }
        let identity = apic.identity();
        assert_eq!((identity.xapic_id, identity.logical_id), (7, 4));
        assert_eq!(identity.model, super::super::LogicalModel::Cluster);
    }

    #[test]
    fn eoi_and_tpr() {
        let mut apic = xapic();
        apic.ack(0x60);
        apic.irr.insert(0x50);
        let effects = apic.write_mmio(0xb0, 0, now);
        assert!(matches!(effects.event, Some(Event::Eoi(eoi)) if eoi.vector == 0x60));
        assert_eq!(apic.write_mmio(0xb0, 0, now), Effects::default());
        assert_eq!(apic.write_mmio(0x80, 0x1ff, now).changed, Changed::TPR);
        assert_eq!(apic.tpr(), 0xff);
        assert_eq!(apic.write_mmio(0x80, 0x4f, now).changed, Changed::TPR | Changed::RECHECK);
        assert_eq!(apic.cr8(), 4);
        assert_eq!(apic.set_cr8(0xf5), Changed::empty());
        assert_eq!(apic.tpr(), 0x50);
    }

    proptest! {
        /// Whatever is written where: no panic, and the mode-dependent rules of
        /// the registers hold afterwards.
        #[test]
        fn any_writes(writes in prop::collection::vec((0u32..0x440, any::<u32>(), any::<bool>()), 0..100)) {
            let (mut a, mut b) = (xapic(), x2apic());
            for (offset, value, aligned) in writes {
                let offset = if aligned { offset & !0xf } else { offset };
                let _ = a.write_mmio(offset, value, now);
                let _ = a.read_mmio(offset, 4, now);
                let _ = b.write_msr(0x800 + (offset >> 4), u64::from(value), now);
                let _ = b.read_msr(0x800 + (offset >> 4), now);
            }
            prop_assert_eq!(b.identity().x2apic_id, 1);
            for apic in [&a, &b] {
                prop_assert_eq!(apic.icr & spec::ICR_BUSY, 0);
                for entry in Lvt::ALL {
                    prop_assert!(apic.software_enabled() || apic.lvt(entry) & spec::LVT_MASKED != 0);
                }
            }
        }
    }
}
