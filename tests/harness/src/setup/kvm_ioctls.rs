// SPDX-License-Identifier: GPL-2.0
//! The unit tests of the crate kvm-ioctls, on which VMMs written in Rust stand, for the machines to run.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::step::{Place, Step, Work};

/// Crate and version.
const CRATE: (&str, &str) = ("kvm-ioctls", "0.25.1");

/// Where a machine with the shared root has the program.
const PROGRAM: &str = "var/lib/clients/kvm-ioctls";

/// Builds them into the root.
pub(super) fn step() -> Step {
    Step {
        name: "kvm-ioctls",
        about: "building the tests of the crate kvm-ioctls",
        needs: &["packages"],
        heavy: true,
        recipe,
        run,
    }
}

fn recipe(_place: &Place) -> Result<String> {
    Ok(format!("1 {CRATE:?} {PROGRAM}"))
}

fn run(work: &Work<'_>) -> Result<()> {
    let (name, version) = CRATE;
    let dir = work.place.cache.dir("build/kvm-ioctls")?;
    // A package that has the crate as its only dependency: that is how cargo fetches sources.
    let manifest = format!(
        "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n\
         [dependencies]\n{name} = \"={version}\"\n[workspace]\nexclude = [\"vendor\"]\n"
    );
    fs::write(dir.join("Cargo.toml"), manifest).context("writing a manifest")?;
    fs::write(dir.join("lib.rs"), "").context("writing an empty library")?;
    let mut vendor = Command::new("cargo");
    work.run(vendor.args(["vendor", "--versioned-dirs"]).current_dir(&dir))?;
    let source = dir.join(format!("vendor/{name}-{version}"));
    let build = || {
        let mut build = Command::new("cargo");
        build.args(["test", "--no-run", "--lib"]).current_dir(&source);
        build.env("CARGO_TARGET_DIR", dir.join("target"));
        build
    };
    work.run(&mut build())?;
    let messages = build().arg("--message-format=json").output().context("asking cargo")?;
    let program = executable(&String::from_utf8_lossy(&messages.stdout))?;
    let to = work.place.cache.root().join(PROGRAM);
    let parent = to.parent().context("a path without a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    fs::copy(&program, &to).with_context(|| format!("copying {}", program.display()))?;
    Ok(())
}

/// The program that cargo's messages name.
fn executable(messages: &str) -> Result<PathBuf> {
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("a message of cargo's")?;
        if let Some(path) = message["executable"].as_str() {
            return Ok(path.into());
        }
    }
    bail!("cargo names no test program: {messages}")
}
