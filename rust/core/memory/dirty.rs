// SPDX-License-Identifier: GPL-2.0
//! The dirty log of a slot: one bit for each page that was written to.

use core::sync::atomic::{AtomicU64, Ordering};
use kernel::{error::Result, prelude::*};

/// Pages of one word.
const WORD: u64 = 64;

/// A bit for each page of a slot, set and taken by many at once.
pub(crate) struct DirtyBitmap {
    words: KVVec<AtomicU64>,
}

impl DirtyBitmap {
    /// A bitmap for `frames` pages, all clean or all dirty. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(frames: u64, dirty: bool) -> Result<Self> {
        let count = frames.div_ceil(WORD) as usize;
        let mut words = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        for index in 0..count as u64 {
            let left = frames.saturating_sub(index.saturating_mul(WORD));
            let mask = if left >= WORD { u64::MAX } else { (1_u64 << left).wrapping_sub(1) };
            words.push(AtomicU64::new(if dirty { mask } else { 0 }), GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Self { words })
    }

    /// Sets the bit of the page with this index in the slot.
    #[inline]
    pub(crate) fn set(&self, index: u64) {
        if let Some(word) = self.words.get((index / WORD) as usize) {
            let bit = 1 << (index % WORD);
            // Hot pages are dirty already: don't take the cache line from others.
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::AcqRel);
            }
        }
    }
}
