// SPDX-License-Identifier: GPL-2.0
//! Register reads: the MMIO page of xAPIC mode and the MSRs of x2APIC mode.
//!
//! SDM vol. 3, 12.4.1 and 12.12.1.2. The owner harvests the inbox first, so
//! that IRR and TMR show what others have sent.

use super::{spec, Changed, GeneralProtection, LocalApic, Lvt, Mode, Now, TimerMode};

impl LocalApic {
    /// Whether the register page at [`ApicBase::address`](super::ApicBase::address)
    /// is there: only in xAPIC mode.
    #[inline]
    pub fn has_mmio(&self) -> bool {
        self.mode() == Mode::XApic
    }

    /// Reads `len` bytes at `offset` of the register page. An access that
    /// crosses its register's four bytes reads zero. Reading a reserved register
    /// logs an error; [`Changed::RECHECK`] then says that the error interrupt
    /// was raised, and [`Changed::TPR`] that the TPR was read.
    pub fn read_mmio(
        &mut self,
        offset: u32,
        len: u32,
        now: impl FnOnce() -> Now,
    ) -> (u32, Changed) {
        let byte = offset & 0xf;
        let register = (offset >> 4 & 0xff) as u8;
        if byte.saturating_add(len) > 4 {
            return (0, Changed::empty());
        }
        match self.read_register(register, false, now) {
            Some(value) => {
                let tpr = if register == spec::TPR { Changed::TPR } else { Changed::empty() };
                (value.wrapping_shr(byte.wrapping_mul(8)), tpr)
            }
            None => (0, self.log_register_error()),
        }
    }

    /// Reads MSR 0x800 to 0x8ff.
    ///
    /// # Errors
    ///
    /// [`GeneralProtection`] outside x2APIC mode and for reserved and write-only
    /// registers.
    pub fn read_msr(&self, msr: u32, now: impl FnOnce() -> Now) -> Result<u64, GeneralProtection> {
        let register = msr.wrapping_sub(spec::MSR_BASE);
        if self.mode() != Mode::X2Apic || register > u32::from(spec::SELF_IPI) {
            return Err(GeneralProtection);
        }
        self.read_full(register as u8, now)
    }

    /// Reads a register as the x2APIC has it, whatever the mode (the Hyper-V
    /// APIC MSRs, which work in xAPIC mode too). `register` counts from the
    /// first one, in units of 16 bytes of the page.
    ///
    /// # Errors
    ///
    /// [`GeneralProtection`] for reserved and write-only registers.
    pub fn read_full(
        &self,
        register: u8,
        now: impl FnOnce() -> Now,
    ) -> Result<u64, GeneralProtection> {
        if register == spec::ICR {
            return Ok(self.icr);
        }
        self.read_register(register, self.mode() == Mode::X2Apic, now)
            .map(u64::from)
            .ok_or(GeneralProtection)
    }

    pub(super) fn id_register(&self) -> u32 {
        match self.mode() {
            Mode::X2Apic => self.config.id,
            _ => u32::from(self.xapic_id) << 24,
        }
    }

    pub(super) fn ldr_register(&self) -> u32 {
        match self.mode() {
            Mode::X2Apic => super::x2apic_ldr(self.config.id),
            _ => self.ldr,
        }
    }

    fn read_register(&self, register: u8, x2apic: bool, now: impl FnOnce() -> Now) -> Option<u32> {
        Some(match register {
            spec::ID => self.id_register(),
            spec::VERSION => self.version(),
            spec::TPR => u32::from(self.tpr),
            spec::PPR => u32::from(self.ppr()),
            spec::LDR => self.ldr_register(),
            spec::SVR => self.svr,
            spec::ISR..=spec::IRR_LAST => self.read_vectors(register),
            spec::ESR => self.esr,
            spec::ICR => self.icr as u32,
            spec::TMICT => self.timer.initial(),
            spec::TMCCT if self.timer.mode() == TimerMode::TscDeadline => 0,
            spec::TMCCT => self.timer.current(now().ns),
            spec::TDCR => self.tdcr,
            // Not in x2APIC mode. EOI is write-only, which is no error to the
            // xAPIC.
            spec::DFR if !x2apic => self.dfr,
            spec::ICR2 if !x2apic => (self.icr >> 32) as u32,
            spec::APR | spec::RRR | spec::EOI if !x2apic => 0,
            _ => {
                let entry = Lvt::from_register(register).filter(|entry| self.has_lvt(*entry))?;
                self.lvt(entry)
            }
        })
    }

    /// Registers 0x10 to 0x27: ISR, TMR and IRR.
    fn read_vectors(&self, register: u8) -> u32 {
        let set = match register >> 3 {
            2 => &self.isr,
            3 => &self.tmr,
            _ => &self.irr,
        };
        set.word(usize::from(register & 7))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BaseRules, Config};
    use super::*;

    fn now() -> Now {
        Now { ns: 0, tsc: 0 }
    }

    fn x2apic() -> LocalApic {
        let mut apic = LocalApic::new(Config { id: 0x21, x2apic: true, ..Config::default() });
        let rules = BaseRules { address_bits: 40, x2apic: true, host: false };
        let base = apic.base().raw() | 1 << 10;
        apic.write_base(base, rules).unwrap();
        apic
    }

    #[test]
    fn readable_in_each_mode() {
        const BOTH: [u8; 21] = [
            2, 3, 8, 0xa, 0xd, 0xf, 0x10, 0x17, 0x18, 0x20, 0x27, 0x28, 0x30, 0x32, 0x33, 0x34,
            0x35, 0x36, 0x37, 0x38, 0x39,
        ];
        let mut xapic = LocalApic::new(Config::default());
        let x2apic = x2apic();
        for register in 0..=0xffu8 {
            let both = BOTH.contains(&register)
                || (0x10..0x28).contains(&register)
                || register == spec::TDCR;
            let msr = x2apic.read_msr(0x800 + u32::from(register), now);
            assert_eq!(msr.is_ok(), both, "MSR {register:x}");
            let _ = xapic.read_mmio(u32::from(register) << 4, 4, now);
            let legal = both || [9, 0xb, 0xc, 0xe, 0x31].contains(&register);
            assert_eq!(xapic.errors == 0, legal, "offset {register:x}0");
            xapic.errors = 0;
        }
        assert!(xapic.read_msr(0x802, now).is_err());
    }

    #[test]
    fn ids_by_mode() {
        let mut apic = LocalApic::new(Config { id: 0x21, ..Config::default() });
        assert_eq!(apic.read_mmio(0x20, 4, now).0, 0x2100_0000);
        let apic = x2apic();
        assert_eq!(apic.read_msr(0x802, now), Ok(0x21));
        assert_eq!(apic.read_msr(0x80d, now), Ok(0x2_0002));
        assert!(!apic.has_mmio());
    }

    #[test]
    fn partial_reads() {
        let mut apic = LocalApic::new(Config { id: 0x21, ..Config::default() });
        assert_eq!(apic.read_mmio(0x23, 1, now).0 & 0xff, 0x21);
        assert_eq!(apic.read_mmio(0x22, 2, now).0 & 0xffff, 0x2100);
        assert_eq!(apic.read_mmio(0x22, 4, now).0, 0);
        assert_eq!(apic.read_mmio(0x24, u32::MAX, now).0, 0);
    }

    #[test]
    fn vector_registers() {
        let mut apic = LocalApic::new(Config::default());
        apic.irr.insert(0xff);
        apic.isr.insert(0x21);
        apic.tmr.insert(0x40);
        assert_eq!(apic.read_mmio(0x270, 4, now).0, 1 << 31);
        assert_eq!(apic.read_mmio(0x110, 4, now).0, 2);
        assert_eq!(apic.read_mmio(0x1a0, 4, now).0, 1);
        assert_eq!(apic.read_mmio(0x0a0, 4, now).0, 0x20);
    }
}
