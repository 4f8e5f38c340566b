// SPDX-License-Identifier: GPL-2.0
//! Test cases that run as root inside a machine, against modules in `/run/modules`.
//!
//! `cases --list` describes them, one line each:
//!
//! ```text
//! NAME machines=amd,intel,z group=GROUP long=yes|no debug=yes|no smp=N [root=own] [guests=yes mem=MIB [steps=STEP]]
//! ```
//!
//! Cases of one group may share a boot with `smp` processors. `root=own` asks for a root file system
//! that doesn't come from the host, `guests=yes` for the files of guests, `steps` for what a step of the
//! preparation installs. `cases NAME …` runs the named ones and
//! prints, for each, `case NAME ok`, `case NAME skipped REASON` or `case NAME FAILED REASON`. It exits
//! with 1 if one failed. Cases that test the modules as such start and end with no KVM module loaded;
//! those that run guests share loaded ones. With `--loaded` the guests run on what is loaded already,
//! which may be the kernel's own modules; only the latter cases can be run so:
//!
//! ```sh
//! make exec MODULES=c SMP=2 FILES=…/cases CMD='./cases --loaded micro'
//! ```
//!
//! `--endless` runs guests until it is killed, for what happens to a machine that has some.
//!
//! A word that is no case's name stands for all cases with names that hold it.

#[cfg(target_arch = "x86_64")]
mod capability;
mod case;
mod debugfs;
mod events;
mod ground;
#[cfg(target_arch = "x86_64")]
mod guest;
mod kernel_log;
mod memory;
mod module;
mod processor;
mod qemu;
mod show;
mod vm;
mod zguest;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use case::{Case, Outcome};
use micro::{deadline, device, ram};

#[derive(Parser)]
struct Options {
    /// Describe the cases and exit.
    #[arg(long)]
    list: bool,
    /// Show what /dev/kvm answers and exit; the modules have to be loaded.
    #[arg(long)]
    show: bool,
    /// Do the main job, with its guest's console on standard output; the modules have to be loaded. Where
    /// they can't run a guest, show what /dev/kvm answers.
    #[arg(long)]
    main_job: bool,
    /// Run guests until this is killed; the modules have to be loaded.
    #[cfg(target_arch = "x86_64")]
    #[arg(long)]
    endless: bool,
    /// Use the modules that are loaded, and leave them loaded.
    #[arg(long)]
    loaded: bool,
    /// The cases to run, or parts of their names.
    names: Vec<String>,
}

fn main() -> ExitCode {
    if std::process::id() == 1 {
        // In a guest of IBM Z.
        if let Err(error) = zguest::linux::init() {
            let _ = std::fs::write("/dev/kmsg", format!("guest: {error:#}"));
        }
        return ExitCode::FAILURE;
    }
    let options = Options::parse();
    if options.list {
        for case in cases() {
            println!("{case}");
        }
        return ExitCode::SUCCESS;
    }
    #[cfg(target_arch = "x86_64")]
    if options.endless {
        return status(guest::endless::run().map(|()| true));
    }
    let result = if options.show {
        show::run().map(|()| true)
    } else if options.main_job {
        main_job().map(|()| true)
    } else {
        run(&options.names, options.loaded)
    };
    status(result)
}

/// What the process ends with: whether all held, or that something else went wrong.
fn status(result: Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cases: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// What `make run` is for.
fn main_job() -> Result<()> {
    #[cfg(target_arch = "x86_64")]
    match capability::vmm_obstacle()? {
        None => return qemu::main_job::run(),
        Some(obstacle) => println!("{obstacle}\n"),
    }
    show::run()
}

/// All cases.
fn cases() -> impl Iterator<Item = &'static Case> {
    #[cfg(target_arch = "x86_64")]
    let guests = guest::cases().chain(qemu::CASES);
    #[cfg(not(target_arch = "x86_64"))]
    let guests = std::iter::empty();
    let all = ground::CASES.iter().chain(vm::CASES).chain(events::CASES);
    let all = all.chain(debugfs::CASES).chain(guests);
    all.chain(zguest::cases()).chain(qemu::z::CASES)
}

/// Runs the named cases; whether none failed.
fn run(names: &[String], loaded: bool) -> Result<bool> {
    if names.is_empty() {
        bail!("name the cases to run; --list describes them");
    }
    let mut clean = true;
    for name in names {
        let mut chosen: Vec<&Case> = cases().filter(|case| case.name == name).collect();
        if chosen.is_empty() {
            chosen = cases().filter(|case| case.name.contains(name.as_str())).collect();
        }
        if chosen.is_empty() {
            bail!("there is no case '{name}'");
        }
        for case in chosen {
            clean &= report(case, case.run(loaded));
        }
    }
    if !loaded {
        module::unload_all().context("after all cases")?;
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
