// SPDX-License-Identifier: GPL-2.0
//! `ground/harness/…`: the harness keeps its promises. Each test is a run of the harness itself, as a
//! user would start it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

use super::{Job, Verdict};
use crate::exec::{self, Request};
use crate::session::{BROKEN, TIMED_OUT};
use crate::step::Place;
use crate::{build, machine};

type Test = fn(&Place) -> Result<()>;

const TESTS: &[(&str, Test)] = &[
    ("status-and-output", status_and_output),
    ("hang", hang),
    ("planted-warning", planted_warning),
];

/// One job per test.
pub(super) fn jobs(place: &Place) -> Vec<Job> {
    let job = |(name, test): &(&str, Test)| {
        let (place, test) = (place.clone(), *test);
        Job {
            names: vec![format!("ground/harness/{name}")],
            work: Box::new(move |_| {
                vec![match test(&place) {
                    Ok(()) => Verdict::Passed,
                    Err(error) => Verdict::Failed(format!("{error:#}")),
                }]
            }),
        }
    };
    TESTS.iter().map(job).collect()
}

/// `harness exec` on `amd` without modules.
fn exec(cmd: &str, files: &[PathBuf], timeout: u32) -> Result<Output> {
    let harness = std::env::current_exe().context("finding the harness")?;
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let mut command = Command::new(harness);
    for variable in ["KVM_T", "KVM_M", "KVM_KERNEL", "KVM_ICOUNT", "KVM_SMP", "KVM_MEM"] {
        command.env_remove(variable);
    }
    command
        .arg("exec")
        .env("KVM_MODULES", "none")
        .env("KVM_CMD", cmd)
        .env("KVM_FILES", files.join(" "))
        .env("KVM_TIMEOUT", timeout.to_string());
    command.output().context("running the harness")
}

fn check(out: &Output, status: u8, stderr: &str) -> Result<()> {
    let text = String::from_utf8_lossy(&out.stderr);
    ensure!(
        out.status.code() == Some(i32::from(status)),
        "ended with {} instead of {status}; standard error:\n{text}",
        out.status
    );
    ensure!(text.contains(stderr), "'{stderr}' is missing in standard error:\n{text}");
    Ok(())
}

/// The exit status is the command's, standard output is the command's and nothing else, standard
/// error and quotes come through.
fn status_and_output(_place: &Place) -> Result<()> {
    let out = exec("echo \"a  'b'\" '$HOME' \"$((6 * 7))\"; echo complaint >&2; exit 7", &[], 60)?;
    check(&out, 7, "complaint")?;
    let stdout = String::from_utf8_lossy(&out.stdout);
    ensure!(stdout == "a  'b' $HOME 42\n", "standard output is {stdout:?}");
    Ok(())
}

/// A command that hangs is ended, and the message says what hung and where the console log is.
fn hang(_place: &Place) -> Result<()> {
    let out = exec("echo started; sleep 1000", &[], 3)?;
    check(&out, TIMED_OUT, "the command took longer than 3 s; console log: ")?;
    ensure!(out.stdout == b"started\n", "output before the hang is lost");
    Ok(())
}

/// A warning in the kernel's log fails the run, whatever the command says.
fn planted_warning(place: &Place) -> Result<()> {
    let request = Request::new(machine::by_name("amd")?);
    let kernel = exec::prepare(place, &request)?;
    let built = build::test_modules(place, &kernel)?;
    let named = |file: &&PathBuf| file.file_name() == Path::new("kvm_test_warn.ko").file_name();
    let module = built.iter().find(named).context("kvm_test_warn.ko was not built")?;
    let out = exec("insmod kvm_test_warn.ko && echo fine", &[module.clone()], 60)?;
    check(&out, BROKEN, "WARNING: ")?;
    ensure!(out.stdout == b"fine\n", "the module was not loaded");
    Ok(())
}
