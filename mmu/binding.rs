// SPDX-License-Identifier: GPL-2.0
//! A part of a file of memory that is bound to guest frames.

use crate::addr::{Gfn, PAGE_SHIFT, PAGE_SIZE};

/// Pages of a file and the frames that they are bound to, in the same order.
///
/// # Invariants
///
/// Neither the pages nor the frames wrap around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    first_page: u64,
    first: Gfn,
    frames: u64,
}

impl Binding {
    /// Binds frames from `first` on to the bytes from `offset` on of a file of `size`
    /// bytes; `None` if the offset isn't that of a page or the file ends before.
    pub fn new(first: Gfn, frames: u64, offset: u64, size: u64) -> Option<Self> {
        let first_page = offset >> PAGE_SHIFT;
        let is_aligned = offset & PAGE_SIZE.wrapping_sub(1) == 0;
        first.raw().checked_add(frames)?;
        let end = first_page.checked_add(frames)?;
        // INVARIANT: just checked.
        (is_aligned && end <= size >> PAGE_SHIFT).then_some(Self { first_page, first, frames })
    }

    /// First page behind it.
    const fn end_page(&self) -> u64 {
        self.first_page.saturating_add(self.frames)
    }

    /// Whether both have a page.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.first_page < other.end_page() && other.first_page < self.end_page()
    }

    /// The page that a frame is bound to.
    pub const fn page_of(&self, gfn: Gfn) -> Option<u64> {
        // Below the first frame this wraps around, to more than there are.
        let at = gfn.raw().wrapping_sub(self.first.raw());
        if at >= self.frames {
            return None;
        }
        Some(self.first_page.saturating_add(at))
    }

    /// The frames that are bound to pages from `first` up to `end`: first and first behind.
    pub fn frames_of(&self, first: u64, end: u64) -> Option<(Gfn, Gfn)> {
        let first = first.max(self.first_page);
        let end = end.min(self.end_page());
        let to_frame = |page: u64| {
            let at = page.wrapping_sub(self.first_page);
            Gfn::new(self.first.raw().saturating_add(at))
        };
        (first < end).then(|| (to_frame(first), to_frame(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: u64 = 64 * PAGE_SIZE;

    #[test]
    fn a_binding_lies_in_its_file() {
        let bind = |offset, frames| Binding::new(Gfn::new(0x100), frames, offset, SIZE);
        assert!(bind(0, 64).is_some());
        assert!(bind(63 * PAGE_SIZE, 1).is_some());
        for (offset, frames) in [(0, 65), (PAGE_SIZE, 64), (1, 1), (SIZE, 1)] {
            assert_eq!(bind(offset, frames), None, "{offset:#x} {frames}");
        }
        assert_eq!(bind(u64::MAX & !0xfff, u64::MAX >> PAGE_SHIFT), None);
        assert_eq!(Binding::new(Gfn::new(u64::MAX), 2, 0, SIZE), None);
    }

    proptest! {
        #[test]
        fn frames_and_pages_correspond(
            offset in 0..32_u64, frames in 1..32_u64, first in 0..1000_u64,
            from in 0..80_u64, to in 0..80_u64
        ) {
            let binding = Binding::new(Gfn::new(first), frames, offset * PAGE_SIZE, SIZE).unwrap();
            let found = binding.frames_of(from, to);
            for gfn in 0..1100 {
                let gfn = Gfn::new(gfn);
                let expected = binding.page_of(gfn).is_some_and(|page| from <= page && page < to);
                let is_in = found.is_some_and(|(first, end)| first <= gfn && gfn < end);
                prop_assert_eq!(is_in, expected);
            }
        }

        #[test]
        fn bindings_that_overlap_share_a_page(
            a in 0..20_u64, a_frames in 1..10_u64, b in 0..20_u64, b_frames in 1..10_u64
        ) {
            let bind = |page, frames| {
                Binding::new(Gfn::new(0), frames, page * PAGE_SIZE, SIZE).unwrap()
            };
            let (one, other) = (bind(a, a_frames), bind(b, b_frames));
            let shared = (0..64).any(|page| {
                one.frames_of(page, page + 1).is_some() && other.frames_of(page, page + 1).is_some()
            });
            prop_assert_eq!(one.overlaps(&other), shared);
            prop_assert_eq!(other.overlaps(&one), shared);
        }
    }
}
