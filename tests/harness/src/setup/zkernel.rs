// SPDX-License-Identifier: GPL-2.0
//! The s390 kernel of the `z` machine, and the module that gives it a console.
//!
//! Debian has no s390 kernel with Rust, so this one is built: small (`tests/machines/z/kernel.config`
//! on top of nothing), with the C module as a module, because that is what makes a kernel export
//! symbols to modules called `kvm`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::build::toolchain;
use crate::kernel::{self, Kernel};
use crate::step::{Place, Step, Work};

/// What of the tree goes into the result.
const INPUTS: &[&str] = &["kernel.config", "console/Kbuild", "console/hercules_console.c"];

/// Builds `kernel/z`.
pub(super) fn step() -> Step {
    Step {
        name: "z-kernel",
        about: "building the s390 kernel",
        needs: &["source", "rust-s390"],
        heavy: true,
        recipe,
        run,
    }
}

fn input(place: &Place, name: &str) -> PathBuf {
    place.tree.join("tests/machines/z").join(name)
}

fn recipe(place: &Place) -> Result<String> {
    let mut text = String::from("1\n");
    for name in INPUTS {
        let path = input(place, name);
        text +=
            &fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(text)
}

fn run(work: &Work<'_>) -> Result<()> {
    let kernel = kernel::find(&work.place.cache, "z")?;
    let install = kernel.build.join("install");
    fs::create_dir_all(&kernel.build)
        .with_context(|| format!("making {}", kernel.build.display()))?;
    if install.exists() {
        fs::remove_dir_all(&install).with_context(|| format!("removing {}", install.display()))?;
    }
    configure(work, &kernel)?;
    work.run(make(work.place, &kernel).args(["bzImage", "modules"]))?;
    let install = format!("INSTALL_MOD_PATH={}", install.display());
    work.run(make(work.place, &kernel).args(["modules_install", &install]))?;
    let console = [
        format!("M={}", input(work.place, "console").display()),
        format!("MO={}", kernel.build.join("console").display()),
    ];
    work.run(make(work.place, &kernel).args(&console).arg("modules"))?;
    work.run(make(work.place, &kernel).args(&console).args(["modules_install", &install]))
}

/// Writes `.config`.
fn configure(work: &Work<'_>, kernel: &Kernel) -> Result<()> {
    let wanted = input(work.place, "kernel.config");
    let all = format!("KCONFIG_ALLCONFIG={}", wanted.display());
    work.run(make(work.place, kernel).args([&all, "allnoconfig"]))?;
    check(&wanted, &kernel.build.join(".config"))
}

/// Every line of the fragment must have made it into the configuration.
fn check(wanted: &Path, config: &Path) -> Result<()> {
    let read = |path: &Path| {
        fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
    };
    let (fragment, config) = (read(wanted)?, read(config)?);
    let lost: Vec<&str> = fragment
        .lines()
        .filter(|line| line.starts_with("CONFIG_") && !config.lines().any(|other| other == *line))
        .collect();
    ensure!(lost.is_empty(), "kbuild dropped {} of {}", lost.join(", "), wanted.display());
    Ok(())
}

/// kbuild on the kernel's source, with the compilers for s390.
fn make(place: &Place, kernel: &Kernel) -> Command {
    let mut make = Command::new("nice");
    make.args(["make", "-j2", "--no-print-directory", "-C"]).arg(place.cache.source());
    make.arg(format!("O={}", kernel.build.display()));
    make.args(toolchain(place, kernel));
    make
}
