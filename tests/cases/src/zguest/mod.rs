// SPDX-License-Identifier: GPL-2.0
//! Small guests of IBM Z, run by the test itself: no VMM, no operating system, just the ioctls.
//!
//! A [`vm::Vm`] has 4 MiB of memory at address 0; a [`vcpu::Vcpu`] starts with 64-bit addressing at
//! [`vm::CODE`], with code that [`code::Code`] put together. It reports values by [`code::Code::report`],
//! a DIAGNOSE that is the VMM's. Each kind of interruption leads to a disabled wait whose address says
//! which it was ([`vm::TRAPS`]), unless the case sets another PSW.
//!
//! The cases are listed on the development host as well, so all of this compiles there.

#![allow(dead_code, reason = "the framework grows with the cases that use it")]

mod cases;
mod code;
pub(crate) mod linux;
mod sclp;
mod vcpu;
mod vm;

use crate::case::Case;

/// All cases that run guests of IBM Z.
pub(crate) fn cases() -> impl Iterator<Item = &'static Case> {
    cases::ALL.iter().flat_map(|cases| cases.iter())
}
