// SPDX-License-Identifier: GPL-2.0
//! Two-level paging: addresses, table geometry, and what a processor can do.
//!
//! A guest's memory is mapped by a second set of page tables that the
//! hypervisor owns: nested page tables (AMD), EPT (Intel), DAT tables under SIE
//! (IBM Z). What they have in common lives here and knows of no processor.
//!
//! - [`addr`], [`level`]: address newtypes and table geometry.
//! - [`slot`]: which guest frames the VMM backs, and where. [`binding`]: with which pages
//!   of a file.
//! - [`caps`]: what a processor's second-level paging offers.
//! - [`entry`], [`format`]: one entry, and the processors' bit formats.
//! - [`tables`]: the boundary to the memory that holds tables.
//! - [`space`]: a tree of tables, and the protocol that makes lock-free changes
//!   sound. Its operations: [`map`], [`zap`], [`track`].
//! - [`guest`]: the walk through the guest's own tables.
//! - [`flush`]: what the TLBs still owe after a change.
//!
//! This crate is pure: it is compiled into the modules and, by cargo, into host
//! tests.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod addr;
pub mod binding;
pub mod caps;
mod cursor;
pub mod entry;
#[cfg(test)]
mod fake;
pub mod flush;
pub mod format;
pub mod guest;
pub mod level;
pub mod map;
pub mod ring;
pub mod slot;
pub mod space;
pub mod tables;
#[cfg(test)]
mod tests;
pub mod track;
pub mod zap;
