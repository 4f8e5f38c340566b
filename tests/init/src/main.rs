// SPDX-License-Identifier: GPL-2.0
//! PID 1 inside a machine: mounts what a command needs, loads modules, runs the command, sends what
//! it writes to the harness as frames (see `proto`), and at the end the kernel's log and the exit
//! status. Then it powers the machine off.

mod channel;
mod command;
mod klog;
mod modules;
mod mounts;

use std::fs;

use anyhow::{Context, Result};
use nix::sys::reboot::{RebootMode, reboot};
use proto::{Exit, Job, Kind};

use channel::Sender;

/// Exit status of a run that PID 1 itself could not carry out.
const FAILED: u8 = 126;

fn main() {
    if std::process::id() != 1 {
        eprintln!("this is PID 1 of a machine, it does nothing elsewhere");
        std::process::exit(1);
    }
    if let Err(error) = session() {
        // Nobody to tell but the console, which not every machine connects to standard error.
        let words = format!("machine_init: {error:#}\n");
        if fs::write("/dev/kmsg", &words).is_err() {
            eprint!("{words}");
        }
    }
    nix::unistd::sync();
    let _ = reboot(RebootMode::RB_POWER_OFF);
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// From the first mount to the last frame. An error means that there is no channel.
fn session() -> Result<()> {
    mounts::early()?;
    let job = read_job()?;
    let (sender, receiver) = channel::open(&job)?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    sender.send(Kind::Hello, release.trim().as_bytes());
    let status = match prepare(&job).and_then(|()| command::run(&job, &sender, receiver)) {
        Ok(status) => status,
        Err(error) => {
            sender.send(Kind::Note, format!("{error:#}").as_bytes());
            FAILED
        }
    };
    finish(&sender, status);
    Ok(())
}

fn read_job() -> Result<Job> {
    let text = fs::read(proto::job::JOB).context("reading the job")?;
    serde_json::from_slice(&text).context("understanding the job")
}

fn prepare(job: &Job) -> Result<()> {
    modules::load(&job.boot)?;
    modules::load(&job.load)?;
    mounts::root(&job.root)
}

fn finish(sender: &Sender, status: u8) {
    let leaks = klog::leaks();
    let mut log =
        klog::read().unwrap_or_else(|error| format!("no kernel log: {error:#}").into_bytes());
    log.extend(leaks);
    sender.send(Kind::KernelLog, &log);
    let exit = Exit { status, frames: sender.sent() };
    sender.send(Kind::Exit, &exit.to_payload());
    sender.drain();
}
