// SPDX-License-Identifier: GPL-2.0
//! The kernel's own tests of KVM, on the project's modules and on the kernel's.
//!
//! Each runs by itself with a limit; one that breaks the machine costs the boot, and the next boot goes on
//! behind it. With both sets of modules two machines run at the same time: most of the programs keep one
//! processor busy. What passes on the kernel's modules and not on the project's fails the whole, unless
//! `tests/kselftest.toml` says why.
//!
//! Results are kept from run to run, so that the table can be made up of parts. Those that take seconds are
//! tests of the suite as well ([`jobs`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::cli::KselftestArgs;
use crate::exec::{self, ModuleSet, Request};
use crate::kernel::stock_release;
use crate::lines::Lines;
use crate::machine;
use crate::session::{Listener, Sender};
use crate::setup::{self, kselftest::DIR};
use crate::step::Place;
use crate::suite::{self, Job};

/// How a program is run that isn't run as it is with the usual limit.
struct How {
    test: &'static str,
    /// In seconds.
    limit: u64,
    /// What makes it as large as an emulated processor can do: as they are, these programs fill gigabytes or
    /// run against the clock for minutes.
    args: &'static str,
}

const fn slow(test: &'static str, limit: u64, args: &'static str) -> How {
    How { test, limit, args }
}

/// Limit for a test that isn't named in [`SLOW`].
const LIMIT: Duration = Duration::from_secs(120);

/// Those that need longer on an emulated processor.
const SLOW: &[How] = &[
    slow("access_tracking_perf_test", 400, "-b 128M"),
    slow("demand_paging_test", 400, "-b 128M"),
    slow("dirty_log_perf_test", 400, "-b 128M"),
    slow("dirty_log_test", 900, ""),
    slow("hardware_disable_test", 1500, ""),
    slow("hyperv_tlb_flush", 400, ""),
    slow("irq_test", 400, ""),
    slow("irqfd_test", 600, ""),
    slow("kvm_create_max_vcpus", 600, ""),
    slow("kvm_page_table_test", 400, "-b 128M"),
    slow("memslot_modification_stress_test", 400, "-b 128M"),
    slow("memslot_perf_test", 600, "-s 64 -l 1 -t 120"),
    slow("mmu_stress_test", 600, "-m 1 -s 1"),
    slow("pre_fault_memory_test", 400, ""),
    slow("rseq_test", 1200, ""),
    slow("set_memory_region_test", 600, ""),
    slow("xapic_ipi_test", 300, ""),
];

/// What stands for all tests of a boot after which the host's log has a report.
const HOST_LOG: &str = "(the host's log)";

/// Where results are kept, below the cache.
const VERDICTS: &str = "verdicts.json";

/// How long a whole boot may take.
const BOOT_LIMIT: Duration = Duration::from_secs(4 * 3600);

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
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
            let (rust, c) = std::thread::scope(|scope| {
                let c = scope.spawn(|| all(place, ModuleSet::C, &tests));
                (all(place, ModuleSet::Rust, &tests), c.join())
            });
            let c = c.map_err(|_| anyhow!("the thread of the second machine came to harm"))?;
            (Some(rust?), Some(c?))
        }
        other => bail!("MODULES={other}: say rust, c or both"),
    };
    report(place, &tests, rust, c)
}

/// The names of the programs that contain a word of `pattern`; all if there is none.
fn tests(place: &Place, pattern: &str) -> Result<Vec<String>> {
    let dir = place.cache.root().join(DIR);
    let words: Vec<&str> = pattern.split_whitespace().collect();
    let is_wanted = |name: &str| {
        words.is_empty() || pattern == "list" || words.iter().any(|word| name.contains(word))
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))? {
        let name = entry.context("listing tests")?.file_name().to_string_lossy().into_owned();
        if is_wanted(&name) {
            names.push(name);
        }
    }
    names.sort_unstable();
    if names.is_empty() {
        bail!("no test has a word of '{pattern}' in its name; T=list lists them");
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
        let slow = SLOW.iter().find(|slow| slow.test == test);
        let (limit, args) = slow.map_or((LIMIT.as_secs(), ""), |slow| (slow.limit, slow.args));
        script += &format!("echo; echo @begin {test}\n");
        script += &format!("timeout -k 5 {limit} {dir}/{test} {args}; end=$?\n");
        script += "echo; echo @end $end\n";
    }
    script
}

/// Takes a boot's output apart.
#[derive(Default)]
struct Output {
    /// Whose modules they are, to be said with each test; nothing is said without.
    label: &'static str,
    lines: Lines,
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
            if !self.label.is_empty() {
                eprintln!("{} {name:<42} {:<5} {seconds:>6.1} s", self.label, end.word());
            }
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
        for line in self.lines.take(bytes) {
            self.line(&line);
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

/// What is known of all tests, from this run and those before.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    /// The kernel whose tests and modules these are.
    release: String,
    rust: Verdicts,
    c: Verdicts,
}

impl Known {
    /// What was known before. Of another kernel nothing counts.
    fn load(place: &Place) -> Result<Self> {
        let release = stock_release(&place.cache)?;
        let path = place.cache.dir("kselftest")?.join(VERDICTS);
        let known = fs::read(path).ok().and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        let same = known.filter(|known| known.release == release);
        Ok(same.unwrap_or(Self { release, ..Self::default() }))
    }

    /// Adds what a run found out, and keeps it.
    fn add(&mut self, place: &Place, rust: Option<Verdicts>, c: Option<Verdicts>) -> Result<()> {
        self.rust.extend(rust.unwrap_or_default());
        self.c.extend(c.unwrap_or_default());
        let path = place.cache.dir("kselftest")?.join(VERDICTS);
        fs::write(path, serde_json::to_vec_pretty(self)?).context("writing results")
    }

    /// All tests that something is known of.
    fn tests(&self) -> BTreeSet<&str> {
        self.rust.keys().chain(self.c.keys()).map(String::as_str).collect()
    }
}

/// What a table is made of.
#[derive(Default)]
struct Table {
    rows: String,
    details: String,
    counts: BTreeMap<(&'static str, &'static str), u32>,
    /// Whether nothing is worse without a reason.
    good: bool,
}

impl Table {
    /// The table of some tests.
    fn new<'a>(
        tests: impl Iterator<Item = &'a str>,
        known: &Known,
        expected: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let mut table = Self { good: true, ..Self::default() };
        table.rows += "| test | rust | c | time, rust | time, c | |\n";
        table.rows += "| --- | --- | --- | ---: | ---: | --- |\n";
        for test in tests {
            table.row(test, known.rust.get(test), known.c.get(test), expected.get(test))?;
        }
        Ok(table)
    }

    fn row(
        &mut self,
        test: &str,
        ours: Option<&Verdict>,
        theirs: Option<&Verdict>,
        reason: Option<&String>,
    ) -> Result<()> {
        let worse = match (ours, theirs) {
            (Some(ours), Some(theirs)) => !ours.end.is_good() && theirs.end.is_good(),
            (Some(ours), None) => !ours.end.is_good(),
            (None, _) => false,
        };
        let less = ours.is_some_and(|ours| ours.end == End::Skipped)
            && theirs.is_some_and(|theirs| theirs.end == End::Passed);
        self.good &= !worse || reason.is_some();
        let note = match (worse || less, reason) {
            (true, Some(reason)) => reason,
            (true, None) if worse => "worse",
            (true, None) => "does less",
            (false, _) => "",
        };
        let word = |verdict: Option<&Verdict>| verdict.map_or("", |verdict| verdict.end.word());
        let time = |verdict: Option<&Verdict>| {
            verdict.map_or(String::new(), |verdict| format!("{:.1} s", verdict.seconds))
        };
        writeln!(
            self.rows,
            "| {test} | {} | {} | {} | {} | {note} |",
            word(ours),
            word(theirs),
            time(ours),
            time(theirs)
        )?;
        for (set, verdict) in [("rust", ours), ("c", theirs)] {
            let Some(verdict) = verdict else { continue };
            *self.counts.entry((set, verdict.end.word())).or_default() += 1;
            if !verdict.end.is_good() {
                let tail = &verdict.tail;
                writeln!(self.details, "\n### {test} on {set}\n\n```text\n{tail}\n```")?;
            }
        }
        Ok(())
    }

    fn sums(&self) -> String {
        let sums = self.counts.iter().map(|((set, word), count)| format!("{set} {word} {count}"));
        sums.collect::<Vec<_>>().join(", ")
    }
}

/// Prints the table of `tests`, writes that of all tests beside the logs, and judges.
fn report(
    place: &Place,
    tests: &[String],
    rust: Option<Verdicts>,
    c: Option<Verdicts>,
) -> Result<bool> {
    let log = [&rust, &c].into_iter().flatten().any(|all| all.contains_key(HOST_LOG));
    let mut known = Known::load(place)?;
    known.add(place, rust, c)?;
    let expected = List::load(place)?.differs;
    let names = tests.iter().map(String::as_str).chain(log.then_some(HOST_LOG));
    let table = Table::new(names, &known, &expected)?;
    println!("{}{}\n{}", table.rows, table.details, table.sums());
    let all = Table::new(known.tests().into_iter(), &known, &expected)?;
    let path = place.cache.dir("kselftest")?.join("results.md");
    let text = format!("Kernel {}: {}\n\n{}{}", known.release, all.sums(), all.rows, all.details);
    fs::write(&path, text).context("writing results")?;
    println!("all that is known: {}", path.display());
    Ok(table.good)
}

/// `tests/kselftest.toml`.
#[derive(Deserialize)]
struct List {
    /// Tests that pass within seconds.
    quick: Vec<String>,
    /// Tests that are known to be worse, and why.
    differs: BTreeMap<String, String>,
}

impl List {
    fn load(place: &Place) -> Result<Self> {
        let path = place.tree.join("tests/kselftest.toml");
        let context = || format!("reading {}", path.display());
        let text = fs::read_to_string(&path).with_context(context)?;
        toml::from_str(&text).with_context(context)
    }
}

/// The quick ones as tests of the suite, in one boot.
pub fn jobs(place: &Place, modules: ModuleSet) -> Result<Vec<Job>> {
    const PREFIX: &str = "amd/kselftest-";
    let names = List::load(place)?.quick.iter().map(|test| format!("{PREFIX}{test}")).collect();
    let place = place.clone();
    let work = move |selected: &[String]| {
        let tests: Vec<String> = selected
            .iter()
            .filter_map(|name| name.strip_prefix(PREFIX))
            .map(str::to_owned)
            .collect();
        quick(&place, modules, &tests)
            .unwrap_or_else(|error| vec![suite::Verdict::Failed(format!("{error:#}")); tests.len()])
    };
    Ok(vec![Job { names, work: Box::new(work) }])
}

/// Each has to pass: one that skips is on the list by mistake, or something is gone that was there.
fn quick(place: &Place, modules: ModuleSet, tests: &[String]) -> Result<Vec<suite::Verdict>> {
    setup::make(place, &["stock-kernel", "kselftest"])?;
    let mut output = Output::default();
    let outcome = exec::run(place, &request(modules, tests)?, &mut output)?;
    let ends: BTreeMap<String, Verdict> = output.verdicts.into_iter().collect();
    let verdict = |test: &String| match (ends.get(test), &outcome.trouble) {
        (_, Some(trouble)) => suite::Verdict::Failed(trouble.clone()),
        (Some(Verdict { end: End::Passed, .. }), None) => suite::Verdict::Passed,
        (Some(Verdict { end, tail, .. }), None) => {
            suite::Verdict::Failed(format!("{}\n{tail}", end.word()))
        }
        (None, None) => suite::Verdict::Failed("it was not run".into()),
    };
    Ok(tests.iter().map(verdict).collect())
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
