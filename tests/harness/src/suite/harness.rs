// SPDX-License-Identifier: GPL-2.0
//! `ground/harness/…`: the harness keeps its promises. Each test is a run of the harness itself, as a
//! user would start it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

use super::{Job, Verdict};
use crate::exec::{self, Request};
use crate::kernel::Choice;
use crate::session::{BROKEN, TIMED_OUT};
use crate::step::Place;
use crate::{build, machine};

pub(super) type Test = Box<dyn FnOnce(&Place) -> Result<()> + Send>;

/// Mistakes that only a kernel for finding bugs notices: the test's name, the number that the test
/// module has for it, what the report says.
const FAULTS: &[(&str, u32, &str)] = &[
    ("use-after-free", 1, "BUG: KASAN: slab-use-after-free"),
    ("sleep-under-spinlock", 2, "BUG: sleeping function called from invalid context"),
    ("lock-order", 3, "WARNING: possible circular locking dependency detected"),
    ("leak", 4, "unreferenced object 0x"),
];

/// One job per test; with `long` also those of the debug kernel.
pub(super) fn jobs(place: &Place, long: bool) -> Vec<Job> {
    let mut jobs = vec![
        job(place, "ground/harness/status-and-output".into(), Box::new(status_and_output)),
        job(place, "ground/harness/hang".into(), Box::new(hang)),
        job(
            place,
            "ground/harness/planted-warning".into(),
            Box::new(|place| planted(place, Choice::Stock, 0, "WARNING: ")),
        ),
    ];
    for (name, kind, report) in FAULTS.iter().filter(|_| long) {
        jobs.push(job(
            place,
            format!("ground/harness-debug/planted-{name}"),
            Box::new(|place| planted(place, Choice::Debug, *kind, report)),
        ));
    }
    jobs
}

/// A job of one test.
pub(super) fn job(place: &Place, name: String, test: Test) -> Job {
    let place = place.clone();
    Job {
        names: vec![name],
        work: Box::new(move |_| {
            vec![match test(&place) {
                Ok(()) => Verdict::Passed,
                Err(error) => Verdict::Failed(format!("{error:#}")),
            }]
        }),
    }
}

/// `harness exec` on `amd` without modules.
fn exec(cmd: &str, files: &[PathBuf], kernel: Choice, timeout: u32) -> Result<Output> {
    let harness = std::env::current_exe().context("finding the harness")?;
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let mut command = Command::new(harness);
    for variable in ["KVM_T", "KVM_M", "KVM_ICOUNT", "KVM_SMP", "KVM_MEM"] {
        command.env_remove(variable);
    }
    command
        .arg("exec")
        .env("KVM_MODULES", "none")
        .env("KVM_KERNEL", if kernel == Choice::Debug { "debug" } else { "stock" })
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
    let out = exec(
        "echo \"a  'b'\" '$HOME' \"$((6 * 7))\"; echo complaint >&2; exit 7",
        &[],
        Choice::Stock,
        60,
    )?;
    check(&out, 7, "complaint")?;
    let stdout = String::from_utf8_lossy(&out.stdout);
    ensure!(stdout == "a  'b' $HOME 42\n", "standard output is {stdout:?}");
    Ok(())
}

/// A command that hangs is ended, and the message says what hung and where the console log is.
fn hang(_place: &Place) -> Result<()> {
    let out = exec("echo started; sleep 1000", &[], Choice::Stock, 8)?;
    check(&out, TIMED_OUT, "the command took longer than 8 s; console log: ")?;
    ensure!(out.stdout == b"started\n", "output before the hang is lost");
    Ok(())
}

/// A mistake that the kernel notices fails the run, whatever the command says: number `kind` of the
/// test module, with `report` in the log.
fn planted(place: &Place, kernel: Choice, kind: u32, report: &str) -> Result<()> {
    let mut request = Request::new(machine::by_name("amd")?);
    request.kernel = kernel;
    let prepared = exec::prepare(place, &request)?;
    let built = build::test_modules(place, &prepared)?;
    let named = |file: &&PathBuf| file.file_name() == Path::new("kvm_test_fault.ko").file_name();
    let module = built.iter().find(named).context("kvm_test_fault.ko was not built")?;
    let command = format!("insmod kvm_test_fault.ko kind={kind} && echo fine");
    let out = exec(&command, std::slice::from_ref(module), kernel, 120)?;
    check(&out, BROKEN, report)?;
    ensure!(out.stdout == b"fine\n", "the module was not loaded");
    Ok(())
}
