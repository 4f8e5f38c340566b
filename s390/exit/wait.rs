// SPDX-License-Identifier: GPL-2.0
//! The guest waits.

use crate::{
    deliver, run,
    state::{Cx, Next},
};
use kernel::error::Result;
use kvm_sys::{kick::Woken, s390::clock, timer};
use s390_arch::pending::Kinds;

/// Sleeps until an interruption that the guest lets in.
pub(super) fn handle(cx: &mut Cx<'_>) -> Result<Next> {
    if cx.state.block.psw.is_disabled() {
        // Nothing ends this wait: userspace knows what it means.
        return Ok(Next::Intercept);
    }
    cx.state.waits = true;
    if deliver::has_reason(cx) {
        return Ok(Next::Resume);
    }
    set_alarm(cx);
    cx.vcpu.shared().sleep(&cx.state.gate());
    let (vcpu, shared) = (cx.vcpu, cx.vcpu.shared());
    // What came before the masks were known told nobody.
    if deliver::has_reason(cx) {
        shared.wake();
        return Ok(Next::Resume);
    }
    let start = clock::now();
    let woken = vcpu
        .stats()
        .count_sleep(|| vcpu.kick.block(|| shared.has_news() || !vcpu.requests.is_empty()));
    shared.wake();
    // The CPU timer runs in the wait state.
    let slept = clock::now().wrapping_sub(start);
    cx.state.block.cpu_timer = cx.state.block.cpu_timer.wrapping_sub(slept);
    let _ = shared.alarm().cancel();
    if woken == Woken::Signal {
        return run::interrupted(cx);
    }
    Ok(Next::Resume)
}

/// Sets the alarm for the clock comparator and the CPU timer, as far as the guest
/// lets them in.
fn set_alarm(cx: &Cx<'_>) {
    let open = cx.state.gate().open();
    let block = &*cx.state.block;
    let mut wait = u64::MAX;
    if open.contains(Kinds::CLOCK_COMPARATOR) {
        // It is due when the clock is past it.
        let left = block.clock_comparator.saturating_sub(cx.state.clock());
        wait = wait.min(left.saturating_add(1));
    }
    if open.contains(Kinds::CPU_TIMER) {
        wait = wait.min(block.cpu_timer.saturating_add(1));
    }
    if wait != u64::MAX {
        let at = timer::now().saturating_add(clock::length(wait).as_nanos());
        cx.vcpu.shared().alarm().start(at);
    }
}
