// SPDX-License-Identifier: GPL-2.0
//! [`IoApic`]: the 82093AA with 24 pins.
//!
//! A level-triggered pin sends its message once and then waits for the EOI
//! (remote IRR); if its line is still asserted then, it sends again. The owner
//! delivers what is returned ([`Deliver`]) and reports back whom it reached
//! ([`IoApic::delivered`]); until then the pin counts as delivered.
//!
//! EOI has two steps, because those that wait for one (resampling irqfds, the
//! PIT) lower or raise lines themselves: [`IoApic::eoi_pins`] says which pins
//! the vector belongs to, the owner notifies the waiters of each, and then calls
//! [`IoApic::end_of_interrupt`].
//!
//! Files: `entry` redirection table, `registers` the MMIO window, `rtc`, `state`
//! the KVM_GET_IRQCHIP layout.

mod entry;
mod registers;
mod rtc;
mod state;

pub use entry::Entry;
pub use registers::WriteEffects;
pub use state::IoApicState;

use crate::line::{Line, LineStatus, Pins};
use crate::message::Message;
use crate::vectors::VectorSet;
use crate::VcpuIndex;
use rtc::RtcTracker;

/// Number of pins.
pub const PINS: usize = 24;

/// Guest physical address of the registers.
pub const DEFAULT_ADDRESS: u64 = 0xfec0_0000;

/// Length of the register window, in bytes.
pub const WINDOW_LENGTH: u64 = 0x100;

/// The pin that the real-time clock is wired to.
pub const RTC_PIN: u8 = 8;

/// How many times in a row an EOI may find its line asserted before the next
/// delivery is delayed: a guest that doesn't serve the device would otherwise
/// do nothing but take this interrupt.
const STORM_LIMIT: u16 = 10_000;

/// A message to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Deliver {
    /// The pin that sends.
    pub pin: u8,
    /// What it sends.
    pub message: Message,
    /// Report each vCPU that accepts to [`IoApic::rtc_accepted`].
    pub track_rtc: bool,
}

/// What a line change led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum LineOutcome {
    /// Nothing to deliver; the status is final.
    Done(LineStatus),
    /// Deliver this; the status is the number of vCPUs that accept.
    Deliver(Deliver),
}

/// What an EOI led to at one pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum EoiOutcome {
    /// Nothing.
    None,
    /// The line is still asserted: deliver again.
    Deliver(Deliver),
    /// An interrupt storm: serve [`IoApic::reinject_pins`] a little later (10 ms
    /// is what the guest's forward progress needs).
    Later,
}

/// The IOAPIC.
///
/// # Invariants
///
/// `select` and `id` are within their registers' widths (8 and 4 bits).
#[derive(Clone, Debug)]
pub struct IoApic {
    entries: [Entry; PINS],
    lines: [Line; PINS],
    /// Level pins whose line is asserted, edge pins with an edge since the line
    /// was last low.
    irr: u32,
    /// Edge pins of `irr` that have sent their message.
    irr_delivered: u32,
    select: u8,
    id: u8,
    base_address: u64,
    eoi_streak: [u16; PINS],
    rtc: RtcTracker,
}

impl Default for IoApic {
    fn default() -> Self {
        Self::new()
    }
}

const fn bit(pin: u8) -> u32 {
    1u32.wrapping_shl(pin as u32)
}

impl IoApic {
    /// An IOAPIC after reset.
    pub const fn new() -> Self {
        const LOW: Line = Line::LOW;
        Self {
            entries: [Entry::RESET; PINS],
            lines: [LOW; PINS],
            irr: 0,
            irr_delivered: 0,
            select: 0,
            id: 0,
            base_address: DEFAULT_ADDRESS,
            eoi_streak: [0; PINS],
            rtc: RtcTracker::new(),
        }
    }

    /// Guest physical address of the registers.
    pub const fn base_address(&self) -> u64 {
        self.base_address
    }

    /// A pin's redirection entry; `None` when there is no such pin.
    #[inline]
    pub fn entry(&self, pin: u8) -> Option<Entry> {
        self.entries.get(usize::from(pin)).copied()
    }

    /// Drives a pin's line for one source. `report` when the caller wants the
    /// status (`KVM_IRQ_LINE_STATUS`), which makes the RTC's pin count EOIs.
    #[inline]
    pub fn set_line(&mut self, pin: u8, source: u8, level: bool, report: bool) -> LineOutcome {
        match self.lines.get_mut(usize::from(pin)) {
            Some(line) => {
                let level = line.drive(source, level);
                self.set_level(pin, level, report)
            }
            None => LineOutcome::Done(LineStatus::Ignored),
        }
    }

    fn set_level(&mut self, pin: u8, level: bool, report: bool) -> LineOutcome {
        let Some(entry) = self.entry(pin) else {
            return LineOutcome::Done(LineStatus::Ignored);
        };
        let mask = bit(pin);
        if !level {
            self.irr &= !mask;
            return LineOutcome::Done(LineStatus::Taken);
        }
        if pin == RTC_PIN && report && self.rtc.is_pending() {
            return LineOutcome::Done(LineStatus::Coalesced);
        }
        let risen = self.irr & mask == 0;
        self.irr |= mask;
        if !entry.is_level() {
            self.irr_delivered &= !mask;
            if !risen {
                return LineOutcome::Done(LineStatus::Coalesced);
            }
        }
        match self.send(pin, report) {
            Some(deliver) => LineOutcome::Deliver(deliver),
            None => LineOutcome::Done(LineStatus::Ignored),
        }
    }

    /// Sends a pin's message unless it is masked or waits for an EOI. For
    /// [`WriteEffects::pending`] and [`IoApic::reinject_pins`].
    pub fn service(&mut self, pin: u8) -> Option<Deliver> {
        if self.irr & bit(pin) == 0 {
            return None;
        }
        self.send(pin, false)
    }

    #[inline]
    fn send(&mut self, pin: u8, report: bool) -> Option<Deliver> {
        let entry = self.entries.get_mut(usize::from(pin))?;
        if entry.is_masked() || entry.is_level() && entry.remote_irr() {
            return None;
        }
        if entry.is_level() {
            entry.set_remote_irr(true);
        } else {
            self.irr_delivered |= bit(pin);
        }
        Some(Deliver { pin, message: entry.message(), track_rtc: pin == RTC_PIN && report })
    }

    /// Reports how many vCPUs accepted a message. A level interrupt that nobody
    /// accepted doesn't wait for an EOI that can't come.
    #[inline]
    pub fn delivered(&mut self, deliver: &Deliver, accepted: u32) {
        if accepted == 0 {
            if let Some(entry) = self.entries.get_mut(usize::from(deliver.pin)) {
                entry.set_remote_irr(false);
            }
        }
    }

    /// A vCPU accepted the RTC's interrupt (see [`Deliver::track_rtc`]).
    pub fn rtc_accepted(&mut self, vcpu: VcpuIndex, vector: u8) {
        self.rtc.accepted(vcpu, vector);
    }

    /// First step of an EOI: the pins that `vector` belongs to.
    pub fn eoi_pins(&mut self, vcpu: VcpuIndex, vector: u8) -> Pins {
        self.rtc.ended(vcpu, vector);
        let pins = self
            .entries
            .iter()
            .zip(0..PINS as u32)
            .filter(|(entry, _)| entry.vector() == vector)
            .fold(0, |pins, (_, pin)| pins | 1u32.wrapping_shl(pin));
        Pins(pins)
    }

    /// Second step of a level-triggered interrupt's EOI, at one pin. Not for an
    /// EOI that is not broadcast ([`Eoi::broadcast`](crate::lapic::Eoi)).
    pub fn end_of_interrupt(&mut self, pin: u8) -> EoiOutcome {
        let index = usize::from(pin);
        let (Some(entry), Some(streak)) =
            (self.entries.get_mut(index), self.eoi_streak.get_mut(index))
        else {
            return EoiOutcome::None;
        };
        entry.set_remote_irr(false);
        if entry.is_masked() || !entry.is_level() || self.irr & bit(pin) == 0 {
            *streak = 0;
            return EoiOutcome::None;
        }
        *streak = streak.saturating_add(1);
        if *streak >= STORM_LIMIT {
            *streak = 0;
            return EoiOutcome::Later;
        }
        self.send(pin, false).map_or(EoiOutcome::None, EoiOutcome::Deliver)
    }

    /// Level pins that would send now: those that [`EoiOutcome::Later`] held
    /// back. Each goes to [`IoApic::service`].
    pub fn reinject_pins(&self) -> Pins {
        let ready = |entry: &Entry| entry.is_level() && !entry.remote_irr() && !entry.is_masked();
        let pins = self
            .entries
            .iter()
            .zip(0..PINS as u32)
            .filter(|(entry, _)| ready(entry))
            .fold(0, |pins, (_, pin)| pins | 1u32.wrapping_shl(pin));
        Pins(pins & self.irr)
    }

    /// Forgets a pin's pending level, because its resamplers were told to look
    /// for themselves (see [`WriteEffects::pending`]).
    pub fn clear_pending(&mut self, pin: u8) {
        self.irr &= !bit(pin);
    }

    /// The vectors whose EOI on `vcpu` has to be intercepted: of level-triggered
    /// pins, of pins that `has_notifier`, and the RTC's. `concerns` says whether
    /// a message is for the vCPU, or its vector still active there from an
    /// earlier routing.
    pub fn eoi_intercepts(
        &self,
        vcpu: VcpuIndex,
        mut has_notifier: impl FnMut(u8) -> bool,
        mut concerns: impl FnMut(&Message) -> bool,
    ) -> VectorSet {
        let mut vectors = VectorSet::EMPTY;
        if self.rtc.contains(vcpu) {
            vectors.insert(self.rtc.vector());
        }
        for (pin, entry) in (0..PINS as u8).zip(&self.entries) {
            let matters = entry.is_level() || pin == RTC_PIN || has_notifier(pin);
            if matters && concerns(&entry.message()) {
                vectors.insert(entry.vector());
            }
        }
        vectors
    }
}

#[cfg(test)]
mod tests;
