// SPDX-License-Identifier: GPL-2.0
//! The tests: those of the host crates, those of the harness itself, the cases that run inside the
//! machines, and the quick ones of the kernel's own.
//!
//! # Cases
//! The program `cases` (tests/cases) knows the cases; the harness does not. Run on this host as
//! `cases --list` it prints one line for each:
//!
//! ```text
//! NAME machines=amd,intel,z group=GROUP long=yes|no smp=N [debug=yes|no] [mem=MIB] [icount=yes|no] [root=own] [guests=yes|no] [kargs=WORD,WORD]
//! ```
//!
//! Cases of one machine with equal `group`, `long`, `smp`, `mem`, `icount`, `root`, `guests` and `kargs` share a boot;
//! `root=own` boots `amd` with a busybox in memory instead of the shared root, which does not live
//! through suspend; `guests=yes` asks for what guests are made of. In the machine all
//! modules of the project, or with `MODULES=c` the kernel's own, lie in `/run/modules` (none is loaded) and `cases NAME …` runs in the working
//! directory; it prints one line for each case when it is done:
//!
//! ```text
//! case NAME ok
//! case NAME skipped REASON
//! case NAME FAILED REASON
//! ```
//!
//! A case whose line is missing has failed, and so have all of a boot whose kernel log has a report
//! (cases that a hang cut off have failed, those before it have not).
//! The test of the case `ground/reload` on `amd` is called `ground/amd/reload`, that of `idle` `amd/idle`. With `--long` the
//! cases with `long=yes` join in, and all that do not say `debug=no` run once more on the debug kernel
//! of `amd`, as `ground/amd-debug/reload`.

mod cases;
mod harness;
mod host;
mod pool;
mod power_off;

use std::io::Write;
use std::sync::atomic::Ordering;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::exec::{self, ModuleSet};
use crate::kselftest;
use crate::setup;
use crate::step::Place;
use pool::Pool;

/// What a test came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It held.
    Passed,
    /// It makes no sense here, for this reason.
    Skipped(String),
    /// It did not hold.
    Failed(String),
}

/// A job's verdicts, in the order of the names that it was given.
type Verdicts = Vec<Verdict>;

/// Gives a verdict for each of the selected names, which it is handed.
type Work = Box<dyn FnOnce(&[String]) -> Verdicts + Send>;

/// Work that gives the verdicts of one or more tests.
pub struct Job {
    /// The tests' names.
    pub names: Vec<String>,
    /// Does it.
    pub work: Work,
}

/// Runs (or lists) the tests whose names contain `pattern`, those inside machines with `modules`; whether all
/// went well.
pub fn run(place: &Place, pattern: &str, long: bool, modules: ModuleSet) -> Result<bool> {
    setup::make(place, &["packages", "s390x"])?;
    let mut jobs = host::jobs(place)?;
    jobs.extend(harness::jobs(place, long));
    jobs.extend(cases::jobs(place, long, modules)?);
    jobs.extend(kselftest::jobs(place, modules)?);
    jobs.extend(power_off::jobs(place, modules));
    if pattern == "list" {
        let mut names: Vec<String> = jobs.into_iter().flat_map(|job| job.names).collect();
        names.sort();
        // A reader like `head` may go away early.
        let _ = std::io::stdout().write_all((names.join("\n") + "\n").as_bytes());
        return Ok(true);
    }
    let mut pool = Pool::default();
    let mut trials = Vec::new();
    for job in jobs {
        trials.extend(select(job, pattern, &mut pool));
    }
    if trials.is_empty() {
        eprintln!("no test has '{pattern}' in its name; T=list lists them");
    }
    pool.start();
    let arguments = Arguments { test_threads: Some(1), ..Arguments::default() };
    let result = libtest_mimic::run(&arguments, trials);
    println!(
        "{} passed, {} failed, {} skipped",
        result.num_passed, result.num_failed, result.num_ignored
    );
    let repeated = exec::REPEATED.load(Ordering::Relaxed);
    if repeated != 0 {
        println!("{repeated} boots did not get to PID 1 and were repeated; see above");
    }
    Ok(!result.has_failed() && result.num_passed > 0)
}

/// The trials of the selected tests of `job`, which goes to the pool if there are any.
fn select(job: Job, pattern: &str, pool: &mut Pool) -> Vec<Trial> {
    let names: Vec<String> = job.names.into_iter().filter(|name| name.contains(pattern)).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let results = pool.add(names.clone(), job.work);
    let trial = |(index, name): (usize, String)| {
        let results = results.clone();
        Trial::ignorable_test(name, move || completion(results.get(index)))
    };
    names.into_iter().enumerate().map(trial).collect()
}

fn completion(verdict: Verdict) -> Result<Completion, Failed> {
    match verdict {
        Verdict::Passed => Ok(Completion::Completed),
        Verdict::Skipped(reason) => Ok(Completion::ignored_with(reason)),
        Verdict::Failed(reason) => Err(Failed::from(reason)),
    }
}
