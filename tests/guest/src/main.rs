// SPDX-License-Identifier: GPL-2.0
//! PID 1 of a small Linux guest: tells on the console that it is up and does what it is told there, one
//! line a command (see `proto::report`).

mod background;
mod blocked;
mod commands;
mod console;
mod cpu;
mod disk;
mod interrupts;
mod kernel;
mod memory;
mod net;
mod power;
mod start;
mod work;

use anyhow::Result;
use proto::report::READY;
use proto::{Fields, Report};

use console::Console;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, rest @ ..] = arguments.as_slice() {
        if flag == work::FLAG {
            std::process::exit(work::worker(rest));
        }
    }
    if std::process::id() != 1 {
        eprintln!("this is PID 1 of a guest, it does nothing elsewhere");
        std::process::exit(1);
    }
    if let Err(error) = serve() {
        // The kernel panics when PID 1 ends, and its message is seen.
        eprintln!("guest: {error:#}");
    }
}

/// From the first mount on; ends only if the console does.
fn serve() -> Result<()> {
    start::mounts()?;
    let mut console = Console::open()?;
    let up = start::modules().and_then(|()| ready());
    console
        .say(&Report { name: READY.into(), result: up.map_err(|error| format!("{error:#}")) })?;
    let mut state = commands::State::default();
    loop {
        let line = console.line()?;
        let Some((name, arguments)) = commands::split(&line) else { continue };
        let result = commands::run(&mut state, name, &arguments);
        let result = result.map_err(|error| format!("{error:#}"));
        console.say(&Report { name: name.to_owned(), result })?;
    }
}

fn ready() -> Result<Fields> {
    start::quiet()?;
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    Ok(Fields::new()
        .with("release", release.trim())
        .with("cpus", cpu::online()?.len())
        .with("uptime", uptime.split(' ').next().unwrap_or("")))
}
