// SPDX-License-Identifier: GPL-2.0
//! VMX as the manual describes it: layouts and capability words, no access to
//! the processor.
//!
//! References are to the Intel 64 and IA-32 Architectures Software Developer's
//! Manual, volume 3 (325384-087).
//!
//! This crate is pure: it is compiled into kvm-intel.ko and, by cargo, into host
//! tests.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
#![warn(missing_docs)]

pub mod caps;
