// SPDX-License-Identifier: GPL-2.0
//! Random input, for as long as one likes.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::build;
use crate::cli::{FuzzArgs, FuzzTarget};
use crate::exec::Request;
use crate::machine;
use crate::setup;
use crate::step::Place;

/// What a machine may take beyond the time that was asked for, to boot and to tell of leaks.
const MARGIN: Duration = Duration::from_secs(300);

/// The run of a machine that fuzzes, or the exit status of what ran here.
pub enum Fuzz {
    /// Run this.
    InMachine(Box<Request>),
    /// It is done.
    Done(u8),
}

/// Starts to fuzz.
pub fn begin(place: &Place, args: &FuzzArgs) -> Result<Fuzz> {
    setup::make(place, &["packages"])?;
    match args.target {
        FuzzTarget::Ioctl => ioctls(place, args).map(|request| Fuzz::InMachine(Box::new(request))),
        FuzzTarget::Emulate => emulator(place, args).map(Fuzz::Done),
    }
}

fn ioctls(place: &Place, args: &FuzzArgs) -> Result<Request> {
    let mut request = Request::new(machine::by_name("amd")?);
    request.kernel = args.kernel;
    request.modules = args.modules;
    request.smp = 2;
    request.files = vec![build::program(place, request.machine.arch(), "fuzz")?];
    request.timeout = Duration::from_secs(args.seconds) + MARGIN;
    let FuzzArgs { seconds, seed, threads, .. } = args;
    let seeds = args.seeds.map(|seeds| format!(" --episodes {seeds}")).unwrap_or_default();
    request.cmd =
        Some(format!("./fuzz --seconds {seconds} --seed {seed} --threads {threads}{seeds}"));
    Ok(request)
}

fn emulator(place: &Place, args: &FuzzArgs) -> Result<u8> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&place.tree);
    cargo.args(["test", "--quiet", "--locked", "--release", "--package", "emulate_tests"]);
    cargo.args(["--test", "robust", "--", "--nocapture"]);
    cargo.env("EMULATE_SECONDS", args.seconds.to_string());
    cargo.env("EMULATE_SEED", args.seed.to_string());
    let status = cargo.status().context("running cargo")?;
    Ok(u8::from(!status.success()))
}
