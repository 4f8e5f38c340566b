// SPDX-License-Identifier: GPL-2.0
//! VMX as the manual describes it: layouts and capability words, no access to
//! the processor.
//!
//! References are to the Intel 64 and IA-32 Architectures Software Developer's
//! Manual, volume 3 (325384-087).
//!
//! - [`caps`]: what a processor's VMX can do; [`config`]: what is made of it.
//! - [`field`]: fields of the control structure (VMCS); [`control`]: those that control.
//! - [`event`]: what is delivered on entry; [`exit`]: why a guest stopped.
//! - [`check`]: what an entry checks of the guest's state.
//! - [`msr_bitmap`]: MSRs that exit.
//!
//! This crate is pure: it is compiled into kvm-intel.ko and, by cargo, into host
//! tests.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
#![warn(missing_docs)]

pub mod caps;
pub mod check;
pub mod config;
pub mod control;
pub mod event;
pub mod exit;
pub mod field;
pub mod msr_bitmap;
