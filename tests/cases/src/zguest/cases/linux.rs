// SPDX-License-Identifier: GPL-2.0
//! Linux as a guest.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use guest_load::Stream;

use super::super::linux::{self, Linux};
use super::*;
use crate::case::{Skip, Vmm};

const FILES: Vmm = Vmm { group: "linux", mem_mib: 1024, step: None };

pub(super) const CASES: &[Case] = &[
    Case::vmm("linux-boot", &["z"], FILES, || boot(1)),
    Case::vmm("linux-boot-two-cpus", &["z"], FILES, || boot(2)),
    Case::vmm("linux-killed", &["z"], FILES, killed),
    Case::vmm("linux-without-sie", &["z"], FILES, without_sie),
];

/// A file of guests, by the variable that says where it is.
fn file(variable: &str) -> Result<Vec<u8>> {
    let Ok(path) = std::env::var(variable) else {
        return Err(Skip(format!("{variable} isn't set")).into());
    };
    Ok(std::fs::read(path)?)
}

/// A kernel starts, gets to user space, works on each CPU and turns itself off.
fn boot(cpus: u16) -> Result<()> {
    let initrd = linux::initramfs(&file("GUEST_CONSOLE")?, false)?;
    let command_line = "earlyprintk keep_bootcon panic=-1 cryptomgr.notests";
    let guest = Linux::new(&file("GUEST_KERNEL")?, &initrd, cpus, command_line)?;
    let end = guest.run(Duration::from_secs(60))?;
    let numbers: Vec<String> = (0..cpus).map(|cpu| cpu.to_string()).collect();
    let up = format!("{}{}", linux::UP, numbers.join(" "));
    for expected in [up.as_str(), "reboot: Power down"] {
        let is_there = end.console.contains(expected);
        ensure!(is_there, "no '{expected}': {:x?}; {}; {}", end.exit, end.place, end.tail());
    }
    Ok(())
}

/// The VMM is killed at random moments of a boot and the time after it; nothing of it is left.
fn killed() -> Result<()> {
    const SEED: u64 = 0x5eed;
    const TIMES: u32 = 12;
    file("GUEST_KERNEL")?;
    let mut random = Stream::new(SEED);
    for _ in 0..TIMES {
        let moment = Duration::from_millis(random.below(3200));
        let mut vmm = Command::new("/proc/self/exe")
            .args(["--loaded", "linux-boot-two-cpus"])
            .stdout(Stdio::null())
            .spawn()?;
        thread::sleep(moment);
        vmm.kill()?;
        vmm.wait()?;
        crate::module::wait_unused()?;
    }
    Ok(())
}

/// A guest has no SIE: the project's modules refuse to run guests there.
fn without_sie() -> Result<()> {
    let initrd = linux::initramfs(&file("GUEST_CONSOLE")?, true)?;
    let command_line = "earlyprintk keep_bootcon panic=-1 cryptomgr.notests";
    let guest = Linux::new(&file("GUEST_KERNEL")?, &initrd, 1, command_line)?;
    let end = guest.run(Duration::from_secs(60))?;
    linux::check_refused(&end.console)
}
