// SPDX-License-Identifier: GPL-2.0
//! What guests need and a machine finds in the shared root.

use std::fs;

use anyhow::{Context, Result};

use crate::guest::VMLINUX;
use crate::kernel::stock_release;
use crate::step::{Place, Step, Work};

/// Puts the unpacked stock kernel into the root.
pub(super) fn step() -> Step {
    Step {
        name: "guest-kernel",
        about: "putting the guests' kernel into the root",
        needs: &["stock-kernel"],
        heavy: false,
        recipe,
        run,
    }
}

fn recipe(place: &Place) -> Result<String> {
    Ok(format!("1 {VMLINUX} {}", stock_release(&place.cache)?))
}

fn run(work: &Work<'_>) -> Result<()> {
    let to = work.place.cache.root().join(VMLINUX);
    let dir = to.parent().context("a path without a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let from = work.place.cache.kernel("stock").join("vmlinux");
    fs::copy(&from, &to)
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(())
}
