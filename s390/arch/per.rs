// SPDX-License-Identifier: GPL-2.0
//! Program-event recording (Principles of Operation, "Program-Event Recording").

use crate::psw::Space;

/// Bits of a PER code, which are those of control register 9 as well.
pub mod event {
    /// Successful branching.
    pub const BRANCH: u8 = 0x80;
    /// Instruction fetching.
    pub const FETCH: u8 = 0x40;
    /// Storage alteration.
    pub const STORE: u8 = 0x20;
    /// Store using real address.
    pub const STORE_REAL: u8 = 0x08;
    /// All that are events.
    pub const ALL: u8 = 0xeb;
}

/// Control register 9.
pub mod control {
    use super::event;

    /// Events begin here.
    pub const EVENT_SHIFT: u32 = 24;
    /// Successful branching.
    pub const BRANCH: u64 = (event::BRANCH as u64) << EVENT_SHIFT;
    /// Instruction fetching.
    pub const FETCH: u64 = (event::FETCH as u64) << EVENT_SHIFT;
    /// Storage alteration.
    pub const STORE: u64 = (event::STORE as u64) << EVENT_SHIFT;
    /// An instruction whose fetching is an event isn't executed.
    pub const NULLIFICATION: u64 = 0x0100_0000;
    /// Branches count only if they lead into the range.
    pub const BRANCH_ADDRESS: u64 = 0x0080_0000;
    /// Stores count only in spaces that ask for it.
    pub const ALTERATION: u64 = 0x0020_0000;
}

/// The events in a control register 9.
pub const fn events(control: u64) -> u8 {
    (control >> control::EVENT_SHIFT) as u8 & event::ALL
}

/// Addresses from control register 10 up to and with control register 11, which may
/// be over the end of all addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First.
    pub first: u64,
    /// Last.
    pub last: u64,
}

impl Range {
    /// All addresses.
    pub const ALL: Self = Self { first: 0, last: u64::MAX };

    /// `length` bytes, at least one.
    pub const fn new(first: u64, length: u64) -> Self {
        Self { first, last: first.saturating_add(length.saturating_sub(1)) }
    }

    /// Whether an address is in it.
    pub const fn contains(self, address: u64) -> bool {
        if self.first <= self.last {
            self.first <= address && address <= self.last
        } else {
            self.first <= address || address <= self.last
        }
    }

    /// A range with all of two.
    pub fn cover(self, other: Self) -> Self {
        if self.first > self.last || other.first > other.last {
            return Self::ALL;
        }
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

/// Where the target of an EXECUTE instruction, whose bytes these are, lies; `None` if it
/// is another instruction. `at` is its own address.
pub fn executed(bytes: [u8; 6], at: u64, registers: &[u64; 16]) -> Option<u64> {
    const EXECUTE: u8 = 0x44;
    const EXECUTE_RELATIVE: u8 = 0xc6;
    let [first, second, third, fourth, fifth, sixth] = bytes;
    let register = |number: u8| match number & 15 {
        0 => 0,
        number => registers.get(usize::from(number)).copied().unwrap_or(0),
    };
    if first == EXECUTE {
        let displacement = u64::from(third & 15) << 8 | u64::from(fourth);
        let base = register(third >> 4);
        return Some(base.wrapping_add(register(second)).wrapping_add(displacement));
    }
    if first == EXECUTE_RELATIVE && second & 15 == 0 {
        let halfwords = i32::from_be_bytes([third, fourth, fifth, sixth]);
        return Some(at.wrapping_add_signed(i64::from(halfwords).wrapping_mul(2)));
    }
    None
}

/// Whether a space-switch event is the guest's own: PER of the host makes all
/// instructions that might switch spaces report one. `space` is the one after it, `word`
/// what the interruption stored.
pub fn is_space_switch(space: Space, word: u64, cr1: u64, cr13: u64) -> bool {
    const EVENT: u64 = 0x40;
    let (primary, home) = (cr1 & EVENT != 0, cr13 & EVENT != 0);
    let (was_home, had_primary) = (word & 0xffff == 0, word >> 31 & 1 != 0);
    let is_home = space == Space::Home;
    if is_home != was_home && (primary || home) {
        return true;
    }
    space == Space::Primary && !was_home && (primary || had_primary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let range = Range::new(0x1000, 4);
        assert!(range.contains(0x1003) && !range.contains(0x1004));
        let over = Range { first: 0xff00, last: 0xff };
        assert!(over.contains(0) && over.contains(u64::MAX) && !over.contains(0x1000));
        assert_eq!(range.cover(Range::new(0x800, 1)), Range { first: 0x800, last: 0x1003 });
        assert_eq!(range.cover(over), Range::ALL);
        assert_eq!(Range::new(5, 0), Range { first: 5, last: 5 });
        assert_eq!(Range::new(u64::MAX, 8).last, u64::MAX);
    }

    #[test]
    fn targets_of_execute() {
        let mut registers = [0; 16];
        registers[1] = 0x100;
        registers[5] = 0x2000;
        // EX %r3,0x34(%r1,%r5)
        assert_eq!(executed([0x44, 0x31, 0x50, 0x34, 0, 0], 0, &registers), Some(0x2134));
        // EXRL %r0,.-8
        let bytes = [0xc6, 0, 0xff, 0xff, 0xff, 0xfc];
        assert_eq!(executed(bytes, 0x1000, &registers), Some(0xff8));
        assert_eq!(executed([0xc6, 0x02, 0, 0, 0, 0], 0x1000, &registers), None);
    }

    #[test]
    fn space_switches() {
        const EVENT: u64 = 0x40;
        // From primary to home.
        assert!(is_space_switch(Space::Home, 1, EVENT, 0));
        assert!(!is_space_switch(Space::Home, 1, 0, 0));
        // From primary to primary.
        assert!(is_space_switch(Space::Primary, 1 << 31 | 1, 0, 0));
        assert!(!is_space_switch(Space::Primary, 1, 0, EVENT));
    }
}
