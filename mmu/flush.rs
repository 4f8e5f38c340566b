// SPDX-License-Identifier: GPL-2.0
//! What the TLBs still owe: translations that were removed from the tables and
//! may still be cached.

use crate::addr::Gfn;

/// A range of guest frames whose old translations have to be flushed before
/// anything relies on their being gone: before a notifier returns, before a
/// retired table is freed, before a dirty bitmap goes to userspace.
///
/// Ranges are merged into one that covers all: processors flush a whole guest or
/// single pages, and more than a few pages means the whole guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "stale translations stay in the TLBs until this is flushed"]
pub struct FlushDebt {
    /// First frame and first frame behind; nothing is owed if they are equal.
    first: u64,
    end: u64,
}

impl FlushDebt {
    /// Nothing owed.
    pub const NONE: Self = Self { first: 0, end: 0 };

    /// So many frames from `first` on.
    #[inline]
    pub const fn frames(first: Gfn, count: u64) -> Self {
        Self { first: first.raw(), end: first.raw().saturating_add(count) }
    }

    /// Whether nothing is owed.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.first == self.end
    }

    /// What both owe.
    #[inline]
    pub fn merge(self, other: Self) -> Self {
        if self.is_none() {
            return other;
        }
        if other.is_none() {
            return self;
        }
        Self { first: self.first.min(other.first), end: self.end.max(other.end) }
    }

    /// First frame and number of frames, `None` if nothing is owed.
    #[inline]
    pub fn range(self) -> Option<(Gfn, u64)> {
        (!self.is_none()).then(|| (Gfn::new(self.first), self.end.saturating_sub(self.first)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_covers_both() {
        let a = FlushDebt::frames(Gfn::new(0x201), 1);
        let b = FlushDebt::frames(Gfn::new(0x600), 0x200);
        assert_eq!(a.merge(b).range(), Some((Gfn::new(0x201), 0x5ff)));
        assert_eq!(a.merge(FlushDebt::NONE), a);
        assert_eq!(FlushDebt::NONE.merge(b), b);
        assert_eq!(FlushDebt::NONE.range(), None);
    }
}
