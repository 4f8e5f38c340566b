// SPDX-License-Identifier: GPL-2.0
//! The restart protocol of accesses that leave the kernel: [`Replay`].
//!
//! An access to a device's memory or port may need user space. The owner's
//! [`Cpu`](crate::Cpu) method records it, returns
//! [`Stop::NeedsExit`](crate::Stop::NeedsExit), and everything done so far is
//! forgotten except what `Replay` holds. When user space has answered, the
//! owner completes the fragment and executes the same instruction again: it
//! makes the same accesses in the same order, and those that were done are
//! answered from here. A committed iteration of a repeated instruction, or the
//! end of the instruction, empties the cache.

/// Fragments of at most this many bytes travel to user space.
pub const FRAGMENT_BYTES: usize = 8;
/// Fragments that one instruction (or iteration) can make: FXSAVE-like
/// accesses aside, two operands of 32 bytes.
pub const MAX_FRAGMENTS: usize = 16;

/// What kind of access a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FragmentKind {
    /// Read of device memory.
    MmioRead,
    /// Write of device memory.
    MmioWrite,
    /// IN.
    PortIn,
    /// OUT.
    PortOut,
}

impl FragmentKind {
    /// Whether user space supplies the data.
    pub const fn is_read(self) -> bool {
        matches!(self, Self::MmioRead | Self::PortIn)
    }
}

/// One access of up to eight bytes within a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Kind.
    pub kind: FragmentKind,
    /// Physical address, or port.
    pub addr: u64,
    /// Bytes, 1 to 8.
    pub len: u8,
    /// Data, low bytes first: to be written, or filled in by the answer.
    pub data: u64,
}

/// What to do with an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It was done before; reads returned this.
    Done(u64),
    /// It is recorded as pending: return [`Stop::NeedsExit`](crate::Stop::NeedsExit).
    Exit,
    /// Too many fragments: an emulation failure.
    Full,
}

/// Completed and pending fragments of the instruction under way.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    done: [Fragment; MAX_FRAGMENTS],
    count: usize,
    cursor: usize,
    pending: Option<Fragment>,
}

const EMPTY: Fragment = Fragment { kind: FragmentKind::MmioRead, addr: 0, len: 0, data: 0 };

impl Default for Replay {
    fn default() -> Self {
        Self::new()
    }
}

impl Replay {
    /// An empty cache.
    pub const fn new() -> Self {
        Self { done: [EMPTY; MAX_FRAGMENTS], count: 0, cursor: 0, pending: None }
    }

    /// To be called before each execution of the instruction.
    pub fn rewind(&mut self) {
        self.cursor = 0;
        self.pending = None;
    }

    /// Forgets everything: the instruction or iteration was committed, or another begins.
    pub fn clear(&mut self) {
        self.count = 0;
        self.rewind();
    }

    /// The access that the last execution stopped at.
    pub fn pending(&self) -> Option<&Fragment> {
        self.pending.as_ref()
    }

    /// Whether anything was completed: the instruction can't be abandoned silently.
    pub fn in_progress(&self) -> bool {
        self.count != 0
    }

    /// Answers an access from the cache or makes it pending.
    ///
    /// An access that differs from the recorded one at this place (memory changed
    /// in between) drops the rest of the record.
    pub fn next(&mut self, access: Fragment) -> Next {
        if self.cursor < self.count {
            let same = |f: &&Fragment| {
                f.kind == access.kind && f.addr == access.addr && f.len == access.len
            };
            if let Some(found) = self.done.get(self.cursor).filter(same) {
                self.cursor = self.cursor.wrapping_add(1);
                return Next::Done(found.data);
            }
            self.count = self.cursor;
        }
        if self.count >= MAX_FRAGMENTS {
            return Next::Full;
        }
        self.pending = Some(access);
        Next::Exit
    }

    /// Takes the answer to the pending access; `data` counts for reads.
    pub fn complete(&mut self, data: u64) {
        let Some(mut fragment) = self.pending.take() else { return };
        if fragment.kind.is_read() {
            fragment.data = data;
        }
        if let Some(slot) = self.done.get_mut(self.count) {
            *slot = fragment;
            self.count = self.count.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replays_in_order_and_drops_what_differs() {
        let mut r = Replay::new();
        let a = Fragment { kind: FragmentKind::MmioRead, addr: 0x1000, len: 4, data: 0 };
        let b = Fragment { kind: FragmentKind::MmioWrite, addr: 0x2000, len: 4, data: 7 };
        assert_eq!(r.next(a), Next::Exit);
        r.complete(42);
        r.rewind();
        assert_eq!(r.next(a), Next::Done(42));
        assert_eq!(r.next(b), Next::Exit);
        assert_eq!(r.pending(), Some(&b));
        r.complete(0);
        r.rewind();
        assert_eq!(r.next(a), Next::Done(42));
        assert_eq!(r.next(Fragment { addr: 0x3000, ..b }), Next::Exit);
        r.clear();
        assert!(!r.in_progress());
    }
}
