// SPDX-License-Identifier: GPL-2.0
//! Measures what the loaded modules cost, whosever they are, on a machine whose clock counts
//! instructions.
//!
//! `bench NAME …` measures everything whose name holds one of the words, or everything, and prints a line
//! for each: `measured NAME UNIT LEAST MEDIAN`, `skipped NAME REASON` or `failed NAME REASON`. A figure is
//! the least of [`sample::SAMPLES`] samples: what is above it is the host's timer, which has nothing to do
//! with what is measured. The median says how far that is. Where threads, timers or allocators take
//! part, it is the figure. `bench --list` prints names and descriptions.
//!
//! Every measurement checks that what it measures happened, by the kernel's own counters
//! (`KVM_GET_STATS_FD`) or by what the guest sees.

#[cfg(target_arch = "x86_64")]
mod boot;
#[cfg(target_arch = "x86_64")]
mod crowd;
#[cfg(target_arch = "x86_64")]
mod exits;
#[cfg(target_arch = "x86_64")]
mod footprint;
#[cfg(target_arch = "x86_64")]
mod memory;
#[cfg(target_arch = "x86_64")]
mod objects;
#[cfg(target_arch = "x86_64")]
mod sample;
#[cfg(target_arch = "x86_64")]
mod timer;
#[cfg(target_arch = "x86_64")]
mod wakes;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
struct Options {
    /// Describe the measurements and exit.
    #[arg(long)]
    list: bool,
    /// Make the exits of a measurement (`exit/…`) without end, for whoever watches the machine.
    #[arg(long)]
    endless: bool,
    /// Parts of the names of those to make.
    names: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn run(_options: &Options) -> Result<bool> {
    anyhow::bail!("there is nothing to measure on this machine yet")
}

#[cfg(target_arch = "x86_64")]
fn run(options: &Options) -> Result<bool> {
    let all = exits::BENCHES
        .iter()
        .chain(timer::BENCHES)
        .chain(memory::BENCHES)
        .chain(objects::BENCHES)
        .chain(wakes::BENCHES)
        .chain(footprint::BENCHES)
        .chain(crowd::BENCHES)
        .chain(boot::BENCHES);
    let chosen = |name: &str| {
        options.names.is_empty() || options.names.iter().any(|part| name.contains(part.as_str()))
    };
    if options.endless {
        sample::make_endless();
    }
    let mut good = true;
    for bench in all.filter(|bench| chosen(bench.name)) {
        if options.list {
            println!("{} {}", bench.name, bench.what);
            continue;
        }
        good &= sample::report(bench);
    }
    Ok(good)
}
