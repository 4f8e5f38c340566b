// SPDX-License-Identifier: GPL-2.0
//! [`Inbox`]: the lock-free half of a local APIC that any thread may reach.
//!
//! Senders post, the vCPU's own thread harvests; the registers proper belong to
//! that thread alone. The inbox has the shape of a posted-interrupt descriptor:
//! a bit for each vector, and one word that says whether there is anything.
//!
//! Order: a sender sets the vector's bit first and the summary in `attention`
//! after it; the owner clears the summary first and takes the bits after it.
//! A bit set too late for one harvest thus always leaves its summary for the
//! next one. All orderings are acquire/release on the words concerned.
//!
//! Waking: only the sender that finds the inbox empty kicks ([`Posted::Kick`]).
//! That is enough as long as the owner never enters the guest or goes to sleep
//! with something in the inbox: it announces that it is about to, then (after a
//! full barrier) looks at [`Inbox::is_empty`], and harvests again if it isn't.

use super::identity::Acceptance;
use crate::message::Trigger;
use crate::vectors::{VectorSet, WORDS};
use bitflags::bitflags;
use core::sync::atomic::{AtomicU32, Ordering};

/// Events other than vectors that wait in an inbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(u32);

bitflags! {
    impl Events: u32 {
        /// INIT arrived.
        const INIT = 1 << 16;
        /// A start-up message arrived after the last INIT.
        const STARTUP = 1 << 17;
        /// NMI.
        const NMI = 1 << 18;
        /// SMI.
        const SMI = 1 << 19;
        /// Wake up from HLT.
        const UNHALT = 1 << 20;
        /// The host timer that the owner programmed for this APIC went off.
        const TIMER = 1 << 21;
        /// A message with a vector below 16 arrived.
        const ILLEGAL_VECTOR = 1 << 22;
        /// Ask the 8259 again.
        const EXTINT = 1 << 23;
    }
}

mod spec {
    /// Bits 7:0 of `attention`: which vector words are filled.
    pub(super) const WORDS: u32 = 0xff;
    /// Bits 15:8: the page of the start-up message.
    pub(super) const STARTUP_SHIFT: u32 = 8;
    pub(super) const STARTUP_PAGE: u32 = 0xff << STARTUP_SHIFT;
}

/// What posting did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Posted {
    /// Nothing: not accepted, or accepted without any effect.
    Dropped,
    /// The vector or event was waiting already.
    Coalesced,
    /// Queued behind something whose sender is to wake the vCPU.
    Queued,
    /// The first thing in the inbox: the vCPU is to be kicked.
    Kick,
}

/// What senders leave for a vCPU.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Summary of the words, start-up page and events; zero when idle.
    attention: AtomicU32,
    requests: [AtomicU32; WORDS],
    level: [AtomicU32; WORDS],
}

/// What the owner found besides vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Harvest {
    /// The events.
    pub events: Events,
    /// Page of the last start-up message, with [`Events::STARTUP`].
    pub startup_page: u8,
}

impl Inbox {
    /// An empty inbox.
    pub const fn new() -> Self {
        Self {
            attention: AtomicU32::new(0),
            requests: [const { AtomicU32::new(0) }; WORDS],
            level: [const { AtomicU32::new(0) }; WORDS],
        }
    }

    /// Whether there is nothing to harvest.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.attention.load(Ordering::Acquire) == 0
    }

    /// The events that wait, without taking them (for deciding whether a halted
    /// vCPU has a reason to run).
    pub fn peek(&self) -> Events {
        Events::from_bits_truncate(self.attention.load(Ordering::Acquire))
    }

    /// Posts an interrupt vector.
    #[inline]
    pub fn post_vector(&self, vector: u8, trigger: Trigger) -> Posted {
        let index = usize::from(vector >> 5);
        let bit = 1u32.wrapping_shl(u32::from(vector));
        let (Some(request), Some(level)) = (self.requests.get(index), self.level.get(index)) else {
            return Posted::Dropped;
        };
        // The trigger mode counts from the moment the request is visible, so it
        // goes first. It seldom differs from the last time.
        let is_level = trigger == Trigger::Level;
        if (level.load(Ordering::Relaxed) & bit != 0) != is_level {
            if is_level {
                level.fetch_or(bit, Ordering::Relaxed);
            } else {
                level.fetch_and(!bit, Ordering::Relaxed);
            }
        }
        if request.fetch_or(bit, Ordering::AcqRel) & bit != 0 {
            return Posted::Coalesced;
        }
        let before = self.attention.fetch_or(1u32.wrapping_shl(index as u32), Ordering::AcqRel);
        if before == 0 {
            Posted::Kick
        } else {
            Posted::Queued
        }
    }

    /// Posts events. INIT and STARTUP have an order of their own and go through
    /// [`Inbox::post`].
    pub fn post_events(&self, events: Events) -> Posted {
        let before = self.attention.fetch_or(events.bits(), Ordering::AcqRel);
        if before == 0 {
            Posted::Kick
        } else if before & events.bits() == events.bits() {
            Posted::Coalesced
        } else {
            Posted::Queued
        }
    }

    /// Posts what a message was accepted as.
    #[inline]
    pub fn post(&self, acceptance: Acceptance) -> Posted {
        match acceptance {
            Acceptance::Vector(vector, trigger) => self.post_vector(vector, trigger),
            Acceptance::Ignored => Posted::Dropped,
            Acceptance::IllegalVector => self.post_events(Events::ILLEGAL_VECTOR),
            Acceptance::Smi => self.post_events(Events::SMI),
            Acceptance::Nmi => self.post_events(Events::NMI),
            Acceptance::Unhalt => self.post_events(Events::UNHALT),
            Acceptance::ExtInt => self.post_events(Events::EXTINT),
            // INIT voids a start-up message that came before it.
            Acceptance::Init => {
                self.update(|old| old & !Events::STARTUP.bits() | Events::INIT.bits())
            }
            Acceptance::Startup(page) => self.update(|old| {
                old & !spec::STARTUP_PAGE
                    | u32::from(page) << spec::STARTUP_SHIFT
                    | Events::STARTUP.bits()
            }),
        }
    }

    fn update(&self, change: impl Fn(u32) -> u32) -> Posted {
        let old = self
            .attention
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| Some(change(old)))
            .unwrap_or_else(|old| old);
        if old == 0 {
            Posted::Kick
        } else if old == change(old) {
            Posted::Coalesced
        } else {
            Posted::Queued
        }
    }

    /// Takes everything: vectors into `irr` (their trigger modes into `tmr`),
    /// the rest as the result. For the vCPU's thread.
    #[inline]
    pub fn harvest(&self, irr: &mut VectorSet, tmr: &mut VectorSet) -> Harvest {
        if self.is_empty() {
            return Harvest::default();
        }
        let attention = self.attention.swap(0, Ordering::AcqRel);
        for index in 0..WORDS {
            if attention & spec::WORDS & 1u32.wrapping_shl(index as u32) != 0 {
                self.harvest_word(index, irr, tmr);
            }
        }
        Harvest {
            events: Events::from_bits_truncate(attention),
            startup_page: (attention >> spec::STARTUP_SHIFT) as u8,
        }
    }

    fn harvest_word(&self, index: usize, irr: &mut VectorSet, tmr: &mut VectorSet) {
        let (Some(request), Some(level)) = (self.requests.get(index), self.level.get(index)) else {
            return;
        };
        let new = request.swap(0, Ordering::AcqRel);
        irr.merge_word(index, new);
        tmr.set_word(index, tmr.word(index) & !new | level.load(Ordering::Relaxed) & new);
    }

    /// Empties the inbox of vectors, at a reset. Events stay.
    pub fn discard_vectors(&self) {
        self.attention.fetch_and(!spec::WORDS, Ordering::AcqRel);
        for request in &self.requests {
            request.store(0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::{thread, vec::Vec};

    #[test]
    fn first_post_kicks() {
        let inbox = Inbox::new();
        assert!(inbox.is_empty());
        assert_eq!(inbox.post_vector(0x31, Trigger::Level), Posted::Kick);
        assert_eq!(inbox.post_vector(0x31, Trigger::Level), Posted::Coalesced);
        assert_eq!(inbox.post_vector(0x41, Trigger::Edge), Posted::Queued);
        assert_eq!(inbox.post(Acceptance::Nmi), Posted::Queued);
        assert_eq!(inbox.post(Acceptance::Nmi), Posted::Coalesced);
        let (mut irr, mut tmr) = (VectorSet::EMPTY, VectorSet::EMPTY);
        tmr.insert(0x41);
        tmr.insert(0x50);
        let harvest = inbox.harvest(&mut irr, &mut tmr);
        assert_eq!(harvest.events, Events::NMI);
        assert!(irr.contains(0x31) && irr.contains(0x41));
        assert!(tmr.contains(0x31) && !tmr.contains(0x41) && tmr.contains(0x50));
        assert!(inbox.is_empty());
        assert_eq!(inbox.harvest(&mut irr, &mut tmr), Harvest::default());
    }

    #[test]
    fn init_voids_an_earlier_startup() {
        let inbox = Inbox::new();
        let (mut irr, mut tmr) = (VectorSet::EMPTY, VectorSet::EMPTY);
        let _ = inbox.post(Acceptance::Startup(0x11));
        let _ = inbox.post(Acceptance::Init);
        assert_eq!(inbox.harvest(&mut irr, &mut tmr).events, Events::INIT);
        assert_eq!(inbox.post(Acceptance::Init), Posted::Kick);
        assert_eq!(inbox.post(Acceptance::Startup(0x12)), Posted::Queued);
        assert_eq!(inbox.post(Acceptance::Startup(0x13)), Posted::Queued);
        let harvest = inbox.harvest(&mut irr, &mut tmr);
        assert_eq!(harvest.events, Events::INIT | Events::STARTUP);
        assert_eq!(harvest.startup_page, 0x13);
    }

    #[test]
    fn discard_keeps_events() {
        let inbox = Inbox::new();
        let _ = inbox.post_vector(0x31, Trigger::Edge);
        let _ = inbox.post(Acceptance::Smi);
        inbox.discard_vectors();
        let (mut irr, mut tmr) = (VectorSet::EMPTY, VectorSet::EMPTY);
        assert_eq!(inbox.harvest(&mut irr, &mut tmr).events, Events::SMI);
        assert!(irr.is_empty());
    }

    /// Every vector that was not coalesced is harvested, whatever the threads do.
    #[test]
    fn nothing_is_lost_between_threads() {
        static INBOX: Inbox = Inbox::new();
        static SENT: AtomicUsize = AtomicUsize::new(0);
        static DONE: AtomicBool = AtomicBool::new(false);
        let senders: Vec<_> = (0..3u8)
            .map(|n| {
                thread::spawn(move || {
                    for round in 0..20_000u32 {
                        let vector = (round as u8).wrapping_mul(7).wrapping_add(n);
                        match INBOX.post_vector(vector, Trigger::Edge) {
                            Posted::Kick | Posted::Queued => SENT.fetch_add(1, Ordering::Relaxed),
                            _ => 0,
                        };
                    }
                })
            })
            .collect();
        let owner = thread::spawn(|| {
            let mut seen = 0;
            loop {
                let last = DONE.load(Ordering::Acquire);
                let (mut irr, mut tmr) = (VectorSet::EMPTY, VectorSet::EMPTY);
                INBOX.harvest(&mut irr, &mut tmr);
                seen += (0..=255).filter(|v| irr.contains(*v)).count();
                if last {
                    return seen;
                }
            }
        });
        for sender in senders {
            sender.join().unwrap();
        }
        DONE.store(true, Ordering::Release);
        assert_eq!(owner.join().unwrap(), SENT.load(Ordering::Relaxed));
    }
}
