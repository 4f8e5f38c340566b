// SPDX-License-Identifier: GPL-2.0
//! [`Pic`]: the two 8259A of a PC, cascaded, with their ELCR.
//!
//! The second chip's output is wired to input 2 of the first. Every operation
//! ends by evaluating both outputs; [`Effects::raised`] reports the edge of the
//! INTR line, on which the owner kicks a vCPU that takes interrupts of the 8259
//! ([`LocalApic::accepts_pic`](crate::lapic::LocalApic::accepts_pic)). That vCPU
//! fetches the vector with [`Pic::acknowledge`].
//!
//! Intel 8259A data sheet; for the ELCR, Intel 82371SB (PIIX3), 2.5.4.

mod chip;
mod state;

pub use state::PicState;

use crate::line::{Line, LineStatus, Pins};
use chip::{Chip, Touched};

/// Number of interrupt inputs; input 2 is the cascade.
pub const PINS: usize = 16;

mod spec {
    pub(super) const CASCADE: u8 = 2;
    /// Inputs 0 to 2 are edge-triggered always.
    pub(super) const ELCR_MASK_FIRST: u8 = 0xf8;
    /// So are the RTC's (8) and the FPU's (13).
    pub(super) const ELCR_MASK_SECOND: u8 = 0xde;
    /// The input that a spurious interrupt appears to come from.
    pub(super) const SPURIOUS: u8 = 7;
    /// A poll found a request.
    pub(super) const POLL_REQUEST: u8 = 0x80;
}

/// What an operation asks of the owner. Bit `i` of a set is input `i`, 8 to 15
/// those of the second chip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Effects {
    /// The INTR output rose.
    pub raised: bool,
    /// Inputs whose interrupt ended: notify those that wait for it.
    pub ended: Pins,
    /// Inputs whose pending edge an initialisation forgot. Counts as ended for
    /// those that wait, if any vCPU takes interrupts of the 8259.
    pub dropped: Pins,
    /// Inputs whose mask bit changed; [`Pic::is_masked`] says to what.
    pub mask_changed: Pins,
}

impl Effects {
    /// Whether there is nothing to do.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        !self.raised && self.ended.0 | self.dropped.0 | self.mask_changed.0 == 0
    }
}

/// An access to one of the ports 0x20, 0x21, 0xa0, 0xa1, 0x4d0 and 0x4d1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Command port of a chip.
    Command(ChipId),
    /// Data port of a chip.
    Data(ChipId),
    /// Edge/level control register of a chip.
    Elcr(ChipId),
}

/// Which of the two chips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChipId {
    /// Inputs 0 to 7.
    First,
    /// Inputs 8 to 15.
    Second,
}

impl Port {
    /// The register at an I/O port; `None` when it isn't one of ours.
    pub const fn decode(port: u16) -> Option<Self> {
        match port {
            0x20 => Some(Self::Command(ChipId::First)),
            0x21 => Some(Self::Data(ChipId::First)),
            0xa0 => Some(Self::Command(ChipId::Second)),
            0xa1 => Some(Self::Data(ChipId::Second)),
            0x4d0 => Some(Self::Elcr(ChipId::First)),
            0x4d1 => Some(Self::Elcr(ChipId::Second)),
            _ => None,
        }
    }
}

/// The two chips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pic {
    first: Chip,
    second: Chip,
    lines: [Line; PINS],
    output: bool,
}

impl Default for Pic {
    fn default() -> Self {
        Self::new()
    }
}

impl Pic {
    /// Both chips after power-on.
    pub const fn new() -> Self {
        Self {
            first: Chip::new(spec::ELCR_MASK_FIRST, 1 << spec::CASCADE),
            second: Chip::new(spec::ELCR_MASK_SECOND, 0),
            lines: [Line::LOW; PINS],
            output: false,
        }
    }

    /// The INTR output: an interrupt waits.
    #[inline]
    pub const fn output(&self) -> bool {
        self.output
    }

    /// Whether input `pin` is masked.
    pub const fn is_masked(&self, pin: u8) -> bool {
        let chip = if pin < 8 { &self.first } else { &self.second };
        chip.imr & 1u8.wrapping_shl(pin as u32) != 0
    }

    fn chip_mut(&mut self, id: ChipId) -> &mut Chip {
        match id {
            ChipId::First => &mut self.first,
            ChipId::Second => &mut self.second,
        }
    }

    /// Drives an input for one source. Pins of 16 and above are ignored.
    pub fn set_line(&mut self, pin: u8, source: u8, level: bool) -> (LineStatus, Effects) {
        let Some(line) = self.lines.get_mut(usize::from(pin)) else {
            return (LineStatus::Ignored, Effects::default());
        };
        let level = line.drive(source, level);
        let id = if pin < 8 { ChipId::First } else { ChipId::Second };
        let fresh = self.chip_mut(id).set_input(pin & 7, level);
        let status = match (self.is_masked(pin), fresh) {
            (true, _) => LineStatus::Ignored,
            (false, true) => LineStatus::Taken,
            (false, false) => LineStatus::Coalesced,
        };
        (status, self.finish(Touched::default(), Touched::default()))
    }

    /// Evaluates the outputs after something changed.
    fn finish(&mut self, first: Touched, second: Touched) -> Effects {
        // The cascade is an edge-triggered input, and its edge stays latched
        // when the second chip's request goes away: that is where a spurious
        // interrupt of the second chip comes from.
        if self.second.request().is_some() {
            self.first.set_input(spec::CASCADE, true);
            self.first.set_input(spec::CASCADE, false);
        }
        let before = self.output;
        self.output = self.first.request().is_some();
        let join = |low: u8, high: u8| Pins(u32::from(low) | u32::from(high) << 8);
        Effects {
            raised: self.output && !before,
            ended: join(first.ended, second.ended),
            dropped: join(first.dropped, second.dropped),
            mask_changed: join(first.mask_changed, second.mask_changed),
        }
    }

    fn finish_one(&mut self, id: ChipId, touched: Touched) -> Effects {
        match id {
            ChipId::First => self.finish(touched, Touched::default()),
            ChipId::Second => self.finish(Touched::default(), touched),
        }
    }

    /// Acknowledges the interrupt (INTA) and returns its vector. Without a
    /// request it is the spurious one of the chip that should have had it.
    pub fn acknowledge(&mut self) -> (u8, Effects) {
        // The line drops with INTA, so that a request behind this one raises it
        // anew.
        self.output = false;
        let (mut first, mut second) = (Touched::default(), Touched::default());
        let vector = match self.first.request() {
            Some(spec::CASCADE) => {
                first = self.first.acknowledge(spec::CASCADE);
                let input = match self.second.request() {
                    Some(input) => {
                        second = self.second.acknowledge(input);
                        input
                    }
                    None => spec::SPURIOUS,
                };
                self.second.vector_base.wrapping_add(input)
            }
            Some(input) => {
                first = self.first.acknowledge(input);
                self.first.vector_base.wrapping_add(input)
            }
            None => self.first.vector_base.wrapping_add(spec::SPURIOUS),
        };
        (vector, self.finish(first, second))
    }

    /// Reads a port. A chip in poll mode acknowledges its request by that.
    pub fn read(&mut self, port: Port) -> (u8, Effects) {
        let (id, data) = match port {
            Port::Elcr(id) => return (self.chip_mut(id).elcr(), Effects::default()),
            Port::Command(id) => (id, false),
            Port::Data(id) => (id, true),
        };
        let chip = self.chip_mut(id);
        if !chip.take_poll() {
            return (chip.read(data), Effects::default());
        }
        let Some(input) = chip.request() else {
            return (spec::SPURIOUS, self.finish(Touched::default(), Touched::default()));
        };
        let touched = chip.acknowledge(input);
        let value = spec::POLL_REQUEST | input;
        if id == ChipId::Second {
            // The first chip isn't asked, so its latched cascade is stale.
            self.first.irr &= !(1 << spec::CASCADE);
        }
        (value, self.finish_one(id, touched))
    }

    /// Writes a port.
    pub fn write(&mut self, port: Port, value: u8) -> Effects {
        let (id, data) = match port {
            Port::Elcr(id) => {
                self.chip_mut(id).set_elcr(value);
                return Effects::default();
            }
            Port::Command(id) => (id, false),
            Port::Data(id) => (id, true),
        };
        let touched = self.chip_mut(id).write(data, value);
        self.finish_one(id, touched)
    }

    /// State of one chip.
    pub fn save(&self, id: ChipId) -> PicState {
        match id {
            ChipId::First => self.first.save(),
            ChipId::Second => self.second.save(),
        }
    }

    /// Takes the state of one chip; what sources drive on the lines stays.
    pub fn load(&mut self, id: ChipId, state: &PicState) -> Effects {
        self.chip_mut(id).load(state);
        self.finish(Touched::default(), Touched::default())
    }
}

#[cfg(test)]
mod tests;
