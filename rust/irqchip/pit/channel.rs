// SPDX-License-Identifier: GPL-2.0
//! [`Channel`]: one counter of the 8254.
//!
//! The counting element is a function of the ticks since it was loaded; see
//! "Mode definitions" in Intel's 82C54 data sheet. One thing is simpler than
//! there: a count written while modes 2 and 3 run takes effect at once and not
//! at the end of the period.

use super::clock::{ns_to_ticks, ticks_to_ns};
use super::state::ChannelState;

/// Counting mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mode {
    /// Interrupt on terminal count.
    Terminal = 0,
    /// Hardware-retriggerable one-shot.
    OneShot = 1,
    /// Rate generator.
    Rate = 2,
    /// Square wave.
    Square = 3,
    /// Software-triggered strobe.
    Strobe = 4,
    /// Hardware-triggered strobe.
    HardwareStrobe = 5,
}

impl Mode {
    /// Decodes the three bits of a control word; bit 2 is ignored for the
    /// periodic modes.
    const fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::Terminal,
            1 => Self::OneShot,
            2 | 6 => Self::Rate,
            3 | 7 => Self::Square,
            4 => Self::Strobe,
            _ => Self::HardwareStrobe,
        }
    }

    const fn is_periodic(self) -> bool {
        matches!(self, Self::Rate | Self::Square)
    }

    /// Counting starts with a rising gate and not with the count.
    const fn needs_trigger(self) -> bool {
        matches!(self, Self::OneShot | Self::HardwareStrobe)
    }
}

/// Which byte of a count comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Byte {
    /// Always the low one.
    Low = 1,
    /// Always the high one.
    High = 2,
    /// The low one of two.
    FirstOfTwo = 3,
    /// The high one of two.
    SecondOfTwo = 4,
}

impl Byte {
    const fn from_bits(bits: u8) -> Self {
        match bits {
            2 => Self::High,
            3 => Self::FirstOfTwo,
            4 => Self::SecondOfTwo,
            _ => Self::Low,
        }
    }

    /// Picks the byte of `count` that is next, and moves on.
    fn read(&mut self, count: u16) -> u8 {
        let [low, high] = count.to_le_bytes();
        match *self {
            Self::Low => low,
            Self::High => high,
            Self::FirstOfTwo => {
                *self = Self::SecondOfTwo;
                low
            }
            Self::SecondOfTwo => {
                *self = Self::FirstOfTwo;
                high
            }
        }
    }
}

/// Whether the counting element moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    /// Not loaded, or not triggered yet.
    Idle,
    /// Since this moment.
    Since(u64),
    /// Held by the gate after this many ns.
    Held(u64),
}

/// One counter.
///
/// # Invariants
///
/// `count` is at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Channel {
    /// `None` until the first control word.
    mode: Option<Mode>,
    bcd: bool,
    /// What the control word said; `read` and `write` go through it.
    access: Byte,
    read: Byte,
    write: Byte,
    write_latch: u8,
    /// The byte of `latched_count` to read next.
    count_latched: Option<Byte>,
    latched_count: u16,
    latched_status: Option<u8>,
    gate: bool,
    /// The control word was written and the count not yet.
    null_count: bool,
    count: u32,
    run: Run,
}

/// Most that a counter can count: 16 bits or 4 decimal digits.
const fn modulus(bcd: bool) -> u32 {
    if bcd {
        10_000
    } else {
        0x1_0000
    }
}

/// The value of four binary-coded digits.
fn from_bcd(value: u16) -> u32 {
    [12, 8, 4, 0].iter().fold(0u32, |sum, shift| {
        let digit = u32::from(value.wrapping_shr(*shift) & 0xf);
        sum.wrapping_mul(10).wrapping_add(digit)
    })
}

/// Four binary-coded digits of a value.
fn to_bcd(value: u32) -> u16 {
    let digits = [value / 1000 % 10, value / 100 % 10, value / 10 % 10, value % 10];
    digits.iter().fold(0, |bcd, digit| bcd << 4 | *digit as u16)
}

impl Channel {
    pub(super) const fn new(gate: bool) -> Self {
        Self {
            mode: None,
            bcd: false,
            access: Byte::Low,
            read: Byte::Low,
            write: Byte::Low,
            write_latch: 0,
            count_latched: None,
            latched_count: 0,
            latched_status: None,
            gate,
            null_count: false,
            // INVARIANT: the largest count.
            count: 0x1_0000,
            run: Run::Idle,
        }
    }

    fn elapsed_ticks(&self, now: impl FnOnce() -> u64) -> u64 {
        ns_to_ticks(match self.run {
            Run::Idle => 0,
            Run::Since(start) => now().saturating_sub(start),
            Run::Held(elapsed) => elapsed,
        })
    }

    /// The position in a period, in ticks.
    fn phase(&self, ticks: u64) -> u32 {
        ticks.checked_rem(u64::from(self.count)).unwrap_or(0) as u32
    }

    /// The counting element's value, as the guest reads it.
    pub(super) fn value(&self, now: impl FnOnce() -> u64) -> u16 {
        let ticks = self.elapsed_ticks(now);
        let modulus = modulus(self.bcd);
        let value = match self.mode {
            Some(Mode::Rate) => self.count.wrapping_sub(self.phase(ticks)),
            Some(Mode::Square) => {
                // By two for each tick, through the period twice; an odd count
                // starts from the even one below.
                let high = self.count.div_ceil(2);
                let phase = self.phase(ticks);
                let half_phase = phase.checked_sub(high).unwrap_or(phase);
                (self.count & !1).wrapping_sub(half_phase.wrapping_mul(2))
            }
            // Past zero it goes on from the highest value.
            _ => {
                let gone = ticks.checked_rem(u64::from(modulus)).unwrap_or(0) as u32;
                self.count.wrapping_add(modulus).wrapping_sub(gone)
            }
        };
        let value = value.checked_rem(modulus).unwrap_or(0);
        if self.bcd {
            to_bcd(value)
        } else {
            value as u16
        }
    }

    /// The output.
    pub(super) fn output(&self, now: u64) -> bool {
        let Some(mode) = self.mode else { return true };
        if self.run == Run::Idle {
            return mode != Mode::Terminal;
        }
        let ticks = self.elapsed_ticks(|| now);
        let count = u64::from(self.count);
        match mode {
            Mode::Terminal | Mode::OneShot => ticks >= count,
            Mode::Strobe | Mode::HardwareStrobe => ticks != count,
            // The gate forces the periodic outputs high.
            Mode::Rate => !self.gate || self.phase(ticks) != self.count.wrapping_sub(1),
            Mode::Square => !self.gate || self.phase(ticks) < self.count.div_ceil(2),
        }
    }

    /// Where the output's rising edges are: the first one `count` ticks after
    /// the moment returned, and whether others follow at that distance. `None`
    /// while there is none to come.
    pub(super) fn edges(&self) -> Option<Edges> {
        match (self.mode, self.run) {
            (Some(mode), Run::Since(start)) => {
                Some(Edges { start, ticks: self.count, periodic: mode.is_periodic() })
            }
            _ => None,
        }
    }

    pub(super) const fn gate(&self) -> bool {
        self.gate
    }

    pub(super) fn set_gate(&mut self, gate: bool, now: u64) {
        let before = core::mem::replace(&mut self.gate, gate);
        let Some(mode) = self.mode.filter(|_| before != gate && !self.null_count) else { return };
        self.run = match (mode.needs_trigger(), gate, self.run) {
            (true, true, _) => Run::Since(now),
            (true, false, run) => run,
            (false, false, Run::Since(start)) => Run::Held(now.saturating_sub(start)),
            (false, true, Run::Held(elapsed)) if !mode.is_periodic() => {
                Run::Since(now.saturating_sub(elapsed))
            }
            (false, true, Run::Held(_)) => Run::Since(now),
            (false, _, run) => run,
        };
    }

    /// Takes a control word for this channel other than a latch command.
    pub(super) fn set_control(&mut self, word: u8) {
        self.access = Byte::from_bits(word >> 4 & 3);
        self.read = self.access;
        self.write = self.access;
        self.mode = Some(Mode::from_bits(word >> 1));
        self.bcd = word & 1 != 0;
        self.count_latched = None;
        self.latched_status = None;
        self.null_count = true;
        self.run = Run::Idle;
    }

    /// Writes a byte of the count; true when the count is complete.
    pub(super) fn write(&mut self, value: u8, now: u64) -> bool {
        let count = match self.write {
            Byte::Low => u16::from_le_bytes([value, 0]),
            Byte::High => u16::from_le_bytes([0, value]),
            Byte::FirstOfTwo => {
                self.write_latch = value;
                self.write = Byte::SecondOfTwo;
                return false;
            }
            Byte::SecondOfTwo => {
                self.write = Byte::FirstOfTwo;
                u16::from_le_bytes([self.write_latch, value])
            }
        };
        let count = if self.bcd { from_bcd(count) } else { u32::from(count) };
        self.start(count, now);
        true
    }

    /// Loads a count; zero is the largest.
    fn start(&mut self, count: u32, now: u64) {
        // INVARIANT: zero is replaced.
        self.count = if count == 0 { modulus(self.bcd) } else { count };
        self.null_count = false;
        self.run = match self.mode {
            Some(mode) if !mode.needs_trigger() && self.gate => Run::Since(now),
            Some(mode) if !mode.needs_trigger() => Run::Held(0),
            _ => Run::Idle,
        };
    }

    /// Latches the count for reading, unless one is latched already.
    pub(super) fn latch_count(&mut self, now: u64) {
        if self.count_latched.is_none() {
            self.latched_count = self.value(|| now);
            self.count_latched = Some(self.access);
        }
    }

    /// Latches the status for reading, unless one is latched already.
    pub(super) fn latch_status(&mut self, now: u64) {
        if self.latched_status.is_none() {
            let mode = self.mode.map_or(0, |mode| mode as u8);
            self.latched_status = Some(
                u8::from(self.output(now)) << 7
                    | u8::from(self.null_count) << 6
                    | (self.access as u8) << 4
                    | mode << 1
                    | u8::from(self.bcd),
            );
        }
    }

    /// Reads the next byte: a latched status, a latched count, or the count. `now` is asked for
    /// one that runs.
    pub(super) fn read(&mut self, now: impl FnOnce() -> u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        if let Some(mut byte) = self.count_latched {
            let value = byte.read(self.latched_count);
            self.count_latched = (byte == Byte::SecondOfTwo).then_some(Byte::High);
            return value;
        }
        let count = self.value(now);
        self.read.read(count)
    }

    pub(super) fn save(&self, now: u64) -> ChannelState {
        let elapsed = match self.run {
            Run::Idle => 0,
            Run::Since(start) => now.saturating_sub(start),
            Run::Held(elapsed) => elapsed,
        };
        ChannelState {
            count: self.count,
            latched_count: self.latched_count,
            count_latched: self.count_latched.map_or(0, |byte| byte as u8),
            status_latched: self.latched_status.is_some().into(),
            status: self.latched_status.unwrap_or(0),
            read_state: self.read as u8,
            write_state: self.write as u8,
            write_latch: self.write_latch,
            rw_mode: self.access as u8,
            mode: self.mode.map_or(super::state::NO_MODE, |mode| mode as u8),
            bcd: self.bcd.into(),
            gate: self.gate.into(),
            count_load_time: now.saturating_sub(elapsed) as i64,
        }
    }

    /// Takes a state; counting starts again with the whole count.
    pub(super) fn load(&mut self, state: &ChannelState, now: u64) {
        let latched = (state.count_latched != 0).then(|| Byte::from_bits(state.count_latched));
        *self = Self {
            mode: (state.mode <= 7).then(|| Mode::from_bits(state.mode)),
            bcd: state.bcd != 0,
            access: Byte::from_bits(state.rw_mode & 3),
            read: Byte::from_bits(state.read_state),
            write: Byte::from_bits(state.write_state),
            write_latch: state.write_latch,
            count_latched: latched,
            latched_count: state.latched_count,
            latched_status: (state.status_latched != 0).then_some(state.status),
            gate: state.gate != 0,
            ..*self
        };
        self.start(state.count.min(0x1_0000), now);
    }
}

/// Rising edges of a channel's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edges {
    /// When counting began, ns.
    start: u64,
    /// Ticks from there to the first edge, and between edges.
    ticks: u32,
    /// Whether there is more than one.
    periodic: bool,
}

impl Edges {
    /// Ticks from one reported edge to the next, so that they are no closer
    /// than `min_period_ns`: every edge, or every n-th.
    fn stride(&self, min_period_ns: u64) -> u64 {
        let ticks = u64::from(self.ticks);
        if !self.periodic {
            return ticks;
        }
        let least = ns_to_ticks(min_period_ns);
        ticks.saturating_mul(least.div_ceil(ticks.max(1)).max(1))
    }

    /// When edge number `index` (from zero) is, in ns. `None` after the last.
    pub(super) fn time(&self, index: u64, min_period_ns: u64) -> Option<u64> {
        if index != 0 && !self.periodic {
            return None;
        }
        let ticks = self.stride(min_period_ns).saturating_mul(index.saturating_add(1));
        Some(self.start.saturating_add(ticks_to_ns(ticks)))
    }

    /// How many edges there have been.
    pub(super) fn passed(&self, now: u64, min_period_ns: u64) -> u64 {
        let ticks = ns_to_ticks(now.saturating_sub(self.start));
        let edges = ticks.checked_div(self.stride(min_period_ns)).unwrap_or(0);
        if self.periodic {
            edges
        } else {
            edges.min(1)
        }
    }
}
