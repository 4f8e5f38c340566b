// SPDX-License-Identifier: GPL-2.0
//! Test cases that run as root inside a machine, against modules in `/run/modules`.
//!
//! `cases --list` describes them, one line each:
//!
//! ```text
//! NAME machines=amd,intel,z group=GROUP long=yes|no smp=N [root=own]
//! ```
//!
//! Cases of one group may share a boot with `smp` processors. `root=own` asks for a root file system
//! that doesn't come from the host. `cases NAME …` runs the named ones and
//! prints, for each, `case NAME ok`, `case NAME skipped REASON` or `case NAME FAILED REASON`. It exits
//! with 1 if one failed. Each case starts and ends with no KVM module loaded.

mod case;
mod device;
mod ground;
mod kernel_log;
mod memory;
mod module;
mod processor;
mod show;
mod vm;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

use case::{Case, Outcome};

#[derive(Parser)]
struct Options {
    /// Describe the cases and exit.
    #[arg(long)]
    list: bool,
    /// Show what /dev/kvm answers and exit; the modules have to be loaded.
    #[arg(long)]
    show: bool,
    /// The cases to run.
    names: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        for case in cases() {
            println!("{case}");
        }
        return ExitCode::SUCCESS;
    }
    let result = if options.show { show::run().map(|()| true) } else { run(&options.names) };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cases: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// All cases.
fn cases() -> impl Iterator<Item = &'static Case> {
    ground::CASES.iter().chain(vm::CASES)
}

/// Runs the named cases; whether none failed.
fn run(names: &[String]) -> Result<bool> {
    if names.is_empty() {
        bail!("name the cases to run; --list describes them");
    }
    let mut clean = true;
    for name in names {
        let Some(case) = cases().find(|case| case.name == name) else {
            bail!("there is no case '{name}'");
        };
        clean &= report(case, case.run());
    }
    Ok(clean)
}

fn report(case: &Case, result: Result<Outcome>) -> bool {
    let name = case.name;
    match result {
        Ok(Outcome::Passed) => println!("case {name} ok"),
        Ok(Outcome::Skipped(reason)) => println!("case {name} skipped {reason}"),
        Err(error) => {
            println!("case {name} FAILED {}", format!("{error:#}").replace('\n', " / "));
            return false;
        }
    }
    true
}
