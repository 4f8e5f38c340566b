// SPDX-License-Identifier: GPL-2.0
//! The system control area: what all CPUs of a guest have in common for SIE.
//!
//! Its first word is the interlock between CPUs of the guest that invalidate entries of
//! its tables (IPTE, IDTE, CSP) and a host that goes by these entries. While the host
//! holds it, SIE comes out for such an instruction.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};
use static_assertions::const_assert_eq;

/// What the interlock is like on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One bit, with which CPUs of the guest exclude each other as well.
    Bit,
    /// A bit for the host with the number of its holders, and the number of the guest's
    /// CPUs that are at it (SIE-interlock facility).
    Counted,
}

/// The interlock.
#[repr(transparent)]
#[derive(Debug)]
pub struct Interlock(AtomicU64);

impl Interlock {
    /// Somebody has it; with counts: the host.
    const HELD: u64 = 1 << 63;
    /// One holder of the host.
    const HOLDER: u64 = 1 << 32;
    /// CPUs of the guest.
    const GUEST: u64 = 0xffff_ffff;

    /// A free one.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Takes it for the host, which doesn't hold it; whether no CPU of the guest was at it.
    pub fn try_take(&self, kind: Kind) -> bool {
        let (busy, add) = match kind {
            Kind::Bit => (Self::HELD, Self::HELD),
            Kind::Counted => (Self::GUEST, Self::HELD | Self::HOLDER),
        };
        let take = |old: u64| (old & busy == 0).then_some(old | add);
        self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, take).is_ok()
    }

    /// Takes it for the host whoever has it, where it is a bit.
    pub fn seize(&self) {
        self.0.fetch_or(Self::HELD, Ordering::Acquire);
    }

    /// Gives it back.
    pub fn release(&self, kind: Kind) {
        let remove = match kind {
            Kind::Bit => Self::HELD,
            Kind::Counted => Self::HELD | Self::HOLDER,
        };
        self.0.fetch_and(!remove, Ordering::Release);
    }
}

impl Default for Interlock {
    fn default() -> Self {
        Self::new()
    }
}

/// The area. Behind its head come an entry for each CPU, and before that a bit for each
/// entry that is in use; none are, as long as SIE interprets no SIGNAL PROCESSOR.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct SystemControlArea {
    /// The interlock.
    pub interlock: Interlock,
    /// The rest of the head: reserved, what the topology is, bits for entries.
    head: [u8; 248],
    /// Entries of the extended form. The basic one is shorter, and as empty.
    entries: [[u8; 64]; ENTRIES],
    reserved: [u8; 256],
}

/// Entries of an extended area.
pub const ENTRIES: usize = 248;

const_assert_eq!(offset_of!(SystemControlArea, entries), 0x100);
const_assert_eq!(size_of::<SystemControlArea>(), 0x4000);

#[cfg(test)]
mod tests {
    use super::*;

    fn value(lock: &Interlock) -> u64 {
        lock.0.load(Ordering::Relaxed)
    }

    #[test]
    fn the_host_takes_and_gives_back() {
        for (kind, held) in [(Kind::Bit, 1 << 63), (Kind::Counted, 1 << 63 | 1 << 32)] {
            let lock = Interlock::new();
            assert!(lock.try_take(kind));
            assert_eq!(value(&lock), held, "{kind:?}");
            lock.release(kind);
            assert_eq!(value(&lock), 0, "{kind:?}");
        }
    }

    #[test]
    fn a_bit_of_the_guest_keeps_the_host_out_unless_it_insists() {
        let lock = Interlock(AtomicU64::new(1 << 63));
        assert!(!lock.try_take(Kind::Bit));
        lock.seize();
        lock.release(Kind::Bit);
        assert_eq!(value(&lock), 0);
    }

    #[test]
    fn cpus_of_the_guest_keep_the_host_out_and_are_left_alone() {
        let lock = Interlock(AtomicU64::new(2));
        assert!(!lock.try_take(Kind::Counted));
        assert_eq!(value(&lock), 2);
        // They are done; more come while the host holds it, as the machine may count them.
        lock.0.store(0, Ordering::Relaxed);
        assert!(lock.try_take(Kind::Counted));
        lock.0.fetch_add(1, Ordering::Relaxed);
        lock.release(Kind::Counted);
        assert_eq!(value(&lock), 1);
    }
}
