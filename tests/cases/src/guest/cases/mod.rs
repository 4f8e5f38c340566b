// SPDX-License-Identifier: GPL-2.0
//! The cases, one file for each subject. A subject's cases share a boot.

mod apic_page;
mod churn;
mod compat;
mod debug;
pub(super) mod dirty;
mod dirty_ring;
mod event;
mod exception;
mod host;
mod inject;
mod io;
mod irqchip;
mod lapic;
mod machine;
mod memory;
mod memory_file;
mod mm;
mod mmio;
mod modes;
mod moved;
mod msr;
mod pv;
mod quirk;
mod run;
mod save;
mod shown;
mod smp;
mod speculation;
mod state;
mod trace;
mod tsc;

use anyhow::{Context, Result, bail, ensure};
use kvm_bindings as abi;
use nix::errno::Errno;

use super::code::guest;
use super::exit::Exit;
use super::mode::{self, CODE, DATA, Mode};
use super::ram::Ram;
use super::request;
use super::vm::Vm;
use crate::case::check_eq;
use crate::case::{Case, Skip};

/// The cases of each subject, in the order in which they are best looked at.
pub(super) const ALL: &[&[Case]] = &[
    run::CASES,
    io::CASES,
    mmio::CASES,
    memory::CASES,
    msr::CASES,
    speculation::CASES,
    quirk::CASES,
    compat::CASES,
    trace::CASES,
    shown::CASES,
    machine::CASES,
    exception::CASES,
    modes::CASES,
    state::CASES,
    host::CASES,
    inject::CASES,
    save::CASES,
    debug::CASES,
    lapic::CASES,
    apic_page::CASES,
    irqchip::CASES,
    event::CASES,
    pv::CASES,
    tsc::CASES,
    smp::CASES,
    moved::CASES,
    dirty::CASES,
    dirty_ring::CASES,
    mm::CASES,
    memory_file::CASES,
    churn::CASES,
];
