// SPDX-License-Identifier: GPL-2.0
//! `struct kvm_ioapic_state` of KVM_GET_IRQCHIP and KVM_SET_IRQCHIP.

use super::{Entry, IoApic, LineOutcome, RtcTracker, PINS, RTC_PIN};
use crate::line::Pins;
use crate::message::Message;

/// The ABI's structure, 216 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct IoApicState {
    /// Guest physical address of the registers.
    pub base_address: u64,
    /// Index register.
    pub ioregsel: u32,
    /// ID, 4 bits.
    pub id: u32,
    /// Pins that wait to send.
    pub irr: u32,
    /// Zero.
    pub pad: u32,
    /// Redirection table.
    pub redirtbl: [u64; PINS],
}

const _: () = assert!(core::mem::size_of::<IoApicState>() == 216);

impl IoApic {
    /// The state. Edges that were sent don't count as waiting.
    pub fn save(&self) -> IoApicState {
        IoApicState {
            base_address: self.base_address,
            ioregsel: u32::from(self.select),
            id: u32::from(self.id),
            irr: self.irr & !self.irr_delivered,
            pad: 0,
            redirtbl: self.entries.map(Entry::bits),
        }
    }

    /// Takes a state. Returns the pins that wait to send: the owner calls
    /// [`IoApic::resume_pin`] for each, then tells which vCPUs still have the
    /// RTC's interrupt (see [`IoApic::rtc_message`]), and computes every vCPU's
    /// EOI intercepts. What sources drive on the lines stays.
    pub fn load(&mut self, state: &IoApicState) -> Pins {
        self.base_address = state.base_address;
        self.select = state.ioregsel as u8;
        self.id = (state.id & 0xf) as u8;
        self.entries = state.redirtbl.map(Entry::from_bits);
        self.irr = 0;
        self.irr_delivered = 0;
        self.eoi_streak = [0; PINS];
        self.rtc = RtcTracker::new();
        Pins(state.irr & ((1 << PINS) - 1))
    }

    /// A pin that waited to send in a state just loaded.
    pub fn resume_pin(&mut self, pin: u8) -> LineOutcome {
        self.set_level(pin, true, true)
    }

    /// What the RTC's pin sends. A vCPU that this is for, and that has the
    /// vector requested or in service, goes to [`IoApic::rtc_accepted`] after a
    /// state was loaded (its IOAPIC part or the local APIC's).
    pub fn rtc_message(&self) -> Option<Message> {
        self.entry(RTC_PIN).map(Entry::message)
    }

    /// Forgets the RTC's interrupts, before they are told anew.
    pub fn rtc_forget(&mut self) {
        self.rtc = RtcTracker::new();
    }

    /// Back to the values after power-on; line levels stay.
    pub fn reset(&mut self) {
        *self = Self { lines: self.lines, ..Self::new() };
    }
}
