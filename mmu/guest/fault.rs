// SPDX-License-Identifier: GPL-2.0
//! Why a guest's access has no translation.

/// The error code that the guest's #PF handler gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault(u32);

bitflags::bitflags! {
    impl PageFault: u32 {
        /// The tables map the page and forbid the access.
        const PRESENT = 1 << 0;
        /// A write.
        const WRITE = 1 << 1;
        /// In user mode.
        const USER = 1 << 2;
        /// An entry on the way has reserved bits set.
        const RESERVED = 1 << 3;
        /// An instruction fetch; reported where NX or SMEP is on.
        const FETCH = 1 << 4;
        /// The page's protection key forbids it.
        const PROTECTION_KEY = 1 << 5;
    }
}

/// Why a walk ended without an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed<E> {
    /// The guest gets #PF with this error code; CR2 is the linear address.
    Guest(PageFault),
    /// A table lies where the guest has no memory, or reading it failed.
    Memory(E),
}
