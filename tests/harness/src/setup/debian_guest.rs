// SPDX-License-Identifier: GPL-2.0
//! A disk with a whole Debian for a guest, and the initramfs that its kernel package made. They lie in the
//! shared root, where machines find them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{packages, remove_dir};
use crate::guest::DEBIAN;
use crate::kernel::stock_release;
use crate::step::{Place, Step, Work};

/// The release; the machines' own root is of the same.
const SUITE: &str = "trixie";

/// Size of the disk. What is not used of it takes no space.
const SIZE: &str = "3G";

/// Beyond what every Debian has, and the kernel.
const PACKAGES: &str = "initramfs-tools,zstd";

/// Network, name and password (`debian`): what an installer would ask for.
const SETTINGS: &[&str] = &[
    "printf '[Match]\\nType=ether\\n[Network]\\nDHCP=yes\\n' >\"$1/etc/systemd/network/all.network\"",
    "chroot \"$1\" systemctl enable systemd-networkd",
    "echo guest >\"$1/etc/hostname\"",
    "echo '/dev/vda / ext4 defaults 0 1' >\"$1/etc/fstab\"",
    "echo root:debian | chroot \"$1\" chpasswd",
];

/// Makes the disk.
pub(super) fn step() -> Step {
    Step {
        name: "debian-guest",
        about: "making a disk with Debian for guests",
        needs: &["packages"],
        heavy: false,
        recipe,
        run,
    }
}

fn recipe(place: &Place) -> Result<String> {
    let release = stock_release(&place.cache)?;
    Ok(format!("1 {SUITE} {SIZE} {PACKAGES} {DEBIAN} {release} {SETTINGS:?}"))
}

fn run(work: &Work<'_>) -> Result<()> {
    let release = stock_release(&work.place.cache)?;
    let install = ["install", "-y", "--no-install-recommends", "mmdebstrap", "e2fsprogs"];
    work.run(packages::apt().args(install))?;
    let tree = work.cache("debian-guest.new");
    remove_dir(&tree)?;
    work.run(&mut bootstrap(&release, &tree))?;

    let image = work.place.cache.root().join(DEBIAN);
    let dir = image.parent().context("a path without a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let new = image.with_extension("new");
    if new.exists() {
        fs::remove_file(&new).with_context(|| format!("removing {}", new.display()))?;
    }
    work.note("writing the file system");
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-t", "ext4", "-d"]).arg(&tree).arg(&new).arg(SIZE);
    work.run(&mut mke2fs)?;
    let initramfs = tree.join(format!("boot/initrd.img-{release}"));
    fs::copy(&initramfs, image.with_extension("img.initrd")).context("copying the initramfs")?;
    fs::rename(&new, &image).with_context(|| format!("renaming to {}", image.display()))?;
    remove_dir(&tree)
}

/// All of Debian that is there by default, and the stock kernel.
fn bootstrap(release: &str, tree: &Path) -> Command {
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--mode=root", "--variant=important"]);
    mmdebstrap.arg("--aptopt=/etc/apt/apt.conf.d/99mmdebstrap");
    mmdebstrap
        .arg(format!("--include=linux-base/{SUITE}-backports,linux-image-{release},{PACKAGES}"));
    mmdebstrap.args(SETTINGS.iter().map(|line| format!("--customize-hook={line}")));
    mmdebstrap.arg(SUITE).arg(tree).arg("/etc/apt/sources.list.d/0000sources.list");
    mmdebstrap
}
