// SPDX-License-Identifier: GPL-2.0
//! The register window: index and data (82093AA data sheet, 3.1 and 3.2).

use super::{bit, IoApic, PINS};

mod spec {
    pub(super) const SELECT: u64 = 0x00;
    pub(super) const WINDOW: u64 = 0x10;
    pub(super) const ID: u8 = 0;
    pub(super) const VERSION: u8 = 1;
    pub(super) const ARBITRATION: u8 = 2;
    pub(super) const TABLE: u8 = 0x10;
    pub(super) const LAST_PIN: u32 = super::PINS as u32 - 1;
    /// Without the EOI register that version 0x20 has.
    pub(super) const VERSION_NUMBER: u32 = 0x11;
}

/// What a register write asks of the owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct WriteEffects {
    /// This pin was masked (true) or unmasked.
    pub mask_changed: Option<(u8, bool)>,
    /// A pin sends another message from now on: every vCPU's
    /// [`IoApic::eoi_intercepts`] may have changed.
    pub rescan: bool,
    /// This level pin can send again, and its line was last seen asserted. That
    /// may be outdated (it was masked, and a device that lowers its line in
    /// answer to an EOI hasn't heard of one). If its resamplers can be asked,
    /// the owner asks and calls [`IoApic::clear_pending`]; if it has none,
    /// [`IoApic::service`].
    pub pending: Option<u8>,
}

impl IoApic {
    /// Reads the register at `offset` of the window. Narrower reads take the low
    /// bytes, wider ones are extended by zeros.
    pub fn read(&self, offset: u64) -> u32 {
        match offset & 0xff {
            spec::SELECT => u32::from(self.select),
            spec::WINDOW => self.read_selected(),
            _ => 0,
        }
    }

    fn read_selected(&self) -> u32 {
        match self.select {
            spec::ID | spec::ARBITRATION => u32::from(self.id) << 24,
            spec::VERSION => spec::LAST_PIN << 16 | spec::VERSION_NUMBER,
            select => match self.entry(select.wrapping_sub(spec::TABLE) >> 1) {
                Some(entry) if select & 1 != 0 => (entry.bits() >> 32) as u32,
                Some(entry) => entry.bits() as u32,
                None => u32::MAX,
            },
        }
    }

    /// Writes the register at `offset` of the window; narrower values are
    /// extended by zeros.
    pub fn write(&mut self, offset: u64, value: u32) -> WriteEffects {
        match offset & 0xff {
            spec::SELECT => {
                self.select = value as u8;
                WriteEffects::default()
            }
            spec::WINDOW => self.write_selected(value),
            _ => WriteEffects::default(),
        }
    }

    fn write_selected(&mut self, value: u32) -> WriteEffects {
        match self.select {
            spec::ID => {
                self.id = (value >> 24 & 0xf) as u8;
                WriteEffects::default()
            }
            spec::VERSION | spec::ARBITRATION => WriteEffects::default(),
            select => self.write_entry(select, value),
        }
    }

    fn write_entry(&mut self, select: u8, value: u32) -> WriteEffects {
        let pin = select.wrapping_sub(spec::TABLE) >> 1;
        let Some(entry) = self.entries.get_mut(usize::from(pin)) else {
            return WriteEffects::default();
        };
        let old = *entry;
        let new = old.with_half(select & 1 != 0, value);
        *entry = new;
        let asserted = self.irr & bit(pin) != 0;
        let sendable = new.is_level() && !new.is_masked() && !new.remote_irr();
        WriteEffects {
            mask_changed: (old.is_masked() != new.is_masked()).then(|| (pin, new.is_masked())),
            rescan: !old.routes_like(new),
            pending: (sendable && asserted).then_some(pin),
        }
    }
}
