// SPDX-License-Identifier: GPL-2.0
//! Linux as a guest.

use std::time::Duration;

use super::super::linux::{self, Linux};
use super::*;
use crate::case::{Skip, Vmm};

const FILES: Vmm = Vmm { group: "linux", mem_mib: 1024 };

pub(super) const CASES: &[Case] = &[Case::vmm("linux-boot", &["z"], FILES, boot)];

/// A file of guests, by the variable that says where it is.
fn file(variable: &str) -> Result<Vec<u8>> {
    let Ok(path) = std::env::var(variable) else {
        return Err(Skip(format!("{variable} isn't set")).into());
    };
    Ok(std::fs::read(path)?)
}

/// A kernel starts, gets to user space and turns itself off.
fn boot() -> Result<()> {
    let initrd = linux::initramfs(&file("GUEST_CONSOLE")?)?;
    let command_line = "earlyprintk keep_bootcon panic=-1 nr_cpus=1 cryptomgr.notests";
    let mut guest = Linux::new(&file("GUEST_KERNEL")?, &initrd, command_line)?;
    let end = guest.run(Duration::from_secs(60))?;
    let text = String::from_utf8_lossy(&guest.console);
    ensure!(text.contains(linux::UP), "{end:x?}; {}; {}", guest.place(), guest.tail());
    ensure!(text.contains("reboot: Power down"), "{end:x?}; {}", guest.tail());
    Ok(())
}
