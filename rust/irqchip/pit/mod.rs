// SPDX-License-Identifier: GPL-2.0
//! [`Pit`]: the 8254 with the PC's port 0x61.
//!
//! Channel 0 interrupts on input 0 of the interrupt controllers, channel 2 has a
//! gate and drives the speaker. Time is the owner's monotonic clock in ns. The
//! owner keeps a host timer at [`Pit::expiry`], calls [`Pit::tick`] when it goes
//! off, and pulses the line when told to.
//!
//! Ticks that the guest couldn't take in time are injected again, one after each
//! acknowledgement ([`Pit::acked`]), so that a guest that counts ticks keeps the
//! time. `KVM_REINJECT_CONTROL` turns that off.
//!
//! Files: `channel` a counter, `clock` ns and ticks, `state` the ABI's layout.

mod channel;
mod clock;
mod state;

pub use clock::FREQUENCY;
pub use state::{ChannelState, PitState, FLAG_HPET_LEGACY, FLAG_SPEAKER_DATA};

use channel::Channel;

mod spec {
    /// Port offset of the control word.
    pub(super) const CONTROL: u8 = 3;
    pub(super) const READ_BACK: u8 = 3;
    pub(super) const READ_BACK_NO_COUNT: u8 = 1 << 5;
    pub(super) const READ_BACK_NO_STATUS: u8 = 1 << 4;
    pub(super) const SPEAKER_GATE: u8 = 1 << 0;
    pub(super) const SPEAKER_DATA: u8 = 1 << 1;
    /// Toggles with each memory refresh, about every 15 us; 2^14 ns here.
    pub(super) const REFRESH_SHIFT: u32 = 14;
}

/// Ticks that can wait for re-injection; the rest are lost.
const MAX_PENDING: u64 = i32::MAX as u64;

/// What an operation asks of the owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Effects {
    /// Program the host timer to [`Pit::expiry`].
    pub timer: bool,
    /// Pulse input 0 (and deliver NMIs where LINT0 asks for that).
    pub inject: bool,
}

/// Re-injection of missed ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reinject {
    enabled: bool,
    /// Ticks not acknowledged yet.
    pending: u64,
    /// The guest has acknowledged the last one injected.
    acked: bool,
}

impl Reinject {
    /// Forgets what is missed.
    fn restart(&mut self) {
        self.pending = 0;
        self.acked = true;
    }
}

/// The timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pit {
    channels: [Channel; 3],
    speaker_data: bool,
    hpet_legacy: bool,
    reinject: Reinject,
    /// Edges of channel 0 that were handled since it was loaded.
    edges_done: u64,
    /// Shortest distance between two ticks, ns.
    min_period_ns: u64,
}

impl Pit {
    /// A timer after power-on. Ticks come no closer than `min_period_ns`: a
    /// guest must not keep the host busy with them.
    pub const fn new(min_period_ns: u64) -> Self {
        Self {
            channels: [Channel::new(true), Channel::new(true), Channel::new(false)],
            speaker_data: false,
            hpet_legacy: false,
            reinject: Reinject { enabled: true, pending: 0, acked: true },
            edges_done: 0,
            min_period_ns,
        }
    }

    fn first(&self) -> &Channel {
        let [first, _, _] = &self.channels;
        first
    }

    fn speaker(&mut self) -> &mut Channel {
        let [_, _, third] = &mut self.channels;
        third
    }

    /// Reads port 0x40 + `offset`. The control port reads zero. `now` is asked for a count that
    /// isn't latched.
    pub fn read(&mut self, offset: u8, now: impl FnOnce() -> u64) -> u8 {
        self.channels.get_mut(usize::from(offset & 3)).map_or(0, |channel| channel.read(now))
    }

    /// Writes port 0x40 + `offset`.
    pub fn write(&mut self, offset: u8, value: u8, now: u64) -> Effects {
        let offset = offset & 3;
        if offset == spec::CONTROL {
            return self.write_control(value, now);
        }
        let Some(channel) = self.channels.get_mut(usize::from(offset)) else {
            return Effects::default();
        };
        if channel.write(value, now) && offset == 0 {
            self.rearm()
        } else {
            Effects::default()
        }
    }

    fn write_control(&mut self, word: u8, now: u64) -> Effects {
        let select = word >> 6;
        if select == spec::READ_BACK {
            self.read_back(word, now);
            return Effects::default();
        }
        let Some(channel) = self.channels.get_mut(usize::from(select)) else {
            return Effects::default();
        };
        if word >> 4 & 3 == 0 {
            channel.latch_count(now);
            return Effects::default();
        }
        channel.set_control(word);
        if select == 0 {
            self.rearm()
        } else {
            Effects::default()
        }
    }

    fn read_back(&mut self, word: u8, now: u64) {
        for (channel, select) in self.channels.iter_mut().zip([2u8, 4, 8]) {
            if word & select == 0 {
                continue;
            }
            if word & spec::READ_BACK_NO_COUNT == 0 {
                channel.latch_count(now);
            }
            if word & spec::READ_BACK_NO_STATUS == 0 {
                channel.latch_status(now);
            }
        }
    }

    /// Channel 0 has started or stopped.
    fn rearm(&mut self) -> Effects {
        self.edges_done = 0;
        self.reinject.restart();
        Effects { timer: true, inject: false }
    }

    /// When the host timer is to go off: a reading of the clock in ns.
    pub fn expiry(&self) -> Option<u64> {
        if self.hpet_legacy {
            return None;
        }
        self.first().edges()?.time(self.edges_done, self.min_period_ns)
    }

    /// The host timer went off. [`Pit::expiry`] is the next time to program.
    pub fn tick(&mut self, now: u64) -> Effects {
        let passed = match self.first().edges() {
            Some(edges) if !self.hpet_legacy => edges.passed(now, self.min_period_ns),
            _ => 0,
        };
        let fresh = passed.saturating_sub(self.edges_done);
        if fresh == 0 {
            return Effects { timer: true, inject: false };
        }
        self.edges_done = passed;
        let inject = if self.reinject.enabled {
            self.reinject.pending = self.reinject.pending.saturating_add(fresh).min(MAX_PENDING);
            core::mem::take(&mut self.reinject.acked)
        } else {
            true
        };
        Effects { timer: true, inject }
    }

    /// The guest ended the interrupt of input 0 (at either controller).
    pub fn acked(&mut self) -> Effects {
        if !self.reinject.enabled {
            return Effects::default();
        }
        self.reinject.acked = true;
        self.reinject.pending = self.reinject.pending.saturating_sub(1);
        let inject = self.reinject.pending != 0;
        if inject {
            self.reinject.acked = false;
        }
        Effects { timer: false, inject }
    }

    /// Input 0 was unmasked at a controller: ticks from before don't count.
    pub fn unmasked(&mut self) {
        if self.reinject.enabled {
            self.reinject.restart();
        }
    }

    /// Turns re-injection on or off.
    pub fn set_reinject(&mut self, enabled: bool) {
        if enabled && !self.reinject.enabled {
            self.reinject.restart();
        }
        self.reinject.enabled = enabled;
    }

    /// Whether missed ticks are injected again: then the owner reports every
    /// acknowledgement ([`Pit::acked`]), for which EOIs of input 0 must exit.
    pub const fn reinjects(&self) -> bool {
        self.reinject.enabled
    }

    /// Reads port 0x61.
    pub fn read_speaker(&mut self, now: u64) -> u8 {
        let refresh = (now >> spec::REFRESH_SHIFT & 1) as u8;
        let data = self.speaker_data;
        let channel = self.speaker();
        u8::from(channel.gate())
            | u8::from(data) << 1
            | refresh << 4
            | u8::from(channel.output(now)) << 5
    }

    /// Writes port 0x61.
    pub fn write_speaker(&mut self, value: u8, now: u64) {
        self.speaker_data = value & spec::SPEAKER_DATA != 0;
        self.speaker().set_gate(value & spec::SPEAKER_GATE != 0, now);
    }

    /// The state.
    pub fn save(&self, now: u64) -> PitState {
        let hpet = if self.hpet_legacy { FLAG_HPET_LEGACY } else { 0 };
        let speaker = if self.speaker_data { FLAG_SPEAKER_DATA } else { 0 };
        PitState {
            channels: self.channels.map(|channel| channel.save(now)),
            flags: hpet | speaker,
            reserved: [0; 9],
        }
    }

    /// Takes a state. The channels start to count again.
    pub fn load(&mut self, state: &PitState, now: u64) -> Effects {
        self.hpet_legacy = state.flags & FLAG_HPET_LEGACY != 0;
        self.speaker_data = state.flags & FLAG_SPEAKER_DATA != 0;
        self.load_channels(&state.channels, now)
    }

    /// Takes the channels alone (KVM_SET_PIT).
    pub fn load_channels(&mut self, channels: &[ChannelState; 3], now: u64) -> Effects {
        for (channel, state) in self.channels.iter_mut().zip(channels) {
            channel.load(state, now);
        }
        self.rearm()
    }
}

#[cfg(test)]
mod tests;
