// SPDX-License-Identifier: GPL-2.0
//! IBM Z as far as a hypervisor under SIE is concerned: layouts, codes, and what
//! follows from them. No processor, no kernel.
//!
//! - [`sie`]: the state description (SIE block); [`sca`]: what CPUs have in common for it.
//! - [`intercept`]: why a guest came out.
//! - [`psw`]: the program status word; [`insn`]: an intercepted instruction.
//! - [`program`], [`lowcore`]: interruptions and where they are stored.
//! - [`dat`]: the walk through the guest's own tables.
//! - [`pending`]: the interruptions that wait for a CPU.
//! - [`page_reference`]: page faults that guests handle.
//! - [`sigp`]: SIGNAL PROCESSOR; [`sysinfo`]: STORE SYSTEM INFORMATION.
//! - [`indicator`]: bits of guest memory that adapters set.
//! - [`key`]: storage keys.
//! - [`per`]: program-event recording.
//! - [`facility`]: facilities, and which of them guests get.
//!
//! Sources: z/Architecture Principles of Operation (SA22-7832), System/370
//! Extended Architecture Interpretive Execution (SA22-7095) for the block, and
//! `arch/s390/include/asm/kvm_host_s390_types.h` for what is newer than that book.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod dat;
pub mod facility;
pub mod indicator;
pub mod insn;
pub mod intercept;
pub mod key;
pub mod lowcore;
pub mod page_reference;
pub mod pending;
pub mod per;
pub mod program;
pub mod psw;
pub mod sca;
pub mod sie;
pub mod sigp;
pub mod sysinfo;
