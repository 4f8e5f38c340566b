// SPDX-License-Identifier: GPL-2.0
//! [`Timer`]: the local APIC's timer as arithmetic on two clocks.
//!
//! The counting modes live on the owner's monotonic clock in ns, the TSC
//! deadline on the guest's TSC (SDM vol. 3, 12.5.4). Nothing counts: the state
//! is the moment of the next expiry, and [`Timer::expiry`] says when the owner
//! wants to be woken. A masked timer never wakes anyone.

use super::spec;

/// Mode, bits 18:17 of the timer's LVT entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerMode {
    /// Counts down once.
    OneShot,
    /// Starts again at zero.
    Periodic,
    /// Goes off when the TSC reaches IA32_TSC_DEADLINE.
    TscDeadline,
    /// Reserved encoding: never goes off.
    Reserved,
}

/// When the host timer is to go off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Not at all.
    Never,
    /// At this reading of the monotonic clock, in ns.
    Monotonic(u64),
    /// At this reading of the guest's TSC.
    Tsc(u64),
}

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic clock, ns.
    pub ns: u64,
    /// The guest's TSC.
    pub tsc: u64,
}

/// How fast the timer's clock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerConfig {
    /// Length of an APIC bus cycle in ns (`KVM_CAP_X86_APIC_BUS_CYCLES_NS`).
    pub bus_cycle_ns: u32,
    /// Shortest period of the periodic mode in ns: a guest must not keep the
    /// host busy with timer interrupts.
    pub min_period_ns: u64,
}

impl Default for TimerConfig {
    fn default() -> Self {
        Self { bus_cycle_ns: 1, min_period_ns: 200_000 }
    }
}

/// The timer of a local APIC.
///
/// # Invariants
///
/// `target_ns` has meaning only while `running`, and the mode is then one of
/// the counting modes; `deadline_tsc` is zero in every mode but TSC deadline.
/// `divide_shift` is at most 7.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    config: TimerConfig,
    mode: TimerMode,
    masked: bool,
    running: bool,
    divide_shift: u32,
    initial: u32,
    target_ns: u64,
    deadline_tsc: u64,
}

impl TimerMode {
    pub(super) const fn from_lvt(lvt: u32) -> Self {
        match lvt & (spec::LVT_PERIODIC | spec::LVT_TSC_DEADLINE) {
            0 => Self::OneShot,
            spec::LVT_PERIODIC => Self::Periodic,
            spec::LVT_TSC_DEADLINE => Self::TscDeadline,
            _ => Self::Reserved,
        }
    }

    const fn counts(self) -> bool {
        matches!(self, Self::OneShot | Self::Periodic)
    }
}

/// log2 of the divisor in a divide configuration register.
const fn divide_shift(tdcr: u32) -> u32 {
    (tdcr & 3 | tdcr >> 1 & 4).wrapping_add(1) & 7
}

impl Timer {
    /// A stopped, masked timer.
    pub(super) const fn new(config: TimerConfig) -> Self {
        // INVARIANT: not running, no deadline, shift 1.
        Self {
            config,
            mode: TimerMode::OneShot,
            masked: true,
            running: false,
            divide_shift: 1,
            initial: 0,
            target_ns: 0,
            deadline_tsc: 0,
        }
    }

    pub(super) fn set_config(&mut self, config: TimerConfig) {
        self.config = config;
    }

    /// The timer's mode.
    pub const fn mode(&self) -> TimerMode {
        self.mode
    }

    /// The initial count register.
    pub(super) const fn initial(&self) -> u32 {
        self.initial
    }

    /// When the owner wants to be woken.
    #[inline]
    pub const fn expiry(&self) -> Expiry {
        if self.masked {
            Expiry::Never
        } else if self.running {
            Expiry::Monotonic(self.target_ns)
        } else if self.deadline_tsc != 0 {
            Expiry::Tsc(self.deadline_tsc)
        } else {
            Expiry::Never
        }
    }

    /// ns that `count` steps take with the present divisor.
    const fn steps_to_ns(&self, count: u32) -> u64 {
        (count as u64)
            .saturating_mul(self.config.bus_cycle_ns as u64)
            .saturating_mul(1u64.wrapping_shl(self.divide_shift))
    }

    /// ns from one expiry to the next; zero when the timer is off.
    const fn period_ns(&self) -> u64 {
        let period = self.steps_to_ns(self.initial);
        let limit = matches!(self.mode, TimerMode::Periodic) && self.initial != 0;
        if limit && period < self.config.min_period_ns {
            self.config.min_period_ns
        } else {
            period
        }
    }

    /// Takes the timer's LVT entry. Between the counting modes the count goes
    /// on; to and from TSC deadline the timer is disarmed.
    pub(super) fn set_lvt(&mut self, lvt: u32, now: Now) {
        // What passed while the entry was masked is gone.
        if self.masked {
            self.advance(now);
        }
        let mode = TimerMode::from_lvt(lvt);
        if mode.counts() != self.mode.counts() || !mode.counts() && mode != self.mode {
            // INVARIANT: neither running nor a deadline.
            self.running = false;
            self.initial = 0;
            self.deadline_tsc = 0;
        }
        self.mode = mode;
        self.masked = lvt & spec::LVT_MASKED != 0;
    }

    /// Takes the initial count register: starts, or stops with zero. Ignored in
    /// TSC-deadline mode, as hardware does.
    pub(super) fn set_initial(&mut self, count: u32, now_ns: u64) {
        if self.mode == TimerMode::TscDeadline {
            return;
        }
        self.initial = count;
        self.start(self.period_ns(), now_ns);
    }

    /// Takes both counts from a saved state: the timer goes on where it was.
    pub(super) fn restore(&mut self, initial: u32, current: u32, now_ns: u64) {
        self.initial = initial;
        let period = self.period_ns();
        // A one-shot that has run down stays down. For the periodic mode zero is
        // the moment of the reload.
        let left = match self.mode {
            TimerMode::OneShot if current == 0 => 0,
            _ if current == 0 || current > initial => period,
            _ => self.steps_to_ns(current),
        };
        self.start(left, now_ns);
    }

    fn start(&mut self, left_ns: u64, now_ns: u64) {
        // INVARIANT: running only in a counting mode.
        self.running = self.mode.counts() && left_ns != 0;
        self.target_ns = now_ns.saturating_add(left_ns);
    }

    /// Takes the divide configuration; what is left to count keeps its steps.
    pub(super) fn set_divide(&mut self, tdcr: u32, now: Now) {
        self.advance(now);
        let shift = divide_shift(tdcr);
        if self.running {
            let left = self.target_ns.saturating_sub(now.ns);
            let left =
                left.wrapping_shr(self.divide_shift).saturating_mul(1u64.wrapping_shl(shift));
            self.target_ns = now.ns.saturating_add(left);
        }
        self.divide_shift = shift;
    }

    /// The current count register.
    pub(super) fn current(&self, now_ns: u64) -> u32 {
        if !self.running {
            return 0;
        }
        let left = match self.target_ns.checked_sub(now_ns) {
            Some(left) => left,
            None if self.mode == TimerMode::Periodic => {
                let late = now_ns.wrapping_sub(self.target_ns);
                let period = self.period_ns();
                period.wrapping_sub(late.checked_rem(period).unwrap_or(0))
            }
            None => 0,
        };
        let steps = left.checked_div(self.steps_to_ns(1)).unwrap_or(0);
        // A lengthened period (see `min_period_ns`) is not to be seen.
        u32::try_from(steps).unwrap_or(u32::MAX).min(self.initial)
    }

    /// The IA32_TSC_DEADLINE MSR: zero when disarmed or in another mode.
    pub(super) const fn deadline(&self, now_tsc: u64) -> u64 {
        if self.masked && now_tsc >= self.deadline_tsc {
            0
        } else {
            self.deadline_tsc
        }
    }

    /// Writes IA32_TSC_DEADLINE; ignored in another mode.
    #[inline]
    pub(super) fn set_deadline(&mut self, deadline: u64) -> bool {
        let armed = matches!(self.mode, TimerMode::TscDeadline);
        if armed {
            // INVARIANT: the mode is TSC deadline.
            self.deadline_tsc = deadline;
        }
        armed
    }

    /// Moves past expiries that lie behind `now`; true when there was one. A
    /// periodic timer keeps its phase and counts missed expiries as one.
    pub(super) fn advance(&mut self, now: Now) -> bool {
        if self.running && now.ns >= self.target_ns {
            let period = self.period_ns();
            let late = now.ns.wrapping_sub(self.target_ns);
            match (self.mode, late.checked_rem(period)) {
                (TimerMode::Periodic, Some(phase)) => {
                    self.target_ns = now.ns.wrapping_sub(phase).saturating_add(period);
                }
                _ => self.running = false,
            }
            true
        } else if self.deadline_tsc != 0 && now.tsc >= self.deadline_tsc {
            self.deadline_tsc = 0;
            true
        } else {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE_SHOT: u32 = 0x20;
    const PERIODIC: u32 = 0x20 | spec::LVT_PERIODIC;
    const DEADLINE: u32 = 0x20 | spec::LVT_TSC_DEADLINE;

    const fn at(ns: u64) -> Now {
        Now { ns, tsc: ns * 3 }
    }

    fn timer(lvt: u32) -> Timer {
        let mut timer = Timer::new(TimerConfig { bus_cycle_ns: 1, min_period_ns: 0 });
        timer.set_divide(0xb, at(0));
        timer.set_lvt(lvt, at(0));
        timer
    }

    #[test]
    fn divisors() {
        let shifts: std::vec::Vec<_> =
            [0, 1, 2, 3, 8, 9, 10, 11].iter().map(|t| divide_shift(*t)).collect();
        assert_eq!(shifts, [1, 2, 3, 4, 5, 6, 7, 0]);
    }

    #[test]
    fn one_shot_goes_off_once() {
        let mut t = timer(ONE_SHOT);
        t.set_initial(1000, 50);
        assert_eq!(t.expiry(), Expiry::Monotonic(1050));
        assert_eq!(t.current(550), 500);
        assert!(!t.advance(at(1049)));
        assert!(t.advance(at(1050)));
        assert_eq!((t.expiry(), t.current(1050)), (Expiry::Never, 0));
        assert!(!t.advance(at(5000)));
    }

    #[test]
    fn periodic_keeps_its_phase() {
        let mut t = timer(PERIODIC);
        t.set_initial(1000, 0);
        assert!(t.advance(at(1000)));
        assert_eq!(t.expiry(), Expiry::Monotonic(2000));
        assert_eq!(t.current(5400), 600);
        assert!(t.advance(at(5400)));
        assert_eq!(t.expiry(), Expiry::Monotonic(6000));
        t.set_initial(0, 5500);
        assert_eq!(t.expiry(), Expiry::Never);
    }

    #[test]
    fn short_periods_are_stretched_unseen() {
        let mut t = timer(PERIODIC);
        t.set_config(TimerConfig { bus_cycle_ns: 1, min_period_ns: 200_000 });
        t.set_initial(10, 0);
        assert_eq!(t.expiry(), Expiry::Monotonic(200_000));
        assert!(t.current(0) <= 10);
    }

    #[test]
    fn deadline_mode() {
        let mut t = timer(ONE_SHOT);
        assert!(!t.set_deadline(77));
        t.set_initial(1000, 0);
        t.set_lvt(DEADLINE, at(0));
        assert_eq!((t.expiry(), t.initial()), (Expiry::Never, 0));
        t.set_initial(1000, 0);
        assert_eq!(t.initial(), 0);
        assert!(t.set_deadline(3000));
        assert_eq!((t.expiry(), t.deadline(0)), (Expiry::Tsc(3000), 3000));
        assert!(!t.advance(at(999)));
        assert!(t.advance(at(1000)));
        assert_eq!((t.expiry(), t.deadline(3000)), (Expiry::Never, 0));
        t.set_deadline(9000);
        t.set_lvt(ONE_SHOT, at(1000));
        assert_eq!(t.deadline(0), 0);
    }

    #[test]
    fn expiries_under_the_mask_are_lost() {
        let mut t = timer(ONE_SHOT);
        t.set_initial(1000, 0);
        t.set_lvt(ONE_SHOT | spec::LVT_MASKED, at(10));
        assert_eq!(t.expiry(), Expiry::Never);
        assert_eq!(t.current(400), 600);
        t.set_lvt(ONE_SHOT, at(400));
        assert_eq!(t.expiry(), Expiry::Monotonic(1000));
        t.set_lvt(ONE_SHOT | spec::LVT_MASKED, at(500));
        t.set_lvt(ONE_SHOT, at(1500));
        assert_eq!(t.expiry(), Expiry::Never);
        let mut t = timer(DEADLINE | spec::LVT_MASKED);
        t.set_deadline(300);
        assert_eq!((t.deadline(299), t.deadline(300)), (300, 0));
        t.set_lvt(DEADLINE, at(100));
        assert_eq!(t.expiry(), Expiry::Never);
    }

    #[test]
    fn divisor_change_keeps_the_count() {
        let mut t = timer(ONE_SHOT);
        t.set_initial(1000, 0);
        t.set_divide(0, at(400));
        assert_eq!(t.current(400), 600);
        assert_eq!(t.expiry(), Expiry::Monotonic(400 + 1200));
    }

    #[test]
    fn restore_goes_on() {
        let mut t = timer(ONE_SHOT);
        t.restore(1000, 300, 7000);
        assert_eq!((t.expiry(), t.initial()), (Expiry::Monotonic(7300), 1000));
        t.restore(1000, 0, 7000);
        assert_eq!(t.expiry(), Expiry::Never);
        t.restore(1000, 2000, 7000);
        assert_eq!(t.expiry(), Expiry::Monotonic(8000));
        let mut t = timer(PERIODIC);
        t.restore(1000, 0, 7000);
        assert_eq!(t.expiry(), Expiry::Monotonic(8000));
    }

    proptest! {
        /// Ticks counted one by one agree with the arithmetic.
        #[test]
        fn periodic_against_counting(period in 1u32..500, steps in prop::collection::vec(0u64..2000, 1..20)) {
            let mut t = timer(PERIODIC);
            t.set_initial(period, 0);
            let mut now = 0u64;
            let mut ticks = 0u64;
            for step in steps {
                now += step;
                let fired = t.advance(at(now));
                prop_assert_eq!(fired, now / u64::from(period) > ticks);
                ticks = now / u64::from(period);
                prop_assert_eq!(t.expiry(), Expiry::Monotonic((ticks + 1) * u64::from(period)));
                prop_assert_eq!(u64::from(t.current(now)), (ticks + 1) * u64::from(period) - now);
            }
        }

        /// No input makes it panic, and what is due never lies behind `now`.
        #[test]
        fn extremes(initial in any::<u32>(), tdcr in any::<u32>(), bus in any::<u32>(), ns in any::<u64>(), lvt in any::<u32>()) {
            let mut t = Timer::new(TimerConfig { bus_cycle_ns: bus, min_period_ns: 200_000 });
            let now = Now { ns, tsc: ns };
            t.set_lvt(lvt, now);
            t.set_divide(tdcr, now);
            t.set_initial(initial, ns);
            t.set_deadline(ns);
            let later = Now { ns: ns.saturating_add(1 << 50), tsc: u64::MAX };
            t.set_divide(!tdcr, later);
            t.advance(later);
            prop_assert!(t.current(later.ns) <= t.initial());
            if let Expiry::Monotonic(target) = t.expiry() {
                prop_assert!(target >= later.ns);
            }
        }
    }
}
