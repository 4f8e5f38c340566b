// SPDX-License-Identifier: GPL-2.0
//! The setup steps, one file each.

mod archive;
pub(crate) mod bochs;
mod clients;
mod debian_guest;
pub(crate) mod debug_kernel;
mod guests;
pub(crate) mod kselftest;
mod kvm_ioctls;
mod packages;
mod qemu_s390x;
mod rust_s390;
mod s390x;
mod source;
mod stock;
mod zkernel;
pub(crate) mod zqemu;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::step::{self, Place, Step, Work};

/// All steps.
pub fn steps() -> Vec<Step> {
    vec![
        packages::step(),
        source::step(),
        stock::step(),
        rust_s390::step(),
        s390x::step(),
        qemu_s390x::step(),
        zkernel::step(),
        zqemu::step(),
        kselftest::z_step(),
        bochs::step(),
        debug_kernel::clang_step(),
        debug_kernel::step(),
        guests::step(),
        debian_guest::step(),
        clients::step(),
        kvm_ioctls::step(),
        kselftest::step(),
    ]
}

/// Steps that `prepare` makes when it is not told which: all that tests need.
pub const USUAL: &[&str] = &[
    "stock-kernel",
    "guest-kernel",
    "bochs",
    "s390x",
    "qemu-s390x",
    "z-kernel",
    "z-qemu",
    "z-kselftest",
];

/// Makes the steps `wanted` whole.
pub fn make(place: &Place, wanted: &[&str]) -> Result<()> {
    step::make(place, &steps(), wanted)
}

/// Whether the step `name` would have nothing to do.
pub fn is_made(place: &Place, name: &str) -> Result<bool> {
    step::is_made(place, &steps(), name)
}

/// Downloads `packages` and unpacks them to the directory `new`, which is made anew.
fn unpack(work: &Work<'_>, packages: &[&str], new: &Path) -> Result<()> {
    let debs = new.with_extension("debs");
    remove_dir(&debs)?;
    fs::create_dir_all(&debs).with_context(|| format!("making {}", debs.display()))?;
    // apt downloads as an unprivileged user where that user may write; here only root may.
    let mut download = packages::apt();
    download.args(["-o", "APT::Sandbox::User=root", "download"]).args(packages);
    work.run(download.current_dir(&debs))?;
    unpack_all(work, &debs, new)
}

/// Unpacks all packages in `debs` to the directory `new`, which is made anew, and removes `debs`.
fn unpack_all(work: &Work<'_>, debs: &Path, new: &Path) -> Result<()> {
    remove_dir(new)?;
    fs::create_dir_all(new).with_context(|| format!("making {}", new.display()))?;
    for entry in fs::read_dir(debs).context("reading the downloads")? {
        let deb = entry.context("reading the downloads")?.path();
        work.run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(new))?;
    }
    remove_dir(debs)
}

fn remove_dir(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    Ok(())
}

/// Puts the finished directory `new` in the place of `last`.
fn replace_dir(new: &Path, last: &Path) -> Result<()> {
    remove_dir(last)?;
    fs::rename(new, last).with_context(|| format!("renaming to {}", last.display()))
}
