// SPDX-License-Identifier: GPL-2.0
//! The /dev/kvm ABI as Rust types: numbers, sizes and layouts, no behaviour.
//!
//! One file for each object of the ABI. Names are those of `linux/kvm.h`, so a
//! search for a C name finds its Rust twin. What is here is compared with the
//! kernel's own headers each time `kvm.ko` is built (`rust/sys/abi_check.rs`):
//! every list macro (`for_each_ioctl!`, …) is the list that is compared, so an
//! item can't be added without its check.
//!
//! This crate is pure: it knows nothing of the kernel and is compiled both into
//! the modules and, by cargo, into host-side tests and tools.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
#![warn(missing_docs)]

pub mod cap;
pub mod ioctl;
pub mod irq;
mod layout;
pub mod memory;
pub mod run;
pub mod s390;
pub mod vcpu;
pub mod x86;

/// What `KVM_GET_API_VERSION` answers. Fixed for good: features are found with
/// `KVM_CHECK_EXTENSION`.
pub const KVM_API_VERSION: u32 = 12;

/// The minor number of /dev/kvm below the misc major (10).
pub const KVM_MINOR: u32 = 232;
