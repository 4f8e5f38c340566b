// SPDX-License-Identifier: GPL-2.0
//! Messages that a guest or userspace can cause: not more than the log can take.

use kernel::sync::atomic::{Atomic, Relaxed};
use kvm_sys::timer;

/// Nanoseconds of one period.
const PERIOD: i64 = 5_000_000_000;
/// Messages in each.
const BURST: u32 = 10;

/// Limits how often one kind of message is logged: ten times in five seconds.
pub(crate) struct Limit {
    /// When the period began.
    start: Atomic<i64>,
    count: Atomic<u32>,
}

impl Limit {
    /// Nothing was logged yet.
    pub(crate) const fn new() -> Self {
        Self { start: Atomic::new(0), count: Atomic::new(0) }
    }

    /// Whether one more may be logged. Callers that race may get a few more.
    pub(crate) fn allows(&self) -> bool {
        let now = timer::now();
        if now.wrapping_sub(self.start.load(Relaxed)) > PERIOD {
            self.start.store(now, Relaxed);
            self.count.store(0, Relaxed);
        }
        let count = self.count.load(Relaxed);
        self.count.store(count.saturating_add(1), Relaxed);
        count < BURST
    }
}
