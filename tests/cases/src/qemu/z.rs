// SPDX-License-Identifier: GPL-2.0
//! Linux under QEMU on IBM Z.

use std::path::Path;

use anyhow::Result;

use super::checks;
use super::linux::{Image, Linux, options};
use crate::case::{Case, Skip, Vmm};

const FILES: Vmm = Vmm { group: "qemu", mem_mib: 1536, step: Some("z-qemu") };

pub(crate) const CASES: &[Case] =
    &[case("qemu-linux-1", || whole(1)), case("qemu-linux-2", || whole(2))];

/// One processor: with two and an initramfs of this size Hercules often stands still when the second starts.
const fn case(name: &'static str, body: fn() -> Result<()>) -> Case {
    Case { smp: 1, ..Case::vmm(name, &["z"], FILES, body) }
}

/// Boot, work on each processor, a reboot from inside, work, power off.
fn whole(smp: u32) -> Result<()> {
    if !Path::new("/usr/bin/qemu-system-s390x").exists() {
        return Err(Skip("there is no QEMU for s390x here".into()).into());
    }
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
