// SPDX-License-Identifier: GPL-2.0
//! Ways to end.

use std::convert::Infallible;
use std::fs;

use anyhow::{Context, Result, bail};
use nix::sys::reboot::{RebootMode, reboot as system};
use proto::Fields;

/// Starts over.
pub(crate) fn reboot() -> Result<Fields> {
    end(RebootMode::RB_AUTOBOOT)
}

/// Turns the machine off.
pub(crate) fn off() -> Result<Fields> {
    end(RebootMode::RB_POWER_OFF)
}

fn end(mode: RebootMode) -> Result<Fields> {
    nix::unistd::sync();
    let never: Infallible = system(mode).context("the kernel refuses")?;
    match never {}
}

/// Lets the kernel crash.
pub(crate) fn panic() -> Result<Fields> {
    fs::write("/proc/sysrq-trigger", "c").context("asking for a crash")?;
    bail!("the kernel lives on")
}
