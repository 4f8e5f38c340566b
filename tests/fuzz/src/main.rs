// SPDX-License-Identifier: GPL-2.0
//! Random but well-formed ioctls, from several threads at once, on /dev/kvm and all that comes of it.
//!
//! Nothing is expected of the answers: the kernel this runs on looks for mistakes. The time is cut into
//! [`episode`]s, each a process of its own that follows from its seed and is killed at its end, half of
//! them in the middle of what they do. One that doesn't die is a finding too.

mod argument;
mod code;
mod count;
mod episode;
mod table;
mod world;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use count::Counts;

#[derive(Parser)]
struct Args {
    /// How long, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The seed of the first episode; those after it count up.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads of an episode.
    #[arg(long, default_value_t = 4)]
    threads: u32,
    /// How many episodes at most: with one thread, one repeats what a seed did.
    #[arg(long)]
    episodes: Option<u64>,
}

/// How long an episode lasts.
const EPISODE: Duration = Duration::from_millis(1500);

/// How long a killed process may take to be gone, on a slow kernel.
const DEATH: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let args = Args::parse();
    let counts = Counts::shared()?;
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let seeds = args.seed..args.seed.saturating_add(args.episodes.unwrap_or(u64::MAX - args.seed));
    let mut last = args.seed;
    for seed in seeds {
        if Instant::now() >= end {
            break;
        }
        println!("seed {seed}");
        last = seed;
        one(seed, args.threads, counts)?;
    }
    counts.print();
    println!("seeds {} to {last}, no report", args.seed);
    Ok(())
}

/// Runs the episode of `seed` in a process, and kills that.
fn one(seed: u64, threads: u32, counts: &'static Counts) -> Result<()> {
    // SAFETY: this process has one thread.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Child => {
            let result = episode::run(seed, threads, counts, EPISODE);
            if let Err(error) = &result {
                println!("seed {seed}: {error:#}");
            }
            // SAFETY: ends this process, whose other threads may still be busy.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
        ForkResult::Parent { child } => {
            let life = if seed % 2 == 0 { EPISODE * 2 } else { EPISODE / 2 };
            let ended = wait(child, life)?;
            let ended = if let Some(status) = ended {
                status
            } else {
                kill(child, Signal::SIGKILL).context("killing an episode")?;
                match wait(child, DEATH)? {
                    Some(status) => status,
                    None => bail!("seed {seed}: the process doesn't die; see /proc/{child}/stack"),
                }
            };
            match ended {
                WaitStatus::Exited(_, 0) | WaitStatus::Signaled(_, Signal::SIGKILL, _) => Ok(()),
                other => bail!("seed {seed}: the process ended by itself: {other:?}"),
            }
        }
    }
}

/// Waits for the end of `child`, `limit` at most.
fn wait(child: Pid, limit: Duration) -> Result<Option<WaitStatus>> {
    let end = Instant::now() + limit;
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)).context("waiting for an episode")? {
            WaitStatus::StillAlive if Instant::now() >= end => return Ok(None),
            WaitStatus::StillAlive => std::thread::sleep(Duration::from_millis(5)),
            status => return Ok(Some(status)),
        }
    }
}
