// SPDX-License-Identifier: GPL-2.0
//! Processes that compute on a given processor.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use proto::Fields;

use crate::commands::Arguments;
use crate::cpu;

/// First argument of a worker.
pub(crate) const FLAG: &str = "--work";

/// Processes per processor: two take turns, so that their register contents do.
const EACH: u64 = 2;

/// The worker itself, `--work SEED ROUNDS CPU`; prints what it computed.
pub(crate) fn worker(arguments: &[String]) -> i32 {
    let numbers: Vec<u64> = arguments.iter().filter_map(|word| word.parse().ok()).collect();
    let [seed, rounds, cpu] = numbers[..] else { return 2 };
    let digest = guest_load::digest(seed, u32::try_from(rounds).unwrap_or(1));
    if sched_getcpu().is_ok_and(|here| u64::try_from(here) == Ok(cpu)) {
        println!("{digest}");
        return 0;
    }
    3
}

/// `load SEED ROUNDS`: on every processor at once, `EACH` processes, each with a seed of its own: SEED for
/// the first of processor 0, and so on upwards. Tells the digests as `CPU.NUMBER=…`.
pub(crate) fn load(words: &mut Arguments<'_>) -> Result<Fields> {
    let seed: u64 = words.next("seed")?;
    let rounds: u32 = words.next("number of rounds")?;
    let mut workers = Vec::new();
    for cpu in cpu::online()? {
        for number in 0..EACH {
            let seed = seed + cpu as u64 * EACH + number;
            workers.push((format!("{cpu}.{number}"), spawn(seed, rounds, cpu)?));
        }
    }
    let mut fields = Fields::new();
    for (name, mut child) in workers {
        let mut digest = String::new();
        let mut pipe = child.stdout.take().context("a worker without output")?;
        pipe.read_to_string(&mut digest).context("reading from a worker")?;
        let status = child.wait().context("waiting for a worker")?;
        ensure!(status.success(), "worker {name} ended with {status}");
        fields = fields.with(&name, digest.trim());
    }
    Ok(fields)
}

fn spawn(seed: u64, rounds: u32, cpu: usize) -> Result<Child> {
    let mut set = CpuSet::new();
    set.set(cpu).context("a processor number")?;
    let mut command = Command::new("/proc/self/exe");
    command.args([FLAG, &seed.to_string(), &rounds.to_string(), &cpu.to_string()]);
    command.stdout(Stdio::piped());
    // SAFETY: sched_setaffinity is a plain system call, allowed between fork and exec.
    unsafe {
        command.pre_exec(move || Ok(sched_setaffinity(Pid::from_raw(0), &set)?));
    }
    command.spawn().context("starting a worker")
}
