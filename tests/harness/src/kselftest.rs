// SPDX-License-Identifier: GPL-2.0
//! The kernel's own tests of KVM, on the project's modules and on the kernel's.
//!
//! Each runs by itself with a limit; one that breaks the machine costs the boot, and the next boot goes on
//! behind it. What passes on the kernel's modules and not on the project's fails the whole, unless
//! `tests/kselftest.toml` says why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::cli::KselftestArgs;
use crate::exec::{self, ModuleSet, Request};
use crate::machine;
use crate::session::{Listener, Sender};
use crate::setup::{self, kselftest::DIR};
use crate::step::Place;

/// Limit for a test that isn't named in [`SLOW`].
const LIMIT: Duration = Duration::from_secs(120);

/// Limits for those that need longer on an emulated processor, in seconds.
const SLOW: &[(&str, u64)] = &[
    ("access_tracking_perf_test", 400),
    ("demand_paging_test", 300),
    ("dirty_log_perf_test", 400),
    ("dirty_log_test", 900),
    ("memslot_modification_stress_test", 400),
    ("memslot_perf_test", 900),
    ("mmu_stress_test", 900),
    ("rseq_test", 400),
    ("set_memory_region_test", 600),
    ("xapic_ipi_test", 300),
];

/// What stands for all tests of a boot after which the host's log has a report.
const HOST_LOG: &str = "(the host's log)";

/// How long a whole boot may take.
const BOOT_LIMIT: Duration = Duration::from_secs(4 * 3600);

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Passed,
    Skipped,
    Failed,
    TimedOut,
    /// The machine went with it, or its kernel's log has a report.
    Broke,
}

impl End {
    fn of_status(status: i32) -> Self {
        match status {
            0 => Self::Passed,
            4 => Self::Skipped,
            124 | 137 => Self::TimedOut,
            _ => Self::Failed,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Passed => "pass",
            Self::Skipped => "skip",
            Self::Failed => "FAIL",
            Self::TimedOut => "TIME",
            Self::Broke => "BROKE",
        }
    }

    fn is_good(self) -> bool {
        matches!(self, Self::Passed | Self::Skipped)
    }
}

/// A test's end, how long it took, and the last lines it wrote if it wasn't good.
#[derive(Clone, Debug)]
struct Verdict {
    end: End,
    seconds: f32,
    tail: String,
}

type Verdicts = BTreeMap<String, Verdict>;

/// Runs what `args` asks for; whether nothing is worse than on the kernel's modules, as far as that was
/// asked for, and otherwise whether nothing failed.
pub fn run(place: &Place, args: &KselftestArgs) -> Result<bool> {
    if args.machine != "amd" {
        bail!("the kernel's tests run on amd only so far, not on {}", args.machine);
    }
    setup::make(place, &["stock-kernel", "kselftest"])?;
    let tests = tests(place, &args.pattern)?;
    if args.pattern == "list" {
        tests.iter().for_each(|test| println!("{test}"));
        return Ok(true);
    }
    let (rust, c) = match args.modules.as_str() {
        "rust" => (Some(all(place, ModuleSet::Rust, &tests)?), None),
        "c" => (None, Some(all(place, ModuleSet::C, &tests)?)),
        "both" => {
            (Some(all(place, ModuleSet::Rust, &tests)?), Some(all(place, ModuleSet::C, &tests)?))
        }
        other => bail!("MODULES={other}: say rust, c or both"),
    };
    report(place, &tests, rust.as_ref(), c.as_ref())
}

/// The names of the programs that contain `pattern`.
fn tests(place: &Place, pattern: &str) -> Result<Vec<String>> {
    let dir = place.cache.root().join(DIR);
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))? {
        let name = entry.context("listing tests")?.file_name().to_string_lossy().into_owned();
        if pattern == "list" || name.contains(pattern) {
            names.push(name);
        }
    }
    names.sort_unstable();
    if names.is_empty() {
        bail!("no test has '{pattern}' in its name; T=list lists them");
    }
    Ok(names)
}

/// All `tests` on one set of modules, in as many boots as it takes.
fn all(place: &Place, modules: ModuleSet, tests: &[String]) -> Result<Verdicts> {
    let mut verdicts = Verdicts::new();
    let mut left = tests;
    while !left.is_empty() {
        let mut output = Output { label: label(modules), ..Output::default() };
        let outcome = exec::run(place, &request(modules, left)?, &mut output)?;
        let done = output.verdicts.len();
        verdicts.append(&mut output.verdicts.into_iter().collect());
        let Some(trouble) = outcome.trouble else {
            if done < left.len() {
                bail!("{done} of {} tests told how they ended", left.len());
            }
            break;
        };
        eprintln!("{} {trouble}", label(modules));
        let broken = Verdict { end: End::Broke, seconds: 0.0, tail: last_lines(&trouble) };
        match left.get(done) {
            Some(test) => verdicts.insert(test.clone(), broken),
            // Nobody knows which of them it was.
            None => verdicts.insert(HOST_LOG.into(), broken),
        };
        left = left.get(done + 1..).unwrap_or_default();
    }
    Ok(verdicts)
}

fn label(modules: ModuleSet) -> &'static str {
    if modules == ModuleSet::C { "c   " } else { "rust" }
}

/// One boot that runs `tests` one after the other.
fn request(modules: ModuleSet, tests: &[String]) -> Result<Request> {
    let mut request = Request::new(machine::by_name("amd")?);
    request.modules = modules;
    request.smp = 2;
    request.mem_mib = Some(3072);
    request.timeout = BOOT_LIMIT;
    request.cmd = Some(script(&format!("/{DIR}"), tests));
    Ok(request)
}

/// Commands that run `tests` of `dir`, each between marks; a mark stands on a line of its own, whatever the
/// test wrote last.
fn script(dir: &str, tests: &[String]) -> String {
    let mut script = String::from("cd /tmp; ulimit -c 0; exec 2>&1\n");
    for test in tests {
        let slow = SLOW.iter().find(|(name, _)| name == test);
        let limit = slow.map_or(LIMIT.as_secs(), |(_, limit)| *limit);
        script += &format!("echo; echo @begin {test}; timeout -k 5 {limit} {dir}/{test}; end=$?\n");
        script += "echo; echo @end $end\n";
    }
    script
}

/// Takes a boot's output apart.
#[derive(Default)]
struct Output {
    label: &'static str,
    line: Vec<u8>,
    /// The test that runs, since when, and what it wrote.
    current: Option<(String, Instant, Vec<String>)>,
    verdicts: Vec<(String, Verdict)>,
}

impl Output {
    fn line(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("@begin ") {
            self.current = Some((name.to_owned(), Instant::now(), Vec::new()));
        } else if let Some(status) = line.strip_prefix("@end ") {
            let Some((name, start, lines)) = self.current.take() else { return };
            let end = End::of_status(status.trim().parse().unwrap_or(-1));
            let seconds = start.elapsed().as_secs_f32();
            eprintln!("{} {name:<42} {:<5} {seconds:>6.1} s", self.label, end.word());
            let tail =
                if end == End::Passed { String::new() } else { last_lines(&lines.join("\n")) };
            self.verdicts.push((name, Verdict { end, seconds, tail }));
        } else if let Some((_, _, lines)) = &mut self.current {
            lines.push(line.to_owned());
            // Only the last are wanted.
            if lines.len() > 200 {
                lines.drain(..100);
            }
        }
    }
}

impl Listener for Output {
    fn up(&mut self, _tx: &Sender) {}

    fn stdout(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.line(&String::from_utf8_lossy(&line));
            } else {
                self.line.push(*byte);
            }
        }
    }

    fn stderr(&mut self, bytes: &[u8]) {
        self.stdout(bytes);
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// Prints the table, writes it beside the logs, and judges.
fn report(
    place: &Place,
    tests: &[String],
    rust: Option<&Verdicts>,
    c: Option<&Verdicts>,
) -> Result<bool> {
    let expected = expected(place)?;
    let mut good = true;
    let mut table = String::from("| test | rust | c | time | |\n| --- | --- | --- | --- | --- |\n");
    let mut details = String::new();
    let mut rows = Vec::new();
    let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let host_log = HOST_LOG.to_owned();
    let is_known = |all: Option<&Verdicts>| all.is_some_and(|all| all.contains_key(HOST_LOG));
    let log = (is_known(rust) || is_known(c)).then_some(&host_log);
    for test in tests.iter().chain(log) {
        let (ours, theirs) = (rust.and_then(|all| all.get(test)), c.and_then(|all| all.get(test)));
        let word = |verdict: Option<&Verdict>| verdict.map_or("", |verdict| verdict.end.word());
        let worse = match (ours, theirs) {
            (Some(ours), Some(theirs)) => !ours.end.is_good() && theirs.end.is_good(),
            (Some(ours), None) => !ours.end.is_good(),
            (None, _) => false,
        };
        let reason = expected.get(test).map(String::as_str);
        good &= !worse || reason.is_some();
        let note = if worse { reason.unwrap_or("worse") } else { "" };
        let seconds = ours.or(theirs).map_or(0.0, |verdict| verdict.seconds);
        writeln!(
            table,
            "| {test} | {} | {} | {seconds:.1} s | {note} |",
            word(ours),
            word(theirs)
        )?;
        for (set, verdict) in [("rust", ours), ("c", theirs)] {
            let Some(verdict) = verdict else { continue };
            *counts.entry((set, verdict.end.word())).or_default() += 1;
            if !verdict.end.is_good() {
                writeln!(details, "\n### {test} on {set}\n\n```text\n{}\n```", verdict.tail)?;
            }
        }
        rows.push(json!({
            "test": test, "rust": word(ours), "c": word(theirs), "seconds": seconds,
            "worse": worse, "reason": reason,
        }));
    }
    let sums: Vec<String> =
        counts.iter().map(|((set, word), count)| format!("{set} {word} {count}")).collect();
    println!("{table}{details}\n{}", sums.join(", "));
    let dir = place.cache.dir("kselftest")?;
    fs::write(dir.join("results.md"), format!("{table}{details}")).context("writing results")?;
    fs::write(dir.join("results.json"), serde_json::to_vec_pretty(&rows)?)
        .context("writing results")?;
    println!("written to {}", dir.display());
    Ok(good)
}

/// Tests that are known to be worse, and why: lines of `name = "reason"`.
fn expected(place: &Place) -> Result<BTreeMap<String, String>> {
    let path = place.tree.join("tests/kselftest.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_those_of_the_programs() {
        let tests = ["true", "false"].map(str::to_owned);
        let out = std::process::Command::new("sh").arg("-c").arg(script("/bin", &tests)).output();
        let mut output = Output::default();
        output.stdout(&out.unwrap().stdout);
        let ends: Vec<End> = output.verdicts.iter().map(|(_, verdict)| verdict.end).collect();
        assert_eq!(ends, [End::Passed, End::Failed]);
        assert_eq!(End::of_status(4), End::Skipped);
    }
}
