// SPDX-License-Identifier: GPL-2.0
//! The part of an x86 vCPU that any thread may reach at any time.

use kernel::{prelude::*, sync::Arc};
use kvm_irqchip::lapic::{Acceptance, Events, Inbox, Posted};
use kvm_sys::kick::Kick;

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
    pub fn post(&self, acceptance: Acceptance) -> Posted {
        self.kicked(self.inbox.post(acceptance))
    }

    /// Leaves events and gets the vCPU's attention.
    pub fn post_events(&self, events: Events) -> Posted {
        self.kicked(self.inbox.post_events(events))
    }

    fn kicked(&self, posted: Posted) -> Posted {
        if posted == Posted::Kick {
            self.kick.kick();
        }
        posted
    }
}

/// The shared part.
#[pin_data]
pub struct Shared {
    mailbox: Mailbox,
}

impl Shared {
    /// That of a new vCPU.
    pub(crate) fn new(kick: Arc<Kick>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self { mailbox: Mailbox { inbox: Inbox::new(), kick } })
    }

    /// Where interrupts for it are left.
    #[inline]
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }
}
