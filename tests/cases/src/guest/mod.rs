// SPDX-License-Identifier: GPL-2.0
//! Cases that run small guests by themselves (crate `micro`).
//!
//! They ask the modules for the capabilities they need and are skipped where one isn't reported.

mod cases;
pub(crate) mod endless;
mod parameters;

use micro::{
    code, cpuid, deadline, exit, mode, ram, request, state, thread, trap, userfault, vcpu, vm,
};

use crate::case::Case;

/// All cases that run guests.
pub(crate) fn cases() -> impl Iterator<Item = &'static Case> {
    cases::ALL.iter().flat_map(|cases| cases.iter()).chain(parameters::CASES)
}
