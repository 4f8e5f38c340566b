// SPDX-License-Identifier: GPL-2.0
//! Events of a VM: matched, routed, queued and counted.
//!
//! - [`matching`]: which eventfd a guest's write signals.
//! - [`ranges`]: which device an access is for.
//! - [`ring`]: the ring of coalesced writes.
//! - [`routes`]: where a GSI leads.
//! - [`stats`]: counters, and how userspace reads them.
//!
//! Tables are searched as slices; who owns the memory, and how readers and
//! writers get along, is the core's business. Nothing here allocates, waits or
//! knows of the kernel.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod matching;
pub mod ranges;
pub mod ring;
pub mod routes;
pub mod stats;
