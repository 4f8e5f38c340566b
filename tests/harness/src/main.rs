// SPDX-License-Identifier: GPL-2.0
//! Prepares, boots, drives and tests the emulated machines.
//!
//! Start reading at [`exec`] (how a request becomes a run of a machine), then [`session`] (the run),
//! [`machine`] (the emulators), [`step`] and [`setup`] (what has to be made first).

#![allow(unreachable_pub, reason = "in a program, `pub` says what a module offers the others")]

mod bench;
mod build;
mod cache;
mod channel;
mod check;
mod cli;
mod exec;
mod fuzz;
mod guest;
mod initramfs;
mod kernel;
mod kselftest;
mod lines;
mod lock;
mod machine;
mod monitor;
mod panics;
mod process;
mod profile;
mod progress;
mod session;
mod setup;
mod signals;
mod step;
mod suite;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use cache::Cache;
use cli::{Cli, Verb};
use exec::Request;
use fuzz::Fuzz;
use machine::Arch;
use step::Place;
use terminal::Terminal;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match signals::watch().and_then(|()| act(&cli)) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(cli: &Cli) -> Result<u8> {
    let place =
        Place { cache: Cache::new(path_variable("KVM_CACHE")?), tree: path_variable("KVM_TREE")? };
    match &cli.verb {
        Verb::Run(args) => {
            let mut request = Verb::main_job(args)?;
            let arch = request.machine.arch();
            setup::make(
                &place,
                if arch == Arch::S390 { &["packages", "s390x"] } else { &["packages"] },
            )?;
            request.files = vec![build::program(&place, arch, "cases")?];
            request.cmd = Some("./cases --main-job".into());
            run(&place, request)
        }
        Verb::Shell(args) => {
            let mut request = args.request()?;
            request.terminal = Terminal::is_real();
            request.timeout = std::time::Duration::from_secs(7 * 24 * 3600);
            run(&place, request)
        }
        Verb::Exec { machine, cmd, files, timeout } => {
            run(&place, Verb::exec(machine, cmd, files, *timeout)?)
        }
        Verb::Kselftest(args) => kselftest::run(&place, args).map(status),
        Verb::Bench(args) => bench::run(&place, args).map(status),
        Verb::Profile(args) => profile::run(&place, args).map(status),
        Verb::Fuzz(args) => match fuzz::begin(&place, args)? {
            Fuzz::InMachine(request) => run(&place, *request),
            Fuzz::Done(status) => Ok(status),
        },
        Verb::Prepare { only } => {
            let only: Vec<&str> = only.iter().map(String::as_str).collect();
            setup::make(&place, if only.is_empty() { setup::USUAL } else { &only })?;
            Ok(0)
        }
        Verb::Test { pattern, long, modules } => {
            suite::run(&place, pattern, *long, *modules).map(status)
        }
        Verb::Check => check::run(&place).map(status),
        Verb::Doc => check::doc(&place).map(status),
        Verb::Stats => check::stats(&place).map(status),
        Verb::Clean { all } => clean(&place, *all),
    }
}

fn status(good: bool) -> u8 {
    u8::from(!good)
}

/// Removes what builds and runs left, and with `all` what setup steps made, but for the root itself:
/// it is in use right now.
fn clean(place: &Place, all: bool) -> Result<u8> {
    let _lock = lock::Lock::take(&place.cache, "setup")?;
    let built = ["build", "run", "target", "logs"];
    let made = ["stamps", "kernel", "src", "toolchain", "cargo"];
    for name in built.iter().chain(made.iter().filter(|_| all)) {
        let dir = place.cache.path(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
    }
    if all {
        eprintln!("to be rid of the rest, remove {}", place.cache.path("").display());
    }
    Ok(0)
}

fn path_variable(name: &str) -> Result<PathBuf> {
    let value = std::env::var_os(name);
    let value = value.with_context(|| format!("{name} is not set: run this through make"))?;
    Ok(PathBuf::from(value))
}

/// Runs `request` for the person at the terminal.
fn run(place: &Place, request: Request) -> Result<u8> {
    let machine = request.machine;
    let interactive = request.cmd.is_none();
    let mut terminal = Terminal::new(machine.name(), machine.max_payload(), interactive);
    let outcome = exec::run(place, &request, &mut terminal)?;
    drop(terminal);
    if let Some(trouble) = outcome.trouble {
        eprintln!("{trouble}");
    }
    Ok(outcome.status)
}
