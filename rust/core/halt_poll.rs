// SPDX-License-Identifier: GPL-2.0
//! A halted vCPU waits busily for a while before its thread sleeps: what wakes it
//! soon then costs no wake-up of a thread. For how long follows from how long it
//! was halted lately (`Documentation/virt/kvm/halt-polling.rst`).

use crate::{arch::Arch, params, vcpu::Vcpu};
use kernel::sync::atomic::{Atomic, Relaxed};
use kvm_sys::{guest_mode, kick::Woken, process, timer, trace::kvm_vcpu_wakeup};

/// How long one vCPU waits busily. Only who holds the vCPU reads and writes it.
pub(crate) struct HaltPoll(Atomic<u32>);

impl HaltPoll {
    /// Not at all so far.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// After a halt of `halted` ns: the next busy wait, of at most `most`.
    fn adapt(&self, halted: u64, most: u32) {
        let now = self.0.load(Relaxed);
        let next = if most == 0 {
            0
        } else if halted <= now.into() {
            now
        } else if halted > most.into() {
            shrunk(now)
        } else {
            grown(now).min(most)
        };
        self.0.store(next, Relaxed);
    }
}

/// It was too short.
fn grown(now: u32) -> u32 {
    match params::HALT_POLL_NS_GROW.get() {
        0 => now,
        factor => now.saturating_mul(factor).max(params::HALT_POLL_NS_GROW_START.get()),
    }
}

/// It was in vain.
fn shrunk(now: u32) -> u32 {
    let next = now.checked_div(params::HALT_POLL_NS_SHRINK.get()).unwrap_or(0);
    if next < params::HALT_POLL_NS_GROW_START.get() {
        0
    } else {
        next
    }
}

impl<A: Arch> Vcpu<A> {
    /// Halts until `ready` or a signal, busily at first unless the guest does that
    /// itself (`may_poll` off). `most`: the longest busy wait of this VM, in ns.
    pub fn halt(&self, may_poll: bool, most: u32, mut ready: impl FnMut() -> bool) -> Woken {
        let start = timer::now();
        let length = self.poll.0.load(Relaxed).min(most);
        let is_ready = may_poll && length != 0 && self.wait_busily(start, length, &mut ready);
        let woken = if is_ready {
            Woken::Ready
        } else {
            self.stats().count_sleep(|| self.kick.block(ready))
        };
        if may_poll {
            let halted = timer::now().saturating_sub(start);
            self.poll.adapt(u64::try_from(halted).unwrap_or(0), most);
        }
        woken
    }

    /// Whether it was ready in this time.
    fn wait_busily(&self, start: i64, length: u32, ready: &mut impl FnMut() -> bool) -> bool {
        let counters = &self.stats().generic;
        counters.halt_attempted_poll.add(1);
        let stop = start.saturating_add(length.into());
        let mut now = start;
        let mut is_ready = ready();
        while !is_ready && now < stop && !guest_mode::maybe_work_pending() && process::is_alone() {
            core::hint::spin_loop();
            now = timer::now();
            is_ready = ready();
        }
        let waited = u64::try_from(now.saturating_sub(start)).unwrap_or(0);
        if is_ready {
            kvm_vcpu_wakeup(|| (waited, false, true));
        }
        if is_ready {
            counters.halt_successful_poll.add(1);
            counters.halt_poll_success_ns.add(waited);
            counters.halt_poll_success_hist.record(waited);
        } else {
            counters.halt_poll_fail_ns.add(waited);
            counters.halt_poll_fail_hist.record(waited);
        }
        is_ready
    }
}
