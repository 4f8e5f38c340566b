// SPDX-License-Identifier: GPL-2.0
//! What each vCPU has for mapping: its map section, its count of mappings, and its dirty
//! ring.

use crate::{
    dirty_ring::DirtyRing,
    vcpu::{CHUNK, CHUNKS},
};
use core::{
    array,
    sync::atomic::{AtomicI64, AtomicU32, Ordering},
};
use kernel::{
    error::Result,
    prelude::*,
    sync::{Arc, SetOnce},
};
use kvm_paging::map::Sizes;
use kvm_sys::map_section::MapSection;

type Chunk = [Own; CHUNK];

/// One vCPU's, on a cache line of its own.
#[repr(align(64))]
pub(super) struct Own {
    section: MapSection,
    /// Mappings that it made, by size. Only it writes.
    made: [AtomicI64; 3],
    /// Where its writes are noted, if not in the slots' bitmaps.
    ring: SetOnce<Arc<DirtyRing>>,
}

impl Own {
    const fn new() -> Self {
        Self {
            section: MapSection::new(),
            made: [const { AtomicI64::new(0) }; 3],
            ring: SetOnce::new(),
        }
    }

    #[inline]
    pub(super) fn section(&self) -> &MapSection {
        &self.section
    }

    #[inline]
    pub(super) fn ring(&self) -> Option<&Arc<DirtyRing>> {
        self.ring.as_ref()
    }

    /// The vCPU has a ring. Once.
    pub(super) fn set_ring(&self, ring: Arc<DirtyRing>) {
        self.ring.populate(ring);
    }

    /// Counts what the vCPU itself made.
    #[inline]
    pub(super) fn count(&self, sizes: &Sizes) {
        for (sum, change) in self.made.iter().zip(sizes.changes) {
            sum.store(sum.load(Ordering::Relaxed).wrapping_add(change), Ordering::Relaxed);
        }
    }
}

/// What the vCPUs of a VM have, by index. Only grows.
pub(crate) struct Sections {
    chunks: [SetOnce<KBox<Chunk>>; CHUNKS],
    /// One more than the highest index.
    count: AtomicU32,
    /// Mappings that went, by size, as negative numbers.
    gone: [AtomicI64; 3],
}

impl Sections {
    pub(super) const fn new() -> Self {
        Self {
            chunks: [const { SetOnce::new() }; CHUNKS],
            count: AtomicU32::new(0),
            gone: [const { AtomicI64::new(0) }; 3],
        }
    }

    /// Makes the section with this index. Not twice at a time for the same chunk.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` for an index that is out of range.
    pub(super) fn add(&self, index: u32) -> Result {
        let chunk = self.chunks.get(index as usize / CHUNK).ok_or(EINVAL)?;
        if chunk.as_ref().is_none() {
            let sections = KBox::new([const { Own::new() }; CHUNK], GFP_KERNEL_ACCOUNT)?;
            chunk.populate(sections);
        }
        // A full barrier, so that a waiter who doesn't count the section yet has
        // published before it can be entered.
        self.count.fetch_max(index.saturating_add(1), Ordering::SeqCst);
        Ok(())
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&Own> {
        self.chunks.get(index as usize / CHUNK)?.as_ref()?.get(index as usize % CHUNK)
    }

    /// All of them.
    fn iter(&self) -> impl Iterator<Item = &Own> {
        (0..self.count.load(Ordering::SeqCst)).filter_map(|index| self.get(index))
    }

    /// Waits for the end of those that were entered before.
    pub(super) fn wait(&self) {
        self.iter().for_each(|own| own.section.wait());
    }

    /// Counts mappings that went.
    pub(super) fn count_gone(&self, sizes: &Sizes) {
        for (sum, change) in self.gone.iter().zip(sizes.changes) {
            if change != 0 {
                sum.fetch_add(change, Ordering::Relaxed);
            }
        }
    }

    /// Mappings of 4 KiB, 2 MiB and 1 GiB that there are. Approximate while they
    /// change.
    pub(crate) fn mappings(&self) -> [u64; 3] {
        array::from_fn(|size| {
            let of = |counts: &[AtomicI64; 3]| {
                counts.get(size).map_or(0, |count| count.load(Ordering::Relaxed))
            };
            let made = self.iter().fold(0_i64, |sum, own| sum.wrapping_add(of(&own.made)));
            u64::try_from(made.wrapping_add(of(&self.gone))).unwrap_or(0)
        })
    }
}
