// SPDX-License-Identifier: GPL-2.0
//! Linux under QEMU on IBM Z.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::checks;
use super::linux::{Image, Linux, options};
use crate::case::{Case, Skip, Vmm};
use crate::zguest::linux::{check_refused, initramfs};

/// The program.
const QEMU: &str = "/usr/bin/qemu-system-s390x";

const FILES: Vmm = Vmm { group: "qemu", mem_mib: 1536, step: Some("z-qemu") };

pub(crate) const CASES: &[Case] = &[
    case("qemu-linux-1", || whole(1)),
    case("qemu-linux-2", || whole(2)),
    case("qemu-tcg", tcg).long(),
];

/// One processor: with two and an initramfs of this size Hercules often stands still when the second starts.
const fn case(name: &'static str, body: fn() -> Result<()>) -> Case {
    Case { smp: 1, ..Case::vmm(name, &["z"], FILES, body) }
}

/// Boot, work on each processor, a reboot from inside, work, power off.
fn whole(smp: u32) -> Result<()> {
    need_qemu()?;
    let mut options = options(Image::Compressed, "quiet")?.with("-nic none");
    options.smp = smp;
    options.memory = "256M".into();
    let mut guest = Linux::boot(&options)?;
    checks::load(&mut guest, smp)?;
    guest.ask("log")?;
    guest.reboot()?;
    checks::load(&mut guest, smp)?;
    guest.power_off()
}

fn need_qemu() -> Result<()> {
    if Path::new(QEMU).exists() {
        return Ok(());
    }
    Err(Skip("there is no QEMU for s390x here".into()).into())
}

/// QEMU's own machine, emulated, has no SIE: the project's modules refuse to run guests there.
fn tcg() -> Result<()> {
    const INITRD: &str = "/tmp/tcg.cpio";
    need_qemu()?;
    let kernel = std::env::var("GUEST_KERNEL").context("GUEST_KERNEL")?;
    std::fs::write(INITRD, initramfs(None, true)?)?;
    let out = Command::new("timeout")
        .args(["-s", "KILL", "1200", QEMU])
        .args(["-accel", "tcg", "-m", "256M", "-nographic", "-no-reboot", "-nic", "none"])
        .args(["-kernel", &kernel, "-initrd", INITRD])
        .args(["-append", "earlyprintk keep_bootcon panic=-1 cryptomgr.notests"])
        .output()
        .context("starting QEMU")?;
    check_refused(&String::from_utf8_lossy(&out.stdout))
        .with_context(|| String::from_utf8_lossy(&out.stderr).into_owned())
}
