// SPDX-License-Identifier: GPL-2.0
//! What an x86 guest may have and do, as decisions without side effects.
//!
//! - [`feature`]: CPUID features as types, and how each comes to a guest.
//! - [`cpuid`], [`xstate`], [`pv`]: leaves, XSAVE sizes, KVM's own leaves.
//! - [`supported`]: what guests can have on this host.
//! - [`guest_cpuid`], [`guest_features`]: the table of one vCPU, and what follows
//!   from it.
//! - [`control`], [`xcr`], [`debug`]: what may be written to CR0, CR3, CR4, CR8,
//!   EFER, XCR0, IA32_XSS, DR6 and DR7, and what follows; [`sregs`]: the same for
//!   all of them at once.
//! - [`msr`]: which MSRs there are and who owns them; [`msr_file`], [`mtrr`],
//!   [`mce`], [`pv_msr`]: those that are storage with rules.
//! - [`tsc`], [`pvclock`], [`steal_time`]: clocks.
//! - [`hypercall`]: what a guest asks for by VMCALL or VMMCALL.
//! - [`pause_window`]: how long a guest may spin.
//! - [`smm`]: the state-save area of system-management mode.
//!
//! This crate decides, its user carries out. Nothing here knows of the kernel,
//! allocates or sleeps; the host's CPUID and the time come in as arguments.
//!
//! "SDM" is Intel's Software Developer's Manual, "APM" AMD's Architecture
//! Programmer's Manual.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod control;
#[cfg(test)]
mod control_tests;
pub mod cpuid;
#[cfg(test)]
mod cpuid_tests;
pub mod debug;
pub mod feature;
mod feature_table;
pub mod guest_cpuid;
pub mod guest_features;
pub mod hypercall;
pub mod mce;
pub mod msr;
pub mod msr_file;
pub mod msr_filter;
mod msr_table;
#[cfg(test)]
mod msr_tests;
pub mod mtrr;
pub mod pause_window;
pub mod pv;
pub mod pv_msr;
pub mod pvclock;
pub mod smm;
#[cfg(test)]
mod smm_tests;
pub mod sregs;
pub mod steal_time;
pub mod supported;
pub mod timer_lead;
pub mod tsc;
pub mod xcr;
pub mod xstate;
