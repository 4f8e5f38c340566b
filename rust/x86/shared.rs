// SPDX-License-Identifier: GPL-2.0
//! The part of an x86 vCPU that any thread may reach at any time.

use crate::{control::Control, pv::steal, vendor::Vendor};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed, Release},
        Arc,
    },
};
use kvm_irqchip::lapic::{Acceptance, Events, Identity, Inbox, LocalApic, Posted};
use kvm_sys::{
    kick::Kick,
    plain::Plain,
    timer::{Expire, Timer},
};

/// Where others leave interrupts for a vCPU. Lock-free, any context.
pub struct Mailbox {
    inbox: Inbox,
    kick: Arc<Kick>,
}

impl Mailbox {
    /// What was left.
    #[inline]
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Leaves what a message was accepted as and gets the vCPU's attention; what
    /// became of it.
    #[inline]
    pub fn post(&self, acceptance: Acceptance) -> Posted {
        self.kicked(self.inbox.post(acceptance))
    }

    /// Leaves events and gets the vCPU's attention.
    pub fn post_events(&self, events: Events) -> Posted {
        self.kicked(self.inbox.post_events(events))
    }

    #[inline]
    fn kicked(&self, posted: Posted) -> Posted {
        if posted == Posted::Kick {
            self.kick.kick();
        }
        posted
    }
}

impl Expire for Mailbox {
    /// The local APIC's timer may be due: the vCPU's thread finds out.
    fn expired(&self) -> Option<i64> {
        let _ = self.post_events(Events::TIMER);
        None
    }
}

/// What a local APIC makes known of itself, in one word: its identity, and these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published(u64);

impl Published {
    /// It takes the 8259A's interrupts.
    pub const ACCEPTS_PIC: u64 = 1 << 63;
    /// Its LINT0 makes an NMI of the 8254's ticks.
    pub const LINT0_NMI: u64 = 1 << 62;

    /// What is known of a vCPU without a local APIC.
    pub const NONE: Self = Self(0);

    /// What is to be known of an APIC.
    pub fn of(apic: &LocalApic) -> Self {
        let accepts = if apic.accepts_pic() { Self::ACCEPTS_PIC } else { 0 };
        let nmi = if apic.lint0_is_nmi() { Self::LINT0_NMI } else { 0 };
        Self(apic.identity().pack() | accepts | nmi)
    }

    /// How the APIC is addressed.
    pub fn identity(self) -> Identity {
        Identity::unpack(self.0)
    }
}

/// In the place of a lead, that there is no timer.
const NO_TIMER: u64 = u64::MAX;

/// The shared part.
#[pin_data]
pub struct Shared<V: Vendor> {
    /// The local APIC's host timer. The vCPU's thread alone sets it.
    #[pin]
    timer: Timer<Mailbox>,
    published: Atomic<u64>,
    /// Messages that it got because it had got the fewest (without vector hashing).
    arbitrations: Atomic<u32>,
    steal: steal::Place,
    /// The window for spinning isn't the first one.
    spun: Atomic<bool>,
    /// The guest's TSC less the host's.
    tsc_offset: Atomic<u64>,
    /// How far ahead of deadlines the local APIC's host timer goes off, in ns;
    /// [`NO_TIMER`] if there is no local APIC.
    timer_lead: Atomic<u64>,
    control: <V::Control as Control>::Shared,
}

impl<V: Vendor> Shared<V> {
    /// That of a new vCPU, whose local APIC makes this known.
    pub(crate) fn new(kick: Arc<Kick>, published: Published) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            timer <- Timer::new(Mailbox { inbox: Inbox::new(), kick }),
            published: Atomic::new(published.0),
            arbitrations: Atomic::new(0),
            steal: steal::Place::new(),
            spun: Atomic::new(false),
            tsc_offset: Atomic::new(0),
            timer_lead: Atomic::new(NO_TIMER),
            control: Default::default(),
        })
    }

    /// Where interrupts for it are left.
    #[inline]
    pub fn mailbox(&self) -> &Mailbox {
        &self.timer
    }

    /// The local APIC's host timer, for the vCPU's thread.
    #[inline]
    pub(crate) fn timer(&self) -> &Timer<Mailbox> {
        &self.timer
    }

    /// Where the guest wants to know of stolen time.
    #[inline]
    pub(crate) fn steal(&self) -> &steal::Place {
        &self.steal
    }

    /// Whether the window for spinning isn't the first one; for the vCPU's thread.
    #[inline]
    pub(crate) fn has_spun(&self) -> bool {
        self.spun.load(Relaxed)
    }

    /// Notes whether it is.
    pub(crate) fn set_spun(&self, spun: bool) {
        self.spun.store(spun, Relaxed);
    }

    /// The guest's TSC less the host's, for who wants to see it.
    pub(crate) fn tsc_offset(&self) -> u64 {
        self.tsc_offset.load(Relaxed)
    }

    /// It is another one.
    pub(crate) fn set_tsc_offset(&self, offset: u64) {
        self.tsc_offset.store(offset, Relaxed);
    }

    /// How far ahead of deadlines the local APIC's host timer goes off, in ns, for who wants
    /// to see it.
    pub(crate) fn timer_lead(&self) -> Option<u64> {
        Some(self.timer_lead.load(Relaxed)).filter(|lead| *lead != NO_TIMER)
    }

    /// It goes off so far ahead.
    pub(crate) fn set_timer_lead(&self, ns: u64) {
        self.timer_lead.store(ns, Relaxed);
    }

    /// What belongs to the control block.
    #[inline]
    pub fn control(&self) -> &<V::Control as Control>::Shared {
        &self.control
    }

    /// What the local APIC makes known of itself.
    pub fn published(&self) -> Published {
        Published(self.published.get_acquire())
    }

    /// Whether the local APIC says so of itself: a flag of [`Published`].
    pub(crate) fn has(&self, flag: u64) -> bool {
        self.published.get_acquire() & flag != 0
    }

    /// Messages that it got because it had got the fewest.
    pub(crate) fn arbitrations_won(&self) -> u32 {
        self.arbitrations.load(Relaxed)
    }

    /// It gets another one.
    pub(crate) fn win_arbitration(&self) {
        self.arbitrations.add(1, Relaxed);
    }

    /// Makes known what `new` says, for the vCPU's thread; whether the identity is
    /// another one.
    pub(crate) fn publish(&self, new: Published) -> bool {
        const FLAGS: u64 = Published::ACCEPTS_PIC | Published::LINT0_NMI;
        let old = self.published.get_acquire();
        if old != new.0 {
            self.published.store(new.0, Release);
        }
        (old ^ new.0) & !FLAGS != 0
    }
}
