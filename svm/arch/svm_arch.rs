// SPDX-License-Identifier: GPL-2.0
//! SVM as the manual describes it: layouts and capability words, no access to
//! the processor.
//!
//! References are to the AMD64 Architecture Programmer's Manual, volume 2
//! (24593, revision 3.42).
//!
//! - [`caps`]: what a processor's SVM can do.
//! - [`vmcb`]: the control block; [`event`]: what is delivered on entry.
//! - [`exit`]: why a guest stopped; [`intercept`]: what makes it stop.
//!
//! This crate is pure: it is compiled into kvm-amd.ko and, by cargo, into host
//! tests.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod caps;
mod dump;
pub mod event;
pub mod exit;
pub mod intercept;
pub mod vmcb;
