// SPDX-License-Identifier: GPL-2.0
//! `host/…`: the unit tests of the workspace's crates, on this host.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{Job, Verdict};
use crate::step::Place;

/// Test programs by crate, built once for all.
type Programs = BTreeMap<String, Vec<PathBuf>>;

/// What is used of `cargo metadata`.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
}

/// What is used of cargo's messages.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    manifest_path: PathBuf,
    executable: Option<PathBuf>,
}

/// One job per crate, and one for the examples in documentation.
pub(super) fn jobs(place: &Place) -> Result<Vec<Job>> {
    let mut cargo = cargo(place);
    cargo.args(["metadata", "--no-deps", "--locked", "--format-version=1"]);
    let out = cargo.output().context("running cargo metadata")?;
    if !out.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&out.stdout).context("cargo's metadata")?;
    let built: Arc<OnceLock<Result<Programs, String>>> = Arc::default();
    let mut jobs = Vec::new();
    for package in metadata.packages {
        let (place, built) = (place.clone(), built.clone());
        jobs.push(Job {
            names: vec![format!("host/{}", package.name)],
            work: Box::new(move |_| {
                let programs = built.get_or_init(|| build(&place).map_err(|e| format!("{e:#}")));
                vec![run_tests(&package, programs)]
            }),
        });
    }
    let place = place.clone();
    jobs.push(Job {
        names: vec!["host/doc-examples".into()],
        work: Box::new(move |_| {
            vec![verdict(cargo_of(
                &place,
                &["test", "--quiet", "--locked", "--workspace", "--doc"],
            ))]
        }),
    });
    Ok(jobs)
}

fn cargo(place: &Place) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&place.tree);
    cargo
}

fn cargo_of(place: &Place, arguments: &[&str]) -> Command {
    let mut cargo = cargo(place);
    cargo.args(arguments);
    cargo
}

/// Builds the test programs of all crates.
fn build(place: &Place) -> Result<Programs> {
    let mut cargo = cargo(place);
    cargo.args(["test", "--quiet", "--locked", "--workspace", "--no-run", "--message-format=json"]);
    let out = cargo.output().context("running cargo test")?;
    if !out.status.success() {
        bail!("building the tests failed:\n{}", String::from_utf8_lossy(&out.stderr));
    }
    let mut programs = Programs::new();
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let Ok(Message { manifest_path, executable: Some(program) }) = serde_json::from_str(line)
        else {
            continue;
        };
        let key = manifest_path.display().to_string();
        programs.entry(key).or_default().push(program);
    }
    Ok(programs)
}

fn run_tests(package: &Package, programs: &Result<Programs, String>) -> Verdict {
    let programs = match programs {
        Ok(programs) => programs,
        Err(error) => return Verdict::Failed(error.clone()),
    };
    let key = package.manifest_path.display().to_string();
    for program in programs.get(&key).into_iter().flatten() {
        let mut command = Command::new(program);
        command.arg("--quiet");
        if let Some(dir) = package.manifest_path.parent() {
            command.current_dir(dir);
        }
        let result = verdict(command);
        if result != Verdict::Passed {
            return result;
        }
    }
    Verdict::Passed
}

/// Passed if the command succeeds, its output otherwise.
fn verdict(mut command: Command) -> Verdict {
    match command.output() {
        Ok(out) if out.status.success() => Verdict::Passed,
        Ok(out) => {
            let text = [out.stdout, out.stderr].concat();
            Verdict::Failed(String::from_utf8_lossy(&text).into_owned())
        }
        Err(error) => Verdict::Failed(format!("running {:?}: {error}", command.get_program())),
    }
}
