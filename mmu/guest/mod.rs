// SPDX-License-Identifier: GPL-2.0
//! The guest's own page tables: from a linear to a guest physical address, as the
//! processor would go (Intel SDM vol. 3, chapter 5; AMD APM vol. 2, chapter 5).
//!
//! - [`mode`]: which tables the guest uses, and with which rules.
//! - [`walk`]: the walk itself, with accessed and dirty bits.
//! - [`fault`]: what the guest is told when it fails.

pub mod fault;
pub mod mode;
#[cfg(test)]
mod tests;
pub mod walk;
