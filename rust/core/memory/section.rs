// SPDX-License-Identifier: GPL-2.0
//! The map sections of a VM's vCPUs.

use core::sync::atomic::{AtomicU32, Ordering};
use kernel::{error::Result, prelude::*, sync::SetOnce};
use kvm_sys::map_section::MapSection;

const CHUNK: usize = 64;

/// One section for each vCPU, by index. Only grows.
pub(super) struct Sections {
    chunks: [SetOnce<KVec<MapSection>>; CHUNK],
    /// One more than the highest index.
    count: AtomicU32,
}

impl Sections {
    pub(super) const fn new() -> Self {
        Self { chunks: [const { SetOnce::new() }; CHUNK], count: AtomicU32::new(0) }
    }

    /// Makes the section with this index. Not twice at a time for the same chunk.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` for an index that is out of range.
    pub(super) fn add(&self, index: u32) -> Result {
        let chunk = self.chunks.get(index as usize / CHUNK).ok_or(EINVAL)?;
        if chunk.as_ref().is_none() {
            let mut sections = KVec::with_capacity(CHUNK, GFP_KERNEL_ACCOUNT)?;
            for _ in 0..CHUNK {
                sections.push(MapSection::new(), GFP_KERNEL_ACCOUNT)?;
            }
            chunk.populate(sections);
        }
        // A full barrier, so that a waiter who doesn't count the section yet has
        // published before it can be entered.
        self.count.fetch_max(index.saturating_add(1), Ordering::SeqCst);
        Ok(())
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&MapSection> {
        self.chunks.get(index as usize / CHUNK)?.as_ref()?.get(index as usize % CHUNK)
    }

    /// Waits for the end of those that were entered before.
    pub(super) fn wait(&self) {
        for index in 0..self.count.load(Ordering::SeqCst) {
            if let Some(section) = self.get(index) {
                section.wait();
            }
        }
    }
}
