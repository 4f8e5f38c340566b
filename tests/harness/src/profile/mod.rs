// SPDX-License-Identifier: GPL-2.0
//! Where the instructions of an exit go, by function, on the project's modules and on the kernel's.
//!
//! The machine makes the exits of one measurement of the program `bench` without end; QEMU logs every
//! instruction for a while. What happened between two instructions of the guest is an exit, and most exits are alike.

mod symbols;
mod trace;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::build;
use crate::cli::BenchArgs;
use crate::exec::{self, ModuleSet, Request};
use crate::lines::Lines;
use crate::machine;
use crate::monitor::Monitor;
use crate::session::{Listener, Sender};
use crate::setup;
use crate::step::Place;

use symbols::Symbols;

/// How long the machine may take from its boot to the end of the log.
const LIMIT: Duration = Duration::from_secs(600);

/// How long the program may take to its first exit.
const START: Duration = Duration::from_secs(5);

/// How large the log may become; a line has about 100 bytes.
const LOG_BYTES: u64 = 150 << 20;

/// How long it may take to become that large.
const LOG_TIME: Duration = Duration::from_secs(60);

/// Functions with fewer instructions than one in so many are summed up.
const SMALLEST_SHARE: usize = 200;

/// Shows where the instructions of the measurement that `args` names go.
pub fn run(place: &Place, args: &BenchArgs) -> Result<bool> {
    ensure!(args.machine == "amd", "only the machine 'amd' can log the instructions it executes");
    ensure!(!args.pattern.is_empty(), "say whose instructions: B=exit/cpuid, for example");
    let sets: &[ModuleSet] = match args.modules.as_str() {
        "rust" => &[ModuleSet::Rust],
        "c" => &[ModuleSet::C],
        "both" => &[ModuleSet::Rust, ModuleSet::C],
        other => bail!("MODULES={other}: say rust, c or both"),
    };
    setup::make(place, &["packages"])?;
    for set in sets {
        let name = if *set == ModuleSet::C { "c" } else { "rust" };
        let table = one(place, *set, &args.pattern).with_context(|| format!("MODULES={name}"))?;
        let file = place.cache.dir("profile")?.join(format!("{}.{name}.md", flat(&args.pattern)));
        fs::write(&file, &table).with_context(|| format!("writing {}", file.display()))?;
        println!("{table}\nwritten to {}\n", file.display());
    }
    Ok(true)
}

/// A name that can be a file's.
fn flat(name: &str) -> String {
    name.replace(['/', ' '], "-")
}

/// One boot.
fn one(place: &Place, modules: ModuleSet, pattern: &str) -> Result<String> {
    let dir = place.cache.dir(format!("profile/{}", std::process::id()))?;
    let mut request = Request::new(machine::by_name("amd")?);
    request.modules = modules;
    request.icount = true;
    request.timeout = LIMIT;
    request.monitor = Some(dir.join("monitor"));
    request.files = vec![build::program(place, request.machine.arch(), "bench")?];
    request.cmd = Some(format!(
        "grep -i ' [tw] ' /proc/kallsyms; ./bench {pattern} && ./bench --endless {pattern}"
    ));
    let mut watcher = Watcher::new(&dir);
    let outcome = exec::run(place, &request, &mut watcher)?;
    let Some(taken) = watcher.taken else {
        bail!("'{pattern}' isn't measured: {}", outcome.trouble.unwrap_or_default());
    };
    taken?;
    let log = File::open(dir.join("log")).context("opening the log of instructions")?;
    let table = table(pattern, &trace::exits(log)?, &watcher.symbols)?;
    fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    Ok(table)
}

/// Collects symbols, and has the log written once the measurement was made once: then it can be.
struct Watcher {
    dir: PathBuf,
    lines: Lines,
    symbols: Symbols,
    taken: Option<Result<()>>,
}

impl Watcher {
    fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            lines: Lines::default(),
            symbols: Symbols::default(),
            taken: None,
        }
    }

    fn line(&mut self, line: &str) {
        if line.starts_with("measured ") && self.taken.is_none() {
            self.taken = Some(log(&self.dir));
        } else if !self.symbols.take(line) && self.taken.is_none() {
            println!("{line}");
        }
    }
}

impl Listener for Watcher {
    fn up(&mut self, _tx: &Sender) {}

    fn stdout(&mut self, bytes: &[u8]) {
        for line in self.lines.take(bytes) {
            self.line(&line);
        }
    }

    fn stderr(&mut self, bytes: &[u8]) {
        eprint!("{}", String::from_utf8_lossy(bytes));
    }
}

/// Has the log written, and ends the machine.
fn log(dir: &Path) -> Result<()> {
    let path = dir.join("log");
    let mut monitor = Monitor::connect(&dir.join("monitor"))?;
    thread::sleep(START);
    monitor.command("stop")?;
    monitor.command(&format!("logfile {}", path.display()))?;
    monitor.command("one-insn-per-tb on")?;
    monitor.command("log exec,nochain")?;
    monitor.command("cont")?;
    let deadline = Instant::now() + LOG_TIME;
    let size = || fs::metadata(&path).map_or(0, |file| file.len());
    while size() < LOG_BYTES && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    monitor.command("stop")?;
    monitor.command("log none")?;
    monitor.quit();
    Ok(())
}

/// Instructions by function, of an exit like most.
fn table(pattern: &str, exits: &[trace::Exit], symbols: &Symbols) -> Result<String> {
    let (exit, alike) = trace::usual(exits).context("the log has no exit")?;
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for address in exit {
        // The VMM, and what the kernel maps there for it.
        let name = if address >> 63 == 0 { "userspace" } else { symbols.name(*address) };
        *counts.entry(name).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(name, count)| (usize::MAX - count, *name));
    let mut text = format!(
        "{pattern}: {} instructions; {alike} of {} exits are so long\n\n| | |\n| ---: | --- |\n",
        exit.len(),
        exits.len()
    );
    let small = exit.len() / SMALLEST_SHARE;
    for (name, count) in counts.iter().filter(|(_, count)| *count > small) {
        text += &format!("| {count} | `{name}` |\n");
    }
    let rest: usize = counts.iter().map(|(_, count)| *count).filter(|count| *count <= small).sum();
    text += &format!("| {rest} | others |\n");
    Ok(text)
}
