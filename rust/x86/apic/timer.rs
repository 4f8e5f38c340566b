// SPDX-License-Identifier: GPL-2.0
//! The host timer behind the timer of a local APIC.
//!
//! The vCPU's thread sets it to when the APIC's timer is due. When it goes off, the
//! thread finds word of that in its mailbox and asks the APIC, so a timer that goes
//! off late, early or for a setting that is no more does no harm.

use crate::{
    state::{Cx, VcpuState},
    tsc::Tsc,
    vendor::Vendor,
};
use kvm_irqchip::lapic::{Expiry, LocalEvent, Now};
use kvm_policy::tsc::cycles_to_ns;
use kvm_sys::{timer, x86::tsc::rdtsc};

/// The two clocks of a vCPU's timer, apart from the vCPU.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    tsc: Tsc,
}

impl Clock {
    /// Those of a vCPU.
    #[inline]
    pub(crate) fn of<V: Vendor>(state: &VcpuState<V>) -> Self {
        Self { tsc: state.tsc }
    }

    /// Reads both.
    #[inline]
    pub(crate) fn now(self) -> Now {
        Now { ns: u64::try_from(timer::now()).unwrap_or(0), tsc: self.tsc.at(rdtsc()) }
    }
}

/// Sets the host timer to when the APIC's is due; what is due already happens now.
pub(crate) fn program<V: Vendor>(cx: &mut Cx<'_, V>) {
    let clock = Clock::of(cx.state);
    let khz = cx.state.tsc.khz;
    let host = cx.vcpu.shared().timer();
    let Some(apic) = &mut cx.state.apic else { return };
    // What is due becomes past, so it isn't due the second time.
    for _ in 0..2 {
        let expiry = apic.timer().expiry();
        if expiry == Expiry::Never {
            break;
        }
        let now = clock.now();
        let at = match expiry {
            Expiry::Monotonic(at) => at,
            Expiry::Tsc(deadline) => match deadline.checked_sub(now.tsc) {
                // Up, so that the counter is there when the timer goes off.
                Some(left) => now.ns.saturating_add(cycles_to_ns(left, khz)).saturating_add(1),
                None => now.ns,
            },
            Expiry::Never => break,
        };
        if at > now.ns {
            host.start(i64::try_from(at).unwrap_or(i64::MAX));
            return;
        }
        if apic.timer_expired(now) != LocalEvent::None {
            cx.state.events.check = true;
        }
    }
    if host.is_queued() {
        // One that goes off right now finds nothing due.
        let _ = host.try_cancel();
    }
}

/// The host timer went off.
pub(crate) fn expired<V: Vendor>(cx: &mut Cx<'_, V>) {
    let now = Clock::of(cx.state).now();
    let Some(apic) = &mut cx.state.apic else { return };
    if apic.timer_expired(now) != LocalEvent::None {
        cx.state.events.check = true;
    }
    program(cx);
}

/// The guest's counter was set or runs at another rate.
pub(crate) fn counter_changed<V: Vendor>(cx: &mut Cx<'_, V>) {
    let expiry = cx.state.apic.as_ref().map(|apic| apic.timer().expiry());
    if matches!(expiry, Some(Expiry::Tsc(_))) {
        program(cx);
    }
}
