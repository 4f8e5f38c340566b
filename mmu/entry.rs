// SPDX-License-Identifier: GPL-2.0
//! One entry of a second-level table, and what a leaf says.

use crate::addr::Pfn;

/// What a mapping lets the guest do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(u8);

bitflags::bitflags! {
    impl Access: u8 {
        /// Read data.
        const READ = 1 << 0;
        /// Write data.
        const WRITE = 1 << 1;
        /// Fetch instructions.
        const EXEC = 1 << 2;
    }
}

/// How the processor caches the guest's accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryType {
    /// Write-back: ordinary memory. The guest's own choice still counts where
    /// the processor combines both.
    WriteBack,
    /// Write-back whatever the guest chooses, where the processor can do that.
    AlwaysWriteBack,
    /// Uncached, whatever the guest chooses: device memory.
    Uncached,
}

/// The raw 64 bits of an entry. What they mean is a
/// [`Format`](crate::format::Format)'s business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Entry(pub u64);

/// What a leaf maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// First host frame; aligned to the level's size.
    pub pfn: Pfn,
    /// What the guest may do now.
    pub access: Access,
    /// The guest may write as far as the host's mapping and the slot are
    /// concerned; without [`Access::WRITE`] only the dirty log keeps it from it,
    /// and the next write needs no look at the host's mapping.
    pub may_write: bool,
    /// Cache behaviour.
    pub memory_type: MemoryType,
}
