// SPDX-License-Identifier: GPL-2.0
//! Ctrl-C and its kin: end the children, restore the terminal, go.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::Pid;

/// Process groups that die with us.
static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// From now on signals that end the harness end its children first. To be called before any thread
/// is started.
pub fn watch() -> Result<()> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        set.add(signal);
    }
    set.thread_block().context("blocking signals")?;
    thread::spawn(move || {
        let Ok(signal) = set.wait() else { return };
        let groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
        for group in groups.iter() {
            let _ = killpg(Pid::from_raw(*group), Signal::SIGKILL);
        }
        eprintln!("ended by {signal}");
        std::process::exit(128 + signal as i32);
    });
    Ok(())
}

/// The process group `group` is to die with us.
pub fn register(group: i32) {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner).insert(group);
}

/// The process group `group` is gone.
pub fn unregister(group: i32) {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner).remove(&group);
}
