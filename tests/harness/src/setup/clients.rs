// SPDX-License-Identifier: GPL-2.0
//! Programs that use KVM or look at it: perf, kvm_stat and libvirt, in the root that the machines share.

use std::fs;

use anyhow::{Context, Result};

use super::packages;
use crate::kernel::stock_release;
use crate::step::{Place, Step, Work};

/// From the release itself.
const PACKAGES: &[&str] = &[
    "python3",
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "libvirt-daemon-log",
];

/// From backports: what the kernel's source has, too.
const BACKPORTS: &[&str] = &["linux-perf"];

/// A script of the kernel's source, and where it goes to.
const KVM_STAT: (&str, &str) = ("tools/kvm/kvm_stat/kvm_stat", "usr/local/bin/kvm_stat");

/// Installs them.
pub(super) fn step() -> Step {
    Step {
        name: "clients",
        about: "installing perf, kvm_stat and libvirt",
        needs: &["source", "packages"],
        heavy: true,
        recipe,
        run,
    }
}

fn recipe(place: &Place) -> Result<String> {
    let release = stock_release(&place.cache)?;
    Ok(format!("1 {PACKAGES:?} {BACKPORTS:?} {KVM_STAT:?} {release}"))
}

fn run(work: &Work<'_>) -> Result<()> {
    work.run(apt_install().args(PACKAGES))?;
    work.run(apt_install().args(["-t", "trixie-backports"]).args(BACKPORTS))?;
    let from = work.place.cache.source().join(KVM_STAT.0);
    let to = work.place.cache.root().join(KVM_STAT.1);
    fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}

fn apt_install() -> std::process::Command {
    let mut install = packages::apt();
    install.args(["install", "-y", "--no-install-recommends"]);
    install
}
