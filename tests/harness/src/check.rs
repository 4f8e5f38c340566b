// SPDX-License-Identifier: GPL-2.0
//! `make check`: what can be said about the sources without running them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::kernel::Kernel;
use crate::step::Place;
use crate::{build, kernel, panics, setup};

/// Directories with sources that kbuild compiles; those of cargo's crates are formatted by cargo.
const KERNEL_SIDE: &[&str] = &["uapi", "mmu", "rust", "vmx", "svm", "s390", "tests/modules"];

/// The house rules.
const LINT: &[&str] = &["run", "--quiet", "--locked", "--package", "lint", "--", "."];

/// Below those, what is not ours.
const VENDORED: &str = "vendor";

/// Runs all checks, shows what each has to say, and returns whether all are content.
pub fn run(place: &Place) -> Result<bool> {
    setup::make(place, &["packages", kernel::step("stock")])?;
    let stock = kernel::find(&place.cache, "stock")?;
    let checks: [(&str, Check); 7] = [
        ("format", Box::new(|| says(cargo(place, &["fmt", "--all", "--check"])))),
        ("format-kernel-side", Box::new(|| says(rustfmt(place)?))),
        ("clippy", Box::new(|| says(clippy(place)))),
        ("clippy-kernel-side", Box::new(|| build::clippy(place, &stock))),
        ("panics", Box::new(|| panics(place, &stock))),
        ("lint", Box::new(|| says(cargo(place, LINT)))),
        ("doc", Box::new(|| says(doc_command(place)))),
    ];
    let (mut passed, mut failed) = (0, 0);
    for (name, check) in checks {
        let start = Instant::now();
        let result = check();
        let took = start.elapsed().as_secs_f32();
        match result {
            Ok(()) => {
                passed += 1;
                println!("check {name} ... ok ({took:.1} s)");
            }
            Err(error) => {
                failed += 1;
                eprintln!("{error:#}");
                println!("check {name} ... FAILED ({took:.1} s)");
            }
        }
    }
    println!("{passed} passed, {failed} failed, 0 skipped");
    Ok(failed == 0)
}

/// One check; the error is what it has to say.
type Check<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// Runs a command; its whole output is the error if it fails.
fn says(mut command: Command) -> Result<()> {
    let out = command.output().with_context(|| format!("running {command:?}"))?;
    if out.status.success() {
        return Ok(());
    }
    bail!("{}", String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).trim_end().to_owned())
}

/// Counts the places that can panic in the modules for the stock kernel and, where it was prepared
/// already, for that of `z`: building it takes longer than a check may.
fn panics(place: &Place, stock: &Kernel) -> Result<()> {
    let mut modules = build::modules(place, stock)?;
    if setup::is_made(place, kernel::step("z"))? {
        modules.extend(build::modules(place, &kernel::find(&place.cache, "z")?)?);
    }
    panics::check(place, &modules)
}

/// `make doc`: builds the documentation and says where it is.
pub fn doc(place: &Place) -> Result<bool> {
    setup::make(place, &["packages"])?;
    let status = doc_command(place).status().context("running cargo doc")?;
    if status.success() {
        println!("{}", build::cargo_target()?.join("doc").display());
    }
    Ok(status.success())
}

/// `make stats`: lines of each vendor beside those that are common.
pub fn stats(place: &Place) -> Result<bool> {
    setup::make(place, &["packages"])?;
    let mut stats = cargo(place, &["run", "--quiet", "--locked", "--package", "stats"]);
    Ok(stats.status().context("running stats")?.success())
}

fn cargo(place: &Place, arguments: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&place.tree).args(arguments);
    cargo
}

fn clippy(place: &Place) -> Command {
    let arguments =
        ["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    cargo(place, &arguments)
}

fn doc_command(place: &Place) -> Command {
    let arguments =
        ["doc", "--quiet", "--locked", "--workspace", "--no-deps", "--document-private-items"];
    let mut command = cargo(place, &arguments);
    command.env("RUSTDOCFLAGS", "-D warnings");
    command
}

/// rustfmt on the sources that no cargo crate reaches.
fn rustfmt(place: &Place) -> Result<Command> {
    let mut files = Vec::new();
    for dir in KERNEL_SIDE {
        find_sources(&place.tree.join(dir), &mut files)?;
    }
    let mut command = Command::new("rustfmt");
    command.current_dir(&place.tree).args(["--check", "--edition", "2021"]).args(files);
    Ok(command)
}

fn find_sources(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let context = || format!("reading {}", dir.display());
    for entry in std::fs::read_dir(dir).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != VENDORED) {
                find_sources(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
