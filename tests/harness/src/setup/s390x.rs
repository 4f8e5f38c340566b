// SPDX-License-Identifier: GPL-2.0
//! What programs for inside the `z` machine need: Rust's standard library for s390x (of the same
//! release as the root's rustc) and a static busybox.
//!
//! The packages come from the mirror's s390x index. Where that index cannot be verified (mirrors that
//! filter by architecture exist), known files with known checksums are taken instead.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::archive::{self, Archive, Known};
use super::{replace_dir, unpack_all};
use crate::step::{Place, Step, Work};

/// Known good files: path in the mirror and checksum.
const KNOWN: &[Known] = &[
    (
        "pool/main/b/busybox/busybox-static_1.37.0-6+b9_s390x.deb",
        "6e6d4257dd06c7a07aa88f207cc0e8b6d1a2e06f7f118d528af31b2169b51978",
    ),
    (
        "pool/main/r/rustc/libstd-rust-dev_1.85.1+dfsg1-1+deb13u1_s390x.deb",
        "8a00187e108222d651fcc6573132aa03c0cf08fe49636e523af4649daa164266",
    ),
];

/// Makes `toolchain/s390x` and lets the root's rustc find it.
pub(super) fn step() -> Step {
    Step {
        name: "s390x",
        about: "fetching what s390x programs need",
        needs: &["packages"],
        heavy: false,
        recipe,
        run,
    }
}

fn recipe(_place: &Place) -> Result<String> {
    Ok(format!("2 {KNOWN:?}"))
}

fn run(work: &Work<'_>) -> Result<()> {
    let debs = work.place.cache.dir("toolchain/s390x.debs")?;
    let library = format!("libstd-rust-dev={}", installed_version("libstd-rust-dev")?);
    if let Err(error) = from_index(work, &debs, &["busybox-static".into(), library]) {
        work.note("the mirror's s390x index is unusable, taking known files");
        from_pool(work, &debs).with_context(|| format!("and before that: {error:#}"))?;
    }
    let new = work.cache("toolchain/s390x.new");
    let last = work.cache("toolchain/s390x");
    unpack_all(work, &debs, &new)?;
    replace_dir(&new, &last)?;
    link_library(&last)
}

/// Downloads the packages as the index of the mirror has them.
pub(super) fn from_index(work: &Work<'_>, debs: &Path, packages: &[String]) -> Result<()> {
    let archive = Archive::new(work, "toolchain/s390x.apt", "deb")?
        .with("APT::Architecture", "s390x")
        .with("APT::Architectures", "s390x");
    work.run(archive.apt().args(["update", "--error-on=any"]))?;
    work.run(archive.apt().arg("download").args(packages).current_dir(debs))
}

/// Downloads the known files.
fn from_pool(work: &Work<'_>, debs: &Path) -> Result<()> {
    let version = installed_version("libstd-rust-dev")?;
    if let Some((path, _)) =
        KNOWN.iter().find(|(path, _)| path.contains("libstd") && !path.contains(&version))
    {
        bail!("the root's rustc is {version}, and the known s390x library is {path}");
    }
    archive::from_pool(work, KNOWN, debs)
}

fn installed_version(package: &str) -> Result<String> {
    let out = Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]).output();
    let out = out.context("running dpkg-query")?;
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// Lets the root's rustc find the library in `dir`.
fn link_library(dir: &Path) -> Result<()> {
    let name = "s390x-unknown-linux-gnu";
    let link = Path::new("/usr/lib/rustlib").join(name);
    if link.is_symlink() {
        fs::remove_file(&link).context("removing the old link to the library")?;
    } else if link.is_dir() {
        fs::remove_dir_all(&link).context("removing the old library")?;
    }
    symlink(dir.join("usr/lib/rustlib").join(name), &link).context("linking the library")
}
