// SPDX-License-Identifier: GPL-2.0
//! The register image of KVM_GET_LAPIC and KVM_SET_LAPIC.
//!
//! The first 1 KiB of the register page: a 32-bit register every 16 bytes,
//! little-endian. In x2APIC mode the image keeps the xAPIC's layout (the ICR in
//! two halves, the ID in bits 31:24 unless the VM uses 32-bit IDs).

use super::{spec, Changed, LocalApic, Lvt, Mode, Now};
use crate::vectors::{VectorSet, WORDS};

/// Bytes of the image.
pub const STATE_SIZE: usize = 1024;

/// Why an image is refused: `EINVAL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// The ID of an x2APIC can't be changed.
    Id,
}

/// Reads a register out of an image.
fn get(image: &[u8; STATE_SIZE], register: u8) -> u32 {
    let start = usize::from(register) << 4;
    image
        .get(start..)
        .and_then(|bytes| bytes.first_chunk::<4>())
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Writes a register into an image.
fn put(image: &mut [u8; STATE_SIZE], register: u8, value: u32) {
    let start = usize::from(register) << 4;
    if let Some(bytes) = image.get_mut(start..).and_then(|bytes| bytes.first_chunk_mut::<4>()) {
        *bytes = value.to_le_bytes();
    }
}

/// Register `first + index` for each word of a vector set.
fn vector_registers(first: u8) -> impl Iterator<Item = (usize, u8)> {
    (0..WORDS).map(move |index| (index, first.wrapping_add(index as u8)))
}

fn get_vectors(image: &[u8; STATE_SIZE], first: u8) -> VectorSet {
    let mut set = VectorSet::EMPTY;
    for (index, register) in vector_registers(first) {
        set.set_word(index, get(image, register));
    }
    set
}

fn put_vectors(image: &mut [u8; STATE_SIZE], first: u8, set: &VectorSet) {
    for (index, register) in vector_registers(first) {
        put(image, register, set.word(index));
    }
}

/// The register number of an LVT entry.
const fn lvt_register(entry: Lvt) -> u8 {
    match entry {
        Lvt::Timer => spec::LVT_TIMER,
        Lvt::Thermal => 0x33,
        Lvt::Performance => 0x34,
        Lvt::Lint0 => 0x35,
        Lvt::Lint1 => 0x36,
        Lvt::Error => spec::LVT_ERROR,
        Lvt::Cmci => spec::LVT_CMCI,
    }
}

impl LocalApic {
    /// Writes the registers to `image`, which is zero. The owner has harvested the
    /// inbox.
    pub fn save(&self, image: &mut [u8; STATE_SIZE], now: Now) {
        let id = match self.mode() {
            Mode::X2Apic if !self.config.wide_ids => self.config.id << 24,
            _ => self.id_register(),
        };
        for (register, value) in [
            (spec::ID, id),
            (spec::VERSION, self.version()),
            (spec::TPR, u32::from(self.tpr)),
            (spec::PPR, u32::from(self.ppr())),
            (spec::LDR, self.ldr_register()),
            (spec::DFR, self.dfr),
            (spec::SVR, self.svr),
            (spec::ESR, self.esr),
            (spec::ICR, self.icr as u32),
            (spec::ICR2, (self.icr >> 32) as u32),
            (spec::TMICT, self.timer.initial()),
            (spec::TMCCT, self.timer.current(now.ns)),
            (spec::TDCR, self.tdcr),
        ] {
            put(image, register, value);
        }
        for entry in Lvt::ALL {
            if self.has_lvt(entry) {
                put(image, lvt_register(entry), self.lvt(entry));
            }
        }
        put_vectors(image, spec::ISR, &self.isr);
        put_vectors(image, spec::TMR, &self.tmr);
        put_vectors(image, spec::IRR, &self.irr);
    }

    /// Takes the registers from `image`; the mode is the base MSR's. The timer
    /// goes on at the image's current count. The owner has discarded vectors
    /// that waited in the inbox.
    ///
    /// # Errors
    ///
    /// [`StateError::Id`] in x2APIC mode, when the VM uses 32-bit IDs and the
    /// image has another one. (With 8-bit IDs the image's is ignored.)
    pub fn load(&mut self, image: &[u8; STATE_SIZE], now: Now) -> Result<Changed, StateError> {
        let id = get(image, spec::ID);
        if self.mode() == Mode::X2Apic {
            if self.config.wide_ids && id != self.config.id {
                return Err(StateError::Id);
            }
        } else {
            self.xapic_id = (id >> 24) as u8;
            self.ldr = get(image, spec::LDR) & spec::LDR_WRITABLE;
        }
        self.tpr = get(image, spec::TPR) as u8;
        self.dfr = get(image, spec::DFR) | spec::DFR_FIXED;
        self.svr = get(image, spec::SVR) & (spec::SVR_WRITABLE | spec::SVR_DIRECTED_EOI);
        self.esr = get(image, spec::ESR);
        self.errors = 0;
        self.icr = (u64::from(get(image, spec::ICR2)) << 32 | u64::from(get(image, spec::ICR)))
            & !spec::ICR_BUSY;
        self.isr = get_vectors(image, spec::ISR);
        self.tmr = get_vectors(image, spec::TMR);
        self.irr = get_vectors(image, spec::IRR);
        for entry in Lvt::ALL {
            if self.has_lvt(entry) {
                let value = get(image, lvt_register(entry)) & self.lvt_writable(entry);
                self.set_lvt(entry, value);
            }
        }
        self.tdcr = get(image, spec::TDCR) & 0xb;
        self.timer.set_divide(self.tdcr, now);
        self.timer.set_lvt(self.lvt(Lvt::Timer), now);
        self.timer.restore(get(image, spec::TMICT), get(image, spec::TMCCT), now.ns);
        Ok(Changed::IDENTITY
            | Changed::TIMER
            | Changed::LINT0
            | Changed::RECHECK
            | Changed::ENABLED)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BaseRules, Config, Expiry};
    use super::*;
    use proptest::prelude::*;

    const NOW: Now = Now { ns: 1_000, tsc: 0 };

    fn x2apic(config: Config) -> LocalApic {
        let mut apic = LocalApic::new(Config { x2apic: true, ..config });
        let rules = BaseRules { address_bits: 40, x2apic: true, host: true };
        let base = apic.base().raw() | 1 << 10;
        apic.write_base(base, rules).unwrap();
        apic
    }

    #[test]
    fn x2apic_ids() {
        let mut apic = x2apic(Config { id: 2, ..Config::default() });
        let mut image = [0; STATE_SIZE];
        apic.save(&mut image, NOW);
        assert_eq!(get(&image, spec::ID), 2 << 24);
        assert_eq!(get(&image, spec::LDR), 4);
        put(&mut image, spec::ID, 9 << 24);
        assert!(apic.load(&image, NOW).is_ok());
        assert_eq!(apic.id_register(), 2);

        let mut apic = x2apic(Config { id: 2, wide_ids: true, ..Config::default() });
        apic.save(&mut image, NOW);
        assert_eq!(get(&image, spec::ID), 2);
        put(&mut image, spec::ID, 3);
        assert_eq!(apic.load(&image, NOW), Err(StateError::Id));
    }

    #[test]
    fn x2apic_icr_is_split_in_the_image() {
        let mut apic = x2apic(Config::default());
        let _ = apic.write_icr(0xdead_beef_0000_40fe).unwrap();
        let mut image = [0; STATE_SIZE];
        apic.save(&mut image, NOW);
        assert_eq!(get(&image, spec::ICR), 0x40fe);
        assert_eq!(get(&image, spec::ICR2), 0xdead_beef);
        let mut other = x2apic(Config::default());
        other.load(&image, NOW).unwrap();
        assert_eq!(other.read_msr(0x830, || NOW), Ok(0xdead_beef_0000_40fe));
    }

    #[test]
    fn lint0_of_a_fresh_bsp_survives() {
        let config = Config { bsp: true, lint0_extint: true, ..Config::default() };
        let apic = LocalApic::new(config);
        let mut image = [0; STATE_SIZE];
        apic.save(&mut image, NOW);
        let mut other = LocalApic::new(Config::default());
        other.load(&image, NOW).unwrap();
        assert!(other.accepts_pic());
    }

    #[test]
    fn the_timer_goes_on() {
        let mut apic = LocalApic::new(Config::default());
        for (offset, value) in [(0xf0, 0x1ff), (0x3e0, 0xb), (0x320, 0x2_0030), (0x380, 1 << 20)] {
            let _ = apic.write_mmio(offset, value, || NOW);
        }
        let mut image = [0; STATE_SIZE];
        apic.save(&mut image, Now { ns: 1_000 + 1_000_000, tsc: 0 });
        let mut other = LocalApic::new(Config::default());
        other.load(&image, Now { ns: 50_000_000, tsc: 0 }).unwrap();
        let left = (1 << 20) - 1_000_000;
        assert_eq!(other.timer().expiry(), Expiry::Monotonic(50_000_000 + left));
    }

    proptest! {
        /// Any image loads without panic, and what is saved of it loads to the
        /// same registers again.
        #[test]
        fn round_trip(words in prop::collection::vec(any::<u32>(), 64), id in any::<u32>()) {
            let mut image = [0; STATE_SIZE];
            for (register, word) in words.iter().enumerate() {
                put(&mut image, register as u8, *word);
            }
            let config = Config { id, cmci: true, tsc_deadline: true, ..Config::default() };
            for mut apic in [LocalApic::new(config), x2apic(config)] {
                apic.load(&image, NOW).unwrap();
                let (mut first, mut second) = ([0; STATE_SIZE], [0; STATE_SIZE]);
                apic.save(&mut first, NOW);
                let mut other = apic.clone();
                other.load(&first, NOW).unwrap();
                other.save(&mut second, NOW);
                prop_assert_eq!(first, second);
                for register in [spec::ISR, spec::IRR, spec::TMR, spec::ICR2, spec::TMICT] {
                    prop_assert_eq!(get(&first, register), get(&image, register));
                }
            }
        }
    }
}
