// SPDX-License-Identifier: GPL-2.0
//! Tools that look at guests from the host: perf and kvm_stat.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bare::{Code, DONE, Floppy};
use super::checks::SEED;
use super::linux::{Image, Linux, options};
use super::vmm::Vmm;

/// How long a tool or a boot sector may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What `program` prints; a failure shows what it said.
pub(super) fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let line = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).output().with_context(line)?;
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}: {words}{errors}", line(), output.status);
    }
    Ok(words)
}

/// The command that perf starts when it records, and what tells that it has.
const STARTED_SCRIPT: &str = "echo >/tmp/perf.started; exec sleep 1000";
const STARTED: &str = "/tmp/perf.started";

/// A recording of perf's, which ends and is removed with this.
struct Recording {
    perf: Child,
    path: &'static str,
}

impl Recording {
    /// Records all that `perf kvm stat` knows of every guest.
    fn start(path: &'static str) -> Result<Self> {
        let perf = Command::new("perf")
            .args(["kvm", "stat", "record", "-a", "-o", path, "sh", "-c", STARTED_SCRIPT])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("perf kvm stat record")?;
        let mut recording = Self { perf, path };
        let deadline = Instant::now() + LIMIT;
        while fs::remove_file(STARTED).is_err() {
            ensure!(recording.perf.try_wait()?.is_none(), "perf kvm stat record ended at once");
            ensure!(Instant::now() < deadline, "perf kvm stat record doesn't begin");
            thread::sleep(Duration::from_millis(50));
        }
        Ok(recording)
    }

    fn end(&mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.perf.id())?), Signal::SIGINT)
            .context("ending perf")?;
        self.perf.wait().context("perf kvm stat record")?;
        Ok(())
    }

    /// The number of samples by name, for one kind of event.
    fn samples(&self, event: &str) -> Result<BTreeMap<String, u64>> {
        // It prints the table where it prints errors.
        let report = format!("perf kvm -i {} stat report --stdio --event={event} 2>&1", self.path);
        let report = output("sh", &["-c", &report])?;
        let row = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let percent = words.iter().position(|word| word.ends_with('%'))?;
            let samples = words.get(percent.checked_sub(1)?)?.parse().ok()?;
            Some((words.get(..percent - 1)?.join(" "), samples))
        };
        Ok(report.lines().filter_map(row).collect())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.perf.kill();
        let _ = self.perf.wait();
        let _ = fs::remove_file(self.path);
    }
}

/// perf counts a guest's exits by reason, and its ports, between the exit and the next entry.
pub(crate) fn perf_kvm() -> Result<()> {
    let floppy = Floppy::new("ticks.img", Code::Ticks, &[])?;
    let mut recording = Recording::start("/tmp/perf.data.guest")?;
    let mut vmm = Vmm::start(&floppy.options())?;
    vmm.console.expect(DONE, LIMIT).map_err(|error| vmm.explain(error))?;
    vmm.quit()?;
    recording.end()?;
    let exits = recording.samples("vmexit")?;
    for (reason, least) in [("hlt", 5), ("io", 100), ("npf", 20)] {
        let samples = exits.get(reason).copied().unwrap_or(0);
        ensure!(samples >= least, "{samples} exits by {reason}: {exits:?}");
    }
    let ports = recording.samples("ioport")?;
    let letters = ports.get("0x3f8:POUT").copied().unwrap_or(0);
    ensure!(letters >= DONE.len() as u64, "{letters} letters to the serial port: {ports:?}");
    Ok(())
}

/// kvm_stat shows what guests do, by the counters of debugfs and by tracepoints.
pub(crate) fn kvm_stat() -> Result<()> {
    let options = options(Image::Elf, "quiet")?;
    let mut guest = Linux::boot(&options)?;
    guest.ask(&format!("start {SEED} 16"))?;
    // -1: what happens in a second.
    let counters = table(&output("kvm_stat", &["-1", "-d"])?);
    for name in ["exits", "irq_exits"] {
        ensure!(counters.contains_key(name), "no {name} in {counters:?}");
    }
    let traced = table(&output("kvm_stat", &["-1", "-t"])?);
    for name in ["kvm_entry", "kvm_exit"] {
        ensure!(traced.get(name).is_some_and(|&count| count > 0), "no {name} in {traced:?}");
    }
    let by_reason: u64 = traced
        .iter()
        .filter(|(name, _)| name.starts_with("kvm_exit("))
        .map(|(_, count)| count)
        .sum();
    ensure!(by_reason > 0, "no reason of an exit in {traced:?}");
    guest.ask("stop")?;
    guest.power_off()?;
    Ok(())
}

/// Rows of a name and a number.
fn table(text: &str) -> BTreeMap<String, u64> {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        Some((name, words.next()?.parse().ok()?))
    };
    text.lines().filter_map(row).collect()
}
