// SPDX-License-Identifier: GPL-2.0
//! The cases, one file for each subject. A subject's cases share a boot.

mod debug;
mod event;
mod flic;
mod interlock;
mod key;
mod kselftest;
mod linux;
mod memory;
mod pfault;
mod run;
mod service;
mod signal;
mod state;

use anyhow::{Result, ensure};

use super::code::Code;
use super::vcpu::{Exit, icpt};
use super::vm::{self, CODE, DATA, MASK, Vm};
use crate::case::Case;
use crate::case::check_eq;

/// The cases of each subject, in the order in which they are best looked at.
pub(super) const ALL: &[&[Case]] = &[
    run::CASES,
    memory::CASES,
    interlock::CASES,
    key::CASES,
    event::CASES,
    signal::CASES,
    flic::CASES,
    pfault::CASES,
    state::CASES,
    service::CASES,
    debug::CASES,
    linux::CASES,
    kselftest::CASES,
];

/// A case on the IBM Z machine.
const fn case(name: &'static str, body: fn() -> Result<()>) -> Case {
    Case::loaded(name, &["z"], body)
}
