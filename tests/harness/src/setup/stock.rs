// SPDX-License-Identifier: GPL-2.0
//! Makes Rust metadata that matches Debian's stock kernel, which ships without: a `KDIR` with the
//! configuration, the release name and the symbol list of the shipped kernel.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::kernel::{stock_release, stock_series};
use crate::step::{Place, Step, Work};

/// Makes `kernel/stock`.
pub(super) fn step() -> Step {
    Step {
        name: "stock-kernel",
        about: "matching Rust metadata to the stock kernel",
        needs: &["source"],
        heavy: true,
        recipe,
        run,
    }
}

fn recipe(place: &Place) -> Result<String> {
    Ok(format!("2 {}", stock_release(&place.cache)?))
}

fn run(work: &Work<'_>) -> Result<()> {
    let release = stock_release(&work.place.cache)?;
    let dir = work.place.cache.dir("kernel/stock")?;
    let headers = Path::new("/usr/src").join(format!("linux-headers-{release}"));
    copy(&headers.join(".config"), &dir.join(".config"))?;
    work.run(make(work, &release)?.arg("olddefconfig"))?;
    copy(&headers.join("Module.symvers"), &dir.join("Module.symvers"))?;
    work.run(make(work, &release)?.args(["prepare", "modules_prepare"]))?;
    unpack_image(work, &release, &dir)
}

/// kbuild in the source, going into `kernel/stock`.
fn make(work: &Work<'_>, release: &str) -> Result<Command> {
    let version = stock_series(&work.place.cache)?;
    // What follows 7.3.4 in 7.3.4+deb13-amd64.
    let local = release.find('+').map_or("", |at| &release[at..]);
    work.note(&format!("kernel {version}, release {release}"));
    let mut make = Command::new("make");
    make.arg("-C")
        .arg(work.place.cache.source())
        .arg(format!("O={}", work.cache("kernel/stock").display()))
        .args(["-j2", "CROSS_COMPILE=x86_64-linux-gnu-", "CC=x86_64-linux-gnu-gcc-14"])
        .arg(format!("LOCALVERSION={local}"));
    Ok(make)
}

/// The shipped image as an ELF file: unpacking it under emulation takes seconds at every boot.
fn unpack_image(work: &Work<'_>, release: &str, dir: &Path) -> Result<()> {
    let script = work.place.cache.source().join("scripts/extract-vmlinux");
    let image = work.cache("root/usr/lib/modules").join(release).join("vmlinuz");
    let out = Command::new(script).arg(&image).output().context("running extract-vmlinux")?;
    anyhow::ensure!(out.status.success(), "cannot unpack {}", image.display());
    fs::write(dir.join("vmlinux"), out.stdout).context("writing the unpacked kernel")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}
