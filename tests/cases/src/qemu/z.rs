// SPDX-License-Identifier: GPL-2.0
//! Linux under QEMU on IBM Z.

use std::path::Path;

use anyhow::Result;

use super::checks;
use super::linux::{Image, Linux, options};
use crate::case::{Case, Skip, Vmm};

const FILES: Vmm = Vmm { group: "qemu", mem_mib: 1536, step: None };

pub(crate) const CASES: &[Case] = &[
    Case::vmm("qemu-linux-1", &["z"], FILES, || whole(1)),
    Case::vmm("qemu-linux-2", &["z"], FILES, || whole(2)),
];

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
