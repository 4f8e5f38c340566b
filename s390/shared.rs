// SPDX-License-Identifier: GPL-2.0
//! The part of a vCPU that any thread may reach at any time.

use crate::{
    floating::{Glance, Sleeping},
    pfault::Pages,
};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        Arc, SpinLock,
    },
};
use kvm_sys::{
    kick::Kick,
    timer::{Expire, Timer},
};
use s390_arch::pending::{Gate, Kinds, Local, Stop};

/// Wakes a vCPU whose clock comparator is due.
pub(crate) struct Alarm {
    kick: Arc<Kick>,
    /// There is something that the vCPU hasn't looked at.
    news: Atomic<bool>,
}

impl Alarm {
    fn tell(&self) {
        self.news.store(true, Release);
        // The barrier inside orders this before the look at where the vCPU is.
        self.kick.kick();
    }
}

impl Expire for Alarm {
    fn expired(&self) -> Option<i64> {
        self.tell();
        None
    }
}

/// The shared part.
///
/// The lock is taken in task context only.
#[pin_data]
pub(crate) struct Shared {
    /// The vCPU's thread alone sets it.
    #[pin]
    alarm: Timer<Alarm>,
    #[pin]
    local: SpinLock<Local>,
    /// Pages that take I/O.
    #[pin]
    pages: Pages,
    sleeping: Sleeping,
    /// What its SIE block has, for those who want to reach the prefix's pages.
    prefix: Atomic<u32>,
    stopped: Atomic<bool>,
    /// It is in SIE, or its thread handles something for it.
    running: Atomic<bool>,
}

impl Shared {
    /// That of a new vCPU, which is stopped.
    pub(crate) fn new(kick: Arc<Kick>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            alarm <- Timer::new(Alarm { kick, news: Atomic::new(false) }),
            local <- new_spinlock!(Local::new(), "kvm_s390_local"),
            pages <- Pages::new(),
            sleeping: Sleeping::awake(),
            prefix: Atomic::new(0),
            stopped: Atomic::new(true),
            running: Atomic::new(false),
        })
    }

    /// Whether something came that the vCPU hasn't looked at.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.alarm.news.load(Acquire)
    }

    /// As above; they are none after this. What came before is visible.
    #[inline]
    pub(crate) fn take_news(&self) -> bool {
        self.has_news() && self.alarm.news.xchg(false, Full)
    }

    /// There is something to look at; gets the vCPU's attention.
    pub(crate) fn tell(&self) {
        self.alarm.tell();
    }

    /// Changes what waits for this vCPU, without its being told.
    pub(crate) fn with_local<R>(&self, change: impl FnOnce(&mut Local) -> R) -> R {
        change(&mut self.local.lock())
    }

    /// Adds interruptions, and gets the vCPU's attention if `change` says so.
    pub(crate) fn post(&self, change: impl FnOnce(&mut Local) -> bool) -> bool {
        let added = self.with_local(change);
        if added {
            self.tell();
        }
        added
    }

    /// Asks it to stop; whether that wasn't asked for already.
    pub(crate) fn post_stop(&self, store_status: bool) -> bool {
        self.post(|local| {
            let is_new = !local.kinds.contains(Kinds::STOP);
            if is_new {
                local.kinds |= Kinds::STOP;
                local.stop = Stop { store_status };
            }
            is_new
        })
    }

    /// Adds an external call of the CPU `caller`; whether none waited already.
    pub(crate) fn post_external_call(&self, caller: u16) -> bool {
        self.post(|local| {
            let is_new = !local.kinds.contains(Kinds::EXTERNAL_CALL);
            if is_new {
                local.kinds |= Kinds::EXTERNAL_CALL;
                local.external_call = caller;
            }
            is_new
        })
    }

    /// Pages that take I/O, which the vCPU doesn't wait for.
    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// The kinds of interruptions that wait.
    pub(crate) fn kinds(&self) -> Kinds {
        self.local.lock().kinds
    }

    /// Sleeps, with the masks that it has.
    pub(crate) fn sleep(&self, gate: &Gate) {
        self.sleeping.sleep(gate);
    }

    /// Doesn't sleep any more.
    pub(crate) fn wake(&self) {
        self.sleeping.wake();
    }

    /// Whether it sleeps and would take something of what waits for any CPU.
    pub(crate) fn would_take(&self, glance: Glance) -> bool {
        self.sleeping.would_take(glance)
    }

    /// The timer of the clock comparator, for the vCPU's thread.
    pub(crate) fn alarm(&self) -> &Timer<Alarm> {
        &self.alarm
    }

    /// The prefix.
    #[inline]
    pub(crate) fn prefix(&self) -> u32 {
        self.prefix.load(Relaxed)
    }

    /// Notes the prefix. A vCPU maps its pages after it did this.
    pub(crate) fn set_prefix(&self, prefix: u32) {
        let _ = self.prefix.xchg(prefix, Full);
    }

    /// Whether it is stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Acquire)
    }

    /// Notes whether it is.
    pub(crate) fn set_stopped(&self, stopped: bool) {
        self.stopped.store(stopped, Release);
    }

    /// Whether its thread runs it.
    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Relaxed)
    }

    /// Notes whether it does.
    pub(crate) fn set_running(&self, running: bool) {
        self.running.store(running, Relaxed);
    }
}
