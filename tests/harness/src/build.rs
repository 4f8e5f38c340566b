// SPDX-License-Identifier: GPL-2.0
//! Builds what goes into a machine: the project's modules with kbuild, programs with cargo.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::kernel::Kernel;
use crate::lock::Lock;
use crate::machine::Arch;
use crate::setup::debug_kernel::LLVM;
use crate::step::Place;

/// Builds the project's modules for `kernel` and returns all of them, as listed by kbuild.
pub fn modules(place: &Place, kernel: &Kernel) -> Result<Vec<PathBuf>> {
    external(place, kernel, &place.tree, "modules", &[])
}

/// Compiles the project's modules for `kernel` with clippy in place of rustc; warnings are errors.
pub fn clippy(place: &Place, kernel: &Kernel) -> Result<()> {
    let arguments = ["CLIPPY=1", "KRUSTFLAGS=-Dwarnings"];
    external(place, kernel, &place.tree, "clippy", &arguments).map(|_| ())
}

/// Builds the modules that only tests use.
pub fn test_modules(place: &Place, kernel: &Kernel) -> Result<Vec<PathBuf>> {
    external(place, kernel, &place.tree.join("tests/modules"), "test-modules", &[])
}

fn external(
    place: &Place,
    kernel: &Kernel,
    tree: &Path,
    what: &str,
    arguments: &[&str],
) -> Result<Vec<PathBuf>> {
    if !tree.join("Kbuild").exists() {
        bail!("there are no modules to build in {}", tree.display());
    }
    let name = format!("{}-{}-{what}", kernel.name, tree_id(place));
    let _lock = Lock::take(&place.cache, &format!("build-{name}"))?;
    let out = place.cache.dir(format!("build/{name}"))?;
    let log = place.cache.dir("logs")?.join(format!("build-{name}.log"));
    let mut make = Command::new("make");
    make.arg("-C").arg(&kernel.build).args(["-j2", "--no-print-directory"]);
    make.args(toolchain(place, kernel)).args(arguments);
    make.arg(format!("M={}", tree.display())).arg(format!("MO={}", out.display()));
    let result = make.arg("modules").output().context("running make")?;
    let text = [result.stdout, result.stderr].concat();
    fs::write(&log, &text).with_context(|| format!("writing {}", log.display()))?;
    if !result.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&text).trim_end());
        bail!("building the modules for kernel {} failed, see {}", kernel.name, log.display());
    }
    show_warnings(&String::from_utf8_lossy(&text));
    listed(&out)
}

/// Arguments of make for the compilers that `kernel` was built with.
pub fn toolchain(place: &Place, kernel: &Kernel) -> Vec<String> {
    if kernel.name == "z" {
        let bin = place.cache.path("toolchain/rust-1.96/bin");
        let tool = |name: &str| bin.join(name).display().to_string();
        return vec![
            "ARCH=s390".into(),
            "CROSS_COMPILE=s390x-linux-gnu-".into(),
            format!("RUSTC={}", tool("rustc")),
            format!("RUSTDOC={}", tool("rustdoc")),
            format!("RUSTFMT={}", tool("rustfmt")),
            format!("CLIPPY_DRIVER={}", tool("clippy-driver")),
        ];
    }
    if kernel.name == "debug" {
        return vec![LLVM.into()];
    }
    vec!["CROSS_COMPILE=x86_64-linux-gnu-".into(), "CC=x86_64-linux-gnu-gcc-14".into()]
}

/// A short name for this tree, so that several may share a cache.
fn tree_id(place: &Place) -> String {
    let hash = Sha256::digest(place.tree.display().to_string());
    format!("{hash:x}").chars().take(8).collect()
}

/// Warnings about the kernel's own flags, and what follows every warning.
const NOISE: &[&str] = &["unstable feature specified for `-Ctarget-feature`", "warning emitted"];

/// A build that succeeds is quiet but for its warnings.
fn show_warnings(text: &str) {
    let mut shown = false;
    for line in text.lines() {
        if NOISE.iter().any(|noise| line.contains(noise)) {
            shown = false;
        } else if line.contains("warning:") || line.contains("WARNING:") {
            shown = true;
        } else if line.starts_with("  ")
            && line.trim_start().starts_with(|c: char| c.is_ascii_uppercase())
        {
            // The next of kbuild's `  RUSTC [M] …` lines.
            shown = false;
        }
        if shown {
            eprintln!("{line}");
        }
    }
}

/// The modules in kbuild's list below `out`.
fn listed(out: &Path) -> Result<Vec<PathBuf>> {
    let path = out.join("modules.order");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.lines().map(|line| out.join(Path::new(line).with_extension("ko"))).collect())
}

/// Builds the workspace's program `name`, static, for inside a machine, and returns its path.
pub fn program(place: &Place, arch: Arch, name: &str) -> Result<PathBuf> {
    let target = arch.target();
    let variable = target.to_uppercase().replace('-', "_");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&place.tree);
    cargo.args(["build", "--quiet", "--locked", "--profile", "machine", "--target", target]);
    cargo.args(["--package", name]);
    cargo.env(format!("CARGO_TARGET_{variable}_RUSTFLAGS"), "-C target-feature=+crt-static");
    if arch == Arch::S390 {
        cargo.env(format!("CARGO_TARGET_{variable}_LINKER"), "s390x-linux-gnu-gcc");
    }
    let status = cargo.status().context("running cargo")?;
    if !status.success() {
        bail!("building {name} for {target} failed");
    }
    Ok(cargo_target()?.join(target).join("machine").join(name))
}

/// Where cargo puts what it makes of this tree.
pub fn cargo_target() -> Result<PathBuf> {
    let dir = std::env::var_os("CARGO_TARGET_DIR").context("CARGO_TARGET_DIR is not set")?;
    Ok(PathBuf::from(dir))
}
