// SPDX-License-Identifier: GPL-2.0
//! A small x86 kernel of our own with everything that finds bugs: address sanitizer, lock checking,
//! leak detection. Made on demand (`KERNEL=debug`), and with clang: kbuild has the address sanitizer
//! together with Rust only there.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::packages;
use crate::step::{Place, Step, Work};

/// What makes kbuild use clang; modules for this kernel need it as well.
pub(crate) const LLVM: &str = "LLVM=1";

/// Installs the other compiler.
pub(super) fn clang_step() -> Step {
    Step {
        name: "clang",
        about: "installing clang",
        needs: &["packages"],
        heavy: false,
        recipe: |_| Ok("1".into()),
        run: |work| {
            let mut install = packages::apt();
            install.args(["install", "-y", "--no-install-recommends", "clang", "lld", "llvm"]);
            work.run(&mut install)
        },
    }
}

/// Makes `kernel/debug`.
pub(super) fn step() -> Step {
    Step {
        name: "debug-kernel",
        about: "building the debug kernel",
        needs: &["source", "clang"],
        heavy: true,
        recipe,
        run,
    }
}

fn fragment(place: &Place) -> std::path::PathBuf {
    place.tree.join("tests/machines/amd/debug.config")
}

fn recipe(place: &Place) -> Result<String> {
    let path = fragment(place);
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

fn run(work: &Work<'_>) -> Result<()> {
    let dir = work.place.cache.dir("kernel/debug")?;
    let make = || {
        let mut make = Command::new("make");
        make.arg("-C").arg(work.place.cache.source());
        make.arg(format!("O={}", dir.display()));
        make.args(["-j2", LLVM]);
        make
    };
    let wanted = fragment(work.place);
    work.run(make().arg("tinyconfig"))?;
    let config = dir.join(".config");
    let mut text = fs::read_to_string(&config).context("reading the configuration")?;
    text.push_str(&recipe(work.place)?);
    fs::write(&config, text).context("writing the configuration")?;
    work.run(make().arg("olddefconfig"))?;
    check(&recipe(work.place)?, &fs::read_to_string(&config).context("reading the configuration")?)
        .with_context(|| format!("{} does not hold", wanted.display()))?;
    work.run(make().args(["bzImage", "modules"]))?;
    work.run(
        make().arg("modules_install").arg(format!("INSTALL_MOD_PATH={}/install", dir.display())),
    )
}

/// Every line of the fragment must have made it into the configuration.
fn check(fragment: &str, config: &str) -> Result<()> {
    let lost: Vec<&str> = fragment
        .lines()
        .filter(|line| line.starts_with("CONFIG_") && !config.lines().any(|other| other == *line))
        .collect();
    anyhow::ensure!(lost.is_empty(), "kbuild dropped {}", lost.join(", "));
    Ok(())
}
