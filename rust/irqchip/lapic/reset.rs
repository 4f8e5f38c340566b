// SPDX-License-Identifier: GPL-2.0
//! Power-on reset and INIT (SDM vol. 3, 12.4.7).

use super::{spec, ApicBase, Changed, LocalApic, Lvt, Mode, Timer};
use crate::vectors::VectorSet;

/// Kind of reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Everything, the base MSR and the ID included.
    PowerOn,
    /// Everything but the base MSR (and with it the mode) and the ID.
    Init,
}

impl LocalApic {
    /// Resets the registers. Vectors that still wait in the inbox are the
    /// owner's to discard ([`Inbox::discard_vectors`](super::Inbox::discard_vectors)),
    /// as is the PV EOI MSR.
    #[must_use = "the identity and the timer have changed"]
    pub fn reset(&mut self, kind: Reset) -> Changed {
        if kind == Reset::PowerOn {
            self.base = ApicBase::reset(self.config.bsp);
            self.xapic_id = self.config.id as u8;
        }
        self.irr = VectorSet::EMPTY;
        self.isr = VectorSet::EMPTY;
        self.tmr = VectorSet::EMPTY;
        self.tpr = 0;
        // The quirk opens LINT0 although the APIC is software-disabled.
        self.svr = 0xff;
        self.lvt = [spec::LVT_MASKED; 7];
        if self.config.bsp && self.config.lint0_extint {
            self.set_lvt(Lvt::Lint0, 7 << 8);
        }
        if self.mode() != Mode::X2Apic {
            self.ldr = 0;
        }
        self.dfr = spec::DFR_FLAT;
        self.esr = 0;
        self.errors = 0;
        self.icr = 0;
        self.tdcr = 0;
        // INVARIANT: a new timer has a masked entry and the divisor of zero.
        self.timer = Timer::new(self.config.timer);
        Changed::IDENTITY | Changed::TIMER | Changed::LINT0 | Changed::RECHECK
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BaseRules, Config, Expiry, Now};
    use super::*;

    #[test]
    fn init_keeps_mode_and_id() {
        let config =
            Config { id: 5, bsp: true, lint0_extint: true, x2apic: true, ..Config::default() };
        let mut apic = LocalApic::new(config);
        assert!(apic.accepts_pic());
        assert_eq!(apic.identity().xapic_id, 5);
        let rules = BaseRules { address_bits: 40, x2apic: true, host: false };
        let base = apic.base().raw() | 1 << 10;
        apic.write_base(base, rules).unwrap();
        apic.ack(0x40);
        apic.tpr = 7;
        let _ = apic.timer_expired(Now { ns: 0, tsc: 0 });
        let _ = apic.reset(Reset::Init);
        assert_eq!((apic.base().raw(), apic.tpr, apic.ppr()), (base, 0, 0));
        assert_eq!(apic.timer().expiry(), Expiry::Never);
        assert!(!apic.software_enabled());
        let _ = apic.reset(Reset::PowerOn);
        assert_eq!(apic.mode(), Mode::XApic);
    }

    #[test]
    fn a_changed_id_survives_init_only() {
        let mut apic = LocalApic::new(Config { id: 5, ..Config::default() });
        apic.xapic_id = 9;
        let _ = apic.reset(Reset::Init);
        assert_eq!(apic.identity().xapic_id, 9);
        let _ = apic.reset(Reset::PowerOn);
        assert_eq!(apic.identity().xapic_id, 5);
    }
}
