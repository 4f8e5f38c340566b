// SPDX-License-Identifier: GPL-2.0
//! Small guests, run by the test itself: no VMM, no operating system, just the ioctls.
//!
//! A [`vm::Vm`] has 4 MiB of memory at address 0; a [`vcpu::Vcpu`] starts in one of the
//! [`mode::Mode`]s with code that [`code::guest!`] assembled. It comes out with an [`exit::Exit`];
//! values it reports by `out 0xe8, eax`, exceptions and interrupts nobody handles by a
//! [`trap::Trap`]. A guest that stays inside too long fails its case ([`deadline`]).
//!
//! Cases ask the modules for the capabilities they need and are skipped where one isn't reported.

mod cases;
mod code;
mod cpuid;
mod exit;
mod mode;
mod request;
mod thread;
mod trap;
mod userfault;
mod vcpu;
mod vm;

use crate::case::Case;
use crate::{deadline, ram};

/// All cases that run guests.
pub(crate) fn cases() -> impl Iterator<Item = &'static Case> {
    cases::ALL.iter().flat_map(|cases| cases.iter())
}
