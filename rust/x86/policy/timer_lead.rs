// SPDX-License-Identifier: GPL-2.0
//! How far ahead of a guest's deadline its alarm goes off.
//!
//! From the host's timer to the guest it is a way: an interrupt, perhaps the wake-up of a
//! thread, an entry. An alarm that goes off so much earlier lets the guest have its interrupt
//! when it is due; the thread waits for what is left. How long the way is, is learnt from
//! each alarm.

/// What was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerLead {
    ns: i64,
}

/// Before the first alarm, in ns.
const FIRST: i64 = 1000;
/// Never more than this, in ns: the thread would only burn time.
const MOST: i64 = 5000;
/// How much before the deadline the thread is to look, in ns.
const MARGIN: i64 = 100;
/// An alarm that is so far off, in ns, says nothing of the way: the thread was kept elsewhere, or
/// the deadline is another one.
const OUTLIER: u64 = 10_000;
/// The part of a difference that counts, so that single ones do little.
const WEIGHT: i64 = 8;

impl TimerLead {
    /// Nothing was learnt yet.
    pub const fn new() -> Self {
        Self { ns: FIRST }
    }

    /// The lead in ns.
    #[inline]
    pub const fn ns(&self) -> u64 {
        self.ns.unsigned_abs()
    }

    /// The thread looked so many ns after the deadline, or before it if that is negative.
    pub fn learn(&mut self, late_ns: i64) {
        if late_ns.unsigned_abs() <= OUTLIER {
            let change = late_ns.saturating_add(MARGIN).wrapping_div(WEIGHT);
            self.ns = self.ns.saturating_add(change).clamp(0, MOST);
        }
    }
}

impl Default for TimerLead {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// After some alarms the thread looks just before the deadline, however long the way is.
    #[test]
    fn learns_the_way() {
        for way in [0, 300, 1000, 2500, 4800] {
            let mut lead = TimerLead::new();
            for _ in 0..100 {
                lead.learn(way - lead.ns() as i64);
            }
            let early = lead.ns() as i64 - way;
            assert!((MARGIN - WEIGHT..=MARGIN + WEIGHT).contains(&early), "{way}: {early}");
        }
    }

    #[test]
    fn outliers_say_nothing() {
        let mut lead = TimerLead::new();
        for late in [10_001, -10_001, i64::MAX, i64::MIN] {
            lead.learn(late);
        }
        assert_eq!(lead, TimerLead::new());
    }

    proptest! {
        #[test]
        fn stays_within_bounds(late in proptest::collection::vec(any::<i64>(), 0..50)) {
            let mut lead = TimerLead::new();
            late.into_iter().for_each(|late| lead.learn(late));
            prop_assert!(lead.ns() <= MOST as u64);
        }
    }
}
