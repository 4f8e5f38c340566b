// SPDX-License-Identifier: GPL-2.0
//! Unpacks the kernel source.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::replace_dir;
use crate::kernel::{stock_release, stock_series};
use crate::step::{Place, Step, Work};

/// Makes `src/linux`.
pub(super) fn step() -> Step {
    Step {
        name: "source",
        about: "unpacking the kernel source",
        needs: &["packages"],
        heavy: false,
        recipe,
        run,
    }
}

fn recipe(place: &Place) -> Result<String> {
    Ok(format!("1 {}", stock_release(&place.cache)?))
}

fn run(work: &Work<'_>) -> Result<()> {
    let series = stock_series(&work.place.cache)?;
    let tarball = PathBuf::from(format!("/usr/src/linux-source-{series}.tar.xz"));
    let new = work.cache("src/linux.new");
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| format!("removing {}", new.display()))?;
    }
    work.place.cache.dir("src/linux.new")?;
    work.run(
        Command::new("tar")
            .args(["-x", "--strip-components=1", "-C"])
            .arg(&new)
            .arg("-f")
            .arg(&tarball),
    )?;
    replace_dir(&new, &work.place.cache.source())
}
