// SPDX-License-Identifier: GPL-2.0
//! What goes off when the timer of a local APIC is due.
//!
//! While the vCPU runs that is an exit, where the processor can be told to exit when its
//! TSC gets somewhere. Otherwise, and while the vCPU sleeps, it is a timer of the host,
//! which the vCPU's thread sets: when it goes off, the thread finds word of that in its
//! mailbox. The thread asks the APIC then, so an alarm that comes late, early or for a
//! setting that is no more does no harm.
//!
//! The host's timer goes off a little ahead of a TSC deadline ([`TimerLead`]). A deadline that
//! is as near as that is taken for past; the vCPU waits for it when all is ready for the entry
//! ([`wait`]).

use crate::{
    control::Control,
    params,
    state::{Cx, VcpuState},
    tsc::Tsc,
    vendor::Vendor,
};
use kvm_irqchip::lapic::{Events, Expiry, LocalEvent, Now};
use kvm_policy::{
    timer_lead::TimerLead,
    tsc::{cycles_to_ns, ns_to_cycles},
};
use kvm_sys::{
    timer,
    x86::tsc::{self as host_tsc, rdtsc},
};

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

/// When the APIC's timer is due, by two clocks of the host.
#[derive(Clone, Copy)]
struct Moment {
    /// Monotonic clock, ns.
    ns: u64,
    tsc: u64,
}

/// A deadline and the way to the guest.
#[derive(Default)]
pub(super) struct Ahead {
    lead: TimerLead,
    /// The host's TSC at a deadline that was taken for past; 0 for none.
    until: u64,
}

impl Ahead {
    /// How far ahead of a TSC deadline the alarm goes off, in ns, if that is wanted.
    pub(super) fn lead_ns(&self) -> u64 {
        if params::LAPIC_TIMER_ADVANCE.get() {
            self.lead.ns()
        } else {
            0
        }
    }

    /// How far ahead the alarm of an expiry goes off, in ns.
    fn lead_of(&self, expiry: Expiry) -> u64 {
        match expiry {
            Expiry::Tsc(_) if !host_tsc::is_unstable() => self.lead_ns(),
            _ => 0,
        }
    }

    /// An alarm went off: what that tells of the way.
    fn learn(&mut self, expiry: Expiry, now: Now, khz: u32) {
        if let Expiry::Tsc(deadline) = expiry {
            let late = now.tsc.wrapping_sub(deadline) as i64;
            let ns = i64::try_from(cycles_to_ns(late.unsigned_abs(), khz)).unwrap_or(i64::MAX);
            self.lead.learn(if late < 0 { ns.wrapping_neg() } else { ns });
        }
    }
}

/// Before the entry that delivers an event: waits for the deadline that was taken for past.
#[inline]
pub(crate) fn wait<V: Vendor>(state: &mut VcpuState<V>) {
    let until = core::mem::take(&mut state.link.ahead.until);
    while until != 0 && rdtsc() < until {
        core::hint::spin_loop();
    }
}

impl Clock {
    /// The moment of an expiry that lies ahead, of a guest's counter of `khz`.
    fn moment(self, expiry: Expiry, now: Now, khz: u32) -> Option<Moment> {
        let host = now.tsc.wrapping_sub(self.tsc.offset);
        match expiry {
            Expiry::Monotonic(at) => {
                let left = at.checked_sub(now.ns).filter(|left| *left != 0)?;
                let cycles = ns_to_cycles(left, host_tsc::khz());
                Some(Moment { ns: at, tsc: host.saturating_add(cycles) })
            }
            Expiry::Tsc(deadline) => {
                let left = deadline.checked_sub(now.tsc).filter(|left| *left != 0)?;
                // Up, so that the counter is there when the timer goes off.
                let ns = now.ns.saturating_add(cycles_to_ns(left, khz)).saturating_add(1);
                Some(Moment { ns, tsc: host.saturating_add(left) })
            }
            Expiry::Never => None,
        }
    }
}

/// Sets up what goes off when the APIC's timer is due; what is due already happens now.
pub(crate) fn program<V: Vendor>(cx: &mut Cx<'_, V>) {
    if !exit_at_deadline(cx) {
        let moment = upcoming(cx);
        let may_exit = V::Control::EXITS_AT_DEADLINE && !host_tsc::is_unstable();
        let at = moment.filter(|_| may_exit).map(|moment| moment.tsc);
        if cx.state.control.set_deadline(at) && may_exit {
            quiet(cx);
        } else {
            set_host(cx, moment);
        }
    }
}

/// The usual case in few steps: the processor exits at a deadline that lies ahead.
#[inline]
fn exit_at_deadline<V: Vendor>(cx: &mut Cx<'_, V>) -> bool {
    let expiry = cx.state.apic.as_ref().map(|apic| apic.timer().expiry());
    let may_exit = V::Control::EXITS_AT_DEADLINE && !host_tsc::is_unstable();
    let Some(Expiry::Tsc(deadline)) = expiry.filter(|_| may_exit) else {
        return false;
    };
    let now = rdtsc();
    let left = deadline.saturating_sub(cx.state.tsc.at(now));
    let is_set = left != 0 && cx.state.control.set_deadline(Some(now.saturating_add(left)));
    if is_set {
        quiet(cx);
    }
    is_set
}

/// The vCPU is about to sleep, and doesn't exit: the host timer is to wake it. Whether it was
/// set just now, when it may have turned out that what it was set for is due already.
pub(crate) fn sleep<V: Vendor>(cx: &mut Cx<'_, V>) -> bool {
    if !cx.state.control.has_deadline() {
        return false;
    }
    let moment = upcoming(cx);
    cx.state.control.set_deadline(None);
    set_host(cx, moment);
    true
}

/// When the timer is due the next time; for its alarm, a little ahead of that. What is due
/// already becomes past, and what the alarm would be too late for.
fn upcoming<V: Vendor>(cx: &mut Cx<'_, V>) -> Option<Moment> {
    let clock = Clock::of(cx.state);
    let khz = cx.state.tsc.khz;
    let state = &mut *cx.state;
    let apic = state.apic.as_mut()?;
    // What becomes past isn't due the second time.
    for _ in 0..2 {
        let expiry = apic.timer().expiry();
        if expiry == Expiry::Never {
            break;
        }
        let mut now = clock.now();
        let moment = clock.moment(expiry, now, khz);
        if !state.link.is_running && matches!(expiry, Expiry::Tsc(_)) {
            if moment.is_none() {
                expires_later(cx);
            }
            return moment;
        }
        if let Some(moment) = moment {
            let at = moment.ns.saturating_sub(state.link.ahead.lead_of(expiry));
            let Expiry::Tsc(deadline) = expiry else { return Some(moment) };
            if at > now.ns {
                return Some(Moment { ns: at, ..moment });
            }
            state.link.ahead.until = moment.tsc;
            now.tsc = deadline;
        }
        if apic.timer_expired(now) != LocalEvent::None {
            state.events.check = true;
        }
    }
    None
}

/// A TSC deadline has passed while userspace has the vCPU: the timer goes off when it runs again. The
/// deadline and the interrupt are registers that userspace takes out, and puts in, at different
/// moments: it must not find, or leave, both of them, nor neither.
#[cold]
fn expires_later<V: Vendor>(cx: &Cx<'_, V>) {
    let _ = cx.vcpu.shared().mailbox().inbox().post_events(Events::TIMER);
}

/// The count has run down while userspace has the vCPU, which takes out all that shows it at once.
pub(crate) fn catch_up<V: Vendor>(cx: &mut Cx<'_, V>, now: Now) {
    let Some(apic) = &mut cx.state.apic else { return };
    let is_due = matches!(apic.timer().expiry(), Expiry::Monotonic(at) if at <= now.ns);
    if is_due && apic.timer_expired(now) != LocalEvent::None {
        cx.state.events.check = true;
        program(cx);
    }
}

/// Sets the host timer, or stops it.
fn set_host<V: Vendor>(cx: &Cx<'_, V>, moment: Option<Moment>) {
    match moment {
        Some(moment) => {
            let at = i64::try_from(moment.ns).unwrap_or(i64::MAX);
            cx.vcpu.shared().timer().start(at);
        }
        None => quiet(cx),
    }
}

/// Stops the host timer.
#[inline]
fn quiet<V: Vendor>(cx: &Cx<'_, V>) {
    let host = cx.vcpu.shared().timer();
    if host.is_queued() {
        // One that goes off right now finds nothing due.
        let _ = host.try_cancel();
    }
}

/// An alarm went off.
pub(crate) fn expired<V: Vendor>(cx: &mut Cx<'_, V>) {
    let now = Clock::of(cx.state).now();
    let state = &mut *cx.state;
    let Some(apic) = &mut state.apic else { return };
    if !state.link.is_running && matches!(apic.timer().expiry(), Expiry::Tsc(_)) {
        return expires_later(cx);
    }
    state.link.ahead.learn(apic.timer().expiry(), now, state.tsc.khz);
    cx.vcpu.shared().set_timer_lead(state.link.timer_lead());
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
