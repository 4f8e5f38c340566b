// SPDX-License-Identifier: GPL-2.0
//! The local APIC of one vCPU (SDM vol. 3, chapter 12).
//!
//! | type | is | used by |
//! | --- | --- | --- |
//! | [`LocalApic`] | the registers | the vCPU's thread |
//! | [`Inbox`] | what others send | everyone, lock-free |
//! | [`Identity`] | how it is addressed | everyone, a copy |
//!
//! A sender looks a message's targets up in the [`map`](crate::map), asks the
//! target's identity what it accepts the message as ([`Identity::accept`]) and
//! posts that to the target's inbox. The target harvests its inbox before it
//! enters the guest, and before it answers a read of the request registers.
//! A vCPU's own IPIs go the same way.
//!
//! One entry of the guest, as the owner sees it:
//!
//! 1. [`LocalApic::harvest`]: merges the inbox; events come back.
//! 2. [`LocalApic::timer_expired`] if the events have `TIMER`.
//! 3. [`LocalApic::pending`] says what vector could be taken; when the guest
//!    can take it, [`LocalApic::ack`] moves it to the ISR.
//! 4. [`PvEoi::enter`] if the guest has set that up.
//!
//! Files: `base` MSR and modes, `identity` addressing, `inbox` posting,
//! `deliver` the priority logic, `read` and `write` registers, `timer`,
//! `reset`, `state` the KVM_GET_LAPIC image, `pv_eoi`.

mod base;
mod deliver;
mod identity;
mod inbox;
mod pv_eoi;
mod read;
mod reset;
mod spec;
mod state;
mod timer;
mod write;

pub use base::{ApicBase, BaseRules, InvalidBase, Mode, DEFAULT_ADDRESS};
pub use deliver::{Eoi, LocalEvent};
pub use identity::{
    x2apic_ldr, Acceptance, DestRules, Identity, LogicalModel, Source, BROADCAST, BROADCAST_X2APIC,
};
pub use inbox::{Events, Harvest, Inbox, Posted};
pub use pv_eoi::{PvEoi, PvEoiExit};
pub use reset::Reset;
pub use state::{StateError, STATE_SIZE};
pub use timer::{Expiry, Now, Timer, TimerConfig, TimerMode};
pub use write::{Changed, Effects, Event};

use crate::vectors::VectorSet;

/// An x2APIC MSR access that is not allowed: the guest takes #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralProtection;

/// Support for suppressing EOI broadcasts (SDM vol. 3, 12.8.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectedEoi {
    /// Not offered. Right with an IOAPIC of version 0x11, which has no EOI
    /// register.
    #[default]
    Absent,
    /// Offered and taken, but EOIs are broadcast all the same: what split
    /// irqchip VMs have always got unless they ask for either of the others.
    Ignored,
    /// Offered and obeyed.
    Obeyed,
}

/// What doesn't change while the guest runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The vCPU's ID, which is the x2APIC ID and, cut to 8 bits, the xAPIC ID
    /// after reset.
    pub id: u32,
    /// This vCPU is the bootstrap processor after reset.
    pub bsp: bool,
    /// LINT0 of the bootstrap processor comes out of reset unmasked in ExtINT
    /// mode (`KVM_X86_QUIRK_LINT0_REENABLED`).
    pub lint0_extint: bool,
    /// CPUID offers x2APIC mode.
    pub x2apic: bool,
    /// CPUID offers the TSC-deadline timer.
    pub tsc_deadline: bool,
    /// The corrected machine check entry of the LVT exists.
    pub cmci: bool,
    /// Delivering a performance-monitoring interrupt masks its LVT entry, as on
    /// Intel's processors.
    pub mask_pmi: bool,
    /// Suppression of EOI broadcasts.
    pub directed_eoi: DirectedEoi,
    /// The state image holds 32-bit IDs (`KVM_X2APIC_API_USE_32BIT_IDS`).
    pub wide_ids: bool,
    /// The timer's clock.
    pub timer: TimerConfig,
}

/// Entries of the local vector table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Lvt {
    /// The APIC's timer.
    Timer = 0,
    /// Thermal sensor.
    Thermal = 1,
    /// Performance-monitoring counter overflow.
    Performance = 2,
    /// Pin LINT0, where the 8259 or the NMI watchdog is.
    Lint0 = 3,
    /// Pin LINT1, where NMI is.
    Lint1 = 4,
    /// Errors that the APIC finds itself.
    Error = 5,
    /// Corrected machine checks.
    Cmci = 6,
}

impl Lvt {
    const ALL: [Self; 7] = [
        Self::Timer,
        Self::Thermal,
        Self::Performance,
        Self::Lint0,
        Self::Lint1,
        Self::Error,
        Self::Cmci,
    ];

    /// The entry that a register number (see `spec`) names.
    const fn from_register(register: u8) -> Option<Self> {
        match register {
            0x32 => Some(Self::Timer),
            0x33 => Some(Self::Thermal),
            0x34 => Some(Self::Performance),
            0x35 => Some(Self::Lint0),
            0x36 => Some(Self::Lint1),
            0x37 => Some(Self::Error),
            spec::LVT_CMCI => Some(Self::Cmci),
            _ => None,
        }
    }
}

/// The registers of a local APIC, for the vCPU's own thread.
///
/// # Invariants
///
/// `timer` was given the same timer entry and divisor as the registers hold.
#[derive(Clone, Debug)]
pub struct LocalApic {
    irr: VectorSet,
    isr: VectorSet,
    tpr: u8,
    base: ApicBase,
    svr: u32,
    tmr: VectorSet,
    /// Vectors whose EOI the IOAPIC (or the VMM that has one) waits for.
    eoi_intercepts: VectorSet,
    timer: Timer,
    config: Config,
    xapic_id: u8,
    ldr: u32,
    dfr: u32,
    esr: u32,
    /// Errors since the last write of the ESR.
    errors: u32,
    icr: u64,
    tdcr: u32,
    lvt: [u32; 7],
}

impl LocalApic {
    /// An APIC after power-on.
    pub fn new(config: Config) -> Self {
        let mut apic = Self {
            irr: VectorSet::EMPTY,
            isr: VectorSet::EMPTY,
            tpr: 0,
            base: ApicBase::reset(config.bsp),
            svr: 0,
            tmr: VectorSet::EMPTY,
            eoi_intercepts: VectorSet::EMPTY,
            timer: Timer::new(config.timer),
            config,
            xapic_id: 0,
            ldr: 0,
            dfr: 0,
            esr: 0,
            errors: 0,
            icr: 0,
            tdcr: 0,
            lvt: [spec::LVT_MASKED; 7],
        };
        // The effects of a first reset are those of creating a vCPU.
        let _ = apic.reset(Reset::PowerOn);
        apic
    }

    /// The configuration.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Replaces the configuration (CPUID or capabilities were set). An LVT
    /// entry that appears is masked; a timer that runs goes on.
    #[must_use = "the identity may have changed"]
    pub fn set_config(&mut self, config: Config) -> Changed {
        if config.cmci && !self.config.cmci {
            self.set_lvt(Lvt::Cmci, spec::LVT_MASKED);
        }
        self.timer.set_config(config.timer);
        self.config = config;
        Changed::IDENTITY
    }

    /// The base MSR.
    #[inline]
    pub const fn base(&self) -> ApicBase {
        self.base
    }

    /// The mode, from the base MSR.
    #[inline]
    pub const fn mode(&self) -> Mode {
        self.base.mode()
    }

    /// Whether the guest has set the APIC's software enable bit.
    #[inline]
    pub const fn software_enabled(&self) -> bool {
        self.svr & spec::SVR_ENABLE != 0
    }

    /// The timer, for when it wants to go off next ([`Timer::expiry`]).
    #[inline]
    pub const fn timer(&self) -> &Timer {
        &self.timer
    }

    /// What others must know to address this APIC.
    pub const fn identity(&self) -> Identity {
        let mode = self.mode();
        Identity {
            mode,
            enabled: self.software_enabled(),
            model: LogicalModel::from_dfr(self.dfr),
            xapic_id: self.xapic_id,
            x2apic_id: self.config.id,
            logical_id: match mode {
                Mode::X2Apic => x2apic_ldr(self.config.id),
                _ => self.ldr >> 24,
            },
        }
    }

    /// Writes the base MSR.
    ///
    /// # Errors
    ///
    /// As [`ApicBase::write`].
    pub fn write_base(&mut self, value: u64, rules: BaseRules) -> Result<Changed, InvalidBase> {
        let new = self.base.write(value, rules)?;
        let (from, to) = (self.mode(), new.mode());
        self.base = new;
        if from == to {
            return Ok(Changed::empty());
        }
        match to {
            // Enabling gives the xAPIC back its initial ID.
            Mode::XApic => self.xapic_id = self.config.id as u8,
            Mode::X2Apic | Mode::Disabled => {}
        }
        if from == Mode::X2Apic {
            self.ldr = 0;
        }
        let enabled = if from == Mode::Disabled { Changed::ENABLED } else { Changed::empty() };
        Ok(Changed::IDENTITY | Changed::RECHECK | enabled)
    }

    /// An entry of the local vector table.
    #[inline]
    pub fn lvt(&self, entry: Lvt) -> u32 {
        self.lvt.get(entry as usize).copied().unwrap_or(spec::LVT_MASKED)
    }

    fn set_lvt(&mut self, entry: Lvt, value: u32) {
        if let Some(slot) = self.lvt.get_mut(entry as usize) {
            *slot = value;
        }
    }

    /// Whether an LVT entry exists.
    const fn has_lvt(&self, entry: Lvt) -> bool {
        !matches!(entry, Lvt::Cmci) || self.config.cmci
    }

    /// The version register.
    const fn version(&self) -> u32 {
        let highest_lvt = if self.config.cmci { 6 } else { 5 };
        let directed =
            self.config.x2apic && !matches!(self.config.directed_eoi, DirectedEoi::Absent);
        spec::VERSION_NUMBER
            | highest_lvt << 16
            | if directed { spec::VERSION_DIRECTED_EOI } else { 0 }
    }

    /// Whether the IOAPICs hear of EOIs: not when the guest uses directed EOI.
    const fn broadcasts_eoi(&self) -> bool {
        !(matches!(self.config.directed_eoi, DirectedEoi::Obeyed)
            && self.svr & spec::SVR_DIRECTED_EOI != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_register() {
        let apic = LocalApic::new(Config::default());
        assert_eq!(apic.version(), 0x5_0014);
        let config = Config {
            cmci: true,
            x2apic: true,
            directed_eoi: DirectedEoi::Obeyed,
            ..Config::default()
        };
        assert_eq!(LocalApic::new(config).version(), 0x106_0014);
    }

    #[test]
    fn modes_and_identity() {
        let rules = BaseRules { address_bits: 40, x2apic: true, host: false };
        let mut apic = LocalApic::new(Config { id: 0x123, x2apic: true, ..Config::default() });
        assert_eq!((apic.identity().xapic_id, apic.identity().mode), (0x23, Mode::XApic));
        let base = apic.base().raw();
        let changed = apic.write_base(base | 1 << 10, rules).unwrap();
        assert!(changed.contains(Changed::IDENTITY));
        assert_eq!(apic.identity().logical_id, 0x12_0008);
        assert_eq!(apic.write_base(base, rules), Err(InvalidBase));
        assert!(apic.write_base(base & !(1 << 11), rules).is_ok());
        assert_eq!(apic.mode(), Mode::Disabled);
        let changed = apic.write_base(base, rules).unwrap();
        assert!(changed.contains(Changed::ENABLED));
        assert_eq!(apic.write_base(base, rules), Ok(Changed::empty()));
    }
}
