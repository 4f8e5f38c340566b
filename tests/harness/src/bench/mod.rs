// SPDX-License-Identifier: GPL-2.0
//! What exits, faults and VMs cost on the project's modules and on the kernel's, measured in the machine by
//! the program `bench` (tests/bench), and shown beside each other.

mod plot;
mod sections;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::build;
use crate::cli::BenchArgs;
use crate::exec::{self, ModuleSet, Request};
use crate::lines::Lines;
use crate::machine::{self, Arch, Machine};
use crate::session::{Listener, Sender};
use crate::setup;
use crate::step::Place;

/// How long the measurements of one boot may take.
const LIMIT: Duration = Duration::from_secs(1800);

/// Processors for measurements of several vCPUs at once, whose names start with [`CROWD`]. The others want one.
const PROCESSORS: u32 = 4;
const CROWD: &str = "crowd/";

/// Start of the names of what runs guests under QEMU, which have a boot of their own, too.
const BOOT: &str = "boot/";

/// Memory of the machine for that, in MiB.
const BOOT_MIB: u32 = 2048;

/// On Intel each PAUSE exits: no guest but the one that measures it executes any.
const KARGS: &str = "kvm_intel.ple_gap=4294967295 kvm_intel.ple_window=0";

/// What one measurement came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
enum Outcome {
    /// It was made.
    Measured {
        /// What is counted.
        unit: String,
        /// The figure.
        least: f64,
        /// The sample in the middle, to see how far others are from it.
        median: f64,
    },
    /// The modules or the machine can't do what is to be measured.
    Skipped(String),
    /// It wasn't what was to be measured.
    Failed(String),
}

type Outcomes = BTreeMap<String, Outcome>;

/// A measurement on both sets of modules.
#[derive(Serialize)]
struct Row {
    name: String,
    rust: Option<Outcome>,
    c: Option<Outcome>,
    /// Ours by the kernel's.
    ratio: Option<f64>,
}

impl Row {
    fn figure(outcome: Option<&Outcome>) -> Option<f64> {
        match outcome {
            Some(Outcome::Measured { least, .. }) => Some(*least),
            _ => None,
        }
    }
}

/// Measures what `args` asks for; whether nothing failed.
pub fn run(place: &Place, args: &BenchArgs) -> Result<bool> {
    let machine = machine::by_name(&args.machine)?;
    ensure!(machine.arch() == Arch::X86, "nothing is measured on {} yet", machine.name());
    let sets: &[ModuleSet] = match args.modules.as_str() {
        "rust" => &[ModuleSet::Rust],
        "c" => &[ModuleSet::C],
        "both" => &[ModuleSet::Rust, ModuleSet::C],
        other => bail!("MODULES={other}: say rust, c or both"),
    };
    setup::make(place, &["packages"])?;
    let mut rust = None;
    let mut c = None;
    for set in sets {
        let outcomes = measure(place, machine, *set, &args.pattern)?;
        *(if *set == ModuleSet::C { &mut c } else { &mut rust }) = Some(outcomes);
    }
    let rows = rows(rust.unwrap_or_default(), c.unwrap_or_default());
    ensure!(!rows.is_empty(), "no measurement has '{}' in its name", args.pattern);
    report(place, machine, &rows)
}

/// All that has a word of `pattern` in its name: the modules' files as they are, and a boot for each kind
/// of measurement.
fn measure(
    place: &Place,
    machine: &'static dyn Machine,
    modules: ModuleSet,
    pattern: &str,
) -> Result<Outcomes> {
    let kernel = exec::prepare(place, &request(machine, modules))?;
    let mut outcomes = sections::measure(place, &kernel, machine, modules)?;
    outcomes.retain(|name, _| is_wanted(pattern, name));
    let program = build::program(place, machine.arch(), "bench")?;
    let mut names = names(&program)?;
    names.retain(|name| is_wanted(pattern, name));
    if pattern.is_empty() && !machine.boots_linux_by_counting() {
        names.retain(|name| !name.starts_with(BOOT));
    }
    let (boot, names): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| name.starts_with(BOOT));
    let (crowd, alone): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| name.starts_with(CROWD));
    let plain = Request { smp: 1, ..request(machine, modules) };
    let many = Request { smp: PROCESSORS, ..plain.clone() };
    let guests = Request { guests: true, mem_mib: Some(BOOT_MIB), ..plain.clone() };
    for (names, mut request) in [(alone, plain), (crowd, many), (boot, guests)] {
        if names.is_empty() {
            continue;
        }
        request.files = vec![program.clone()];
        request.cmd = Some(format!("./bench {}", names.join(" ")));
        outcomes.extend(one_boot(place, modules, &request)?);
    }
    Ok(outcomes)
}

fn request(machine: &'static dyn Machine, modules: ModuleSet) -> Request {
    let mut request = Request::new(machine);
    request.modules = modules;
    request.icount = true;
    request.timeout = LIMIT;
    request.kargs = KARGS.to_owned();
    request
}

/// Whether a word of `pattern` is in `name`, or there is none.
fn is_wanted(pattern: &str, name: &str) -> bool {
    let mut words = pattern.split_whitespace().peekable();
    words.peek().is_none() || words.any(|word| name.contains(word))
}

/// What the program `bench` can measure.
fn names(program: &Path) -> Result<Vec<String>> {
    let out = Command::new(program).arg("--list").output().context("running bench --list")?;
    ensure!(out.status.success(), "bench --list: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).context("its output")?;
    Ok(text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

fn one_boot(place: &Place, modules: ModuleSet, request: &Request) -> Result<Outcomes> {
    let mut output = Output::default();
    let outcome = exec::run(place, request, &mut output)?;
    if let Some(trouble) = outcome.trouble {
        bail!("measuring {modules:?}: {trouble}");
    }
    ensure!(outcome.status <= 1, "the program ended with {}", outcome.status);
    Ok(output.outcomes)
}

/// Takes the program's output apart.
#[derive(Default)]
struct Output {
    lines: Lines,
    outcomes: Outcomes,
}

impl Listener for Output {
    fn up(&mut self, _tx: &Sender) {}

    fn stdout(&mut self, bytes: &[u8]) {
        for line in self.lines.take(bytes) {
            if let Some((name, outcome)) = parse(&line) {
                self.outcomes.insert(name, outcome);
            } else {
                println!("{line}");
            }
        }
    }

    fn stderr(&mut self, bytes: &[u8]) {
        eprint!("{}", String::from_utf8_lossy(bytes));
    }
}

/// A line of the program, as its documentation says.
fn parse(line: &str) -> Option<(String, Outcome)> {
    let (word, rest) = line.split_once(' ')?;
    let (name, rest) = rest.split_once(' ')?;
    let outcome = match word {
        "measured" => {
            let mut words = rest.split(' ');
            let unit = words.next()?.to_owned();
            let mut number = || words.next()?.parse().ok();
            Outcome::Measured { unit, least: number()?, median: number()? }
        }
        "skipped" => Outcome::Skipped(rest.to_owned()),
        "failed" => Outcome::Failed(rest.to_owned()),
        _ => return None,
    };
    Some((name.to_owned(), outcome))
}

fn rows(mut rust: Outcomes, mut c: Outcomes) -> Vec<Row> {
    let names: std::collections::BTreeSet<String> = rust.keys().chain(c.keys()).cloned().collect();
    let row = |name: String| {
        let (rust, c) = (rust.remove(&name), c.remove(&name));
        let figures = (Row::figure(rust.as_ref()), Row::figure(c.as_ref()));
        let ratio = match figures {
            (Some(ours), Some(theirs)) if theirs > 0.0 => Some(ours / theirs),
            _ => None,
        };
        Row { name, rust, c, ratio }
    };
    names.into_iter().map(row).collect()
}

/// Prints the table and writes it, the figures and a plot; whether nothing failed.
fn report(place: &Place, machine: &dyn Machine, rows: &[Row]) -> Result<bool> {
    let table = table(rows);
    println!("{table}");
    let dir = place.cache.dir("bench")?;
    let file = |extension: &str| dir.join(format!("{}.{extension}", machine.name()));
    fs::write(file("md"), &table).context("writing the table")?;
    fs::write(file("json"), serde_json::to_vec_pretty(rows)?).context("writing the figures")?;
    plot::draw(&file("svg"), machine.name(), rows).context("drawing the plot")?;
    println!("written to {}", file("{md,json,svg}").display());
    let failed = |outcome: &Option<Outcome>| matches!(outcome, Some(Outcome::Failed(_)));
    Ok(!rows.iter().any(|row| failed(&row.rust) || failed(&row.c)))
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from("| | rust | c | ratio | |\n| --- | ---: | ---: | ---: | --- |\n");
    for row in rows {
        let cell = |outcome: &Option<Outcome>| match outcome {
            Some(Outcome::Measured { least, .. }) => format!("{least:.0}"),
            Some(Outcome::Skipped(_)) => "skipped".into(),
            Some(Outcome::Failed(_)) => "FAILED".into(),
            None => String::new(),
        };
        let mut notes: Vec<String> = [&row.rust, &row.c].into_iter().filter_map(note).collect();
        notes.dedup();
        let ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let (rust, c) = (cell(&row.rust), cell(&row.c));
        text += &format!("| {} | {rust} | {c} | {ratio} | {} |\n", row.name, notes.join("; "));
    }
    text
}

/// What a reader has to know beside the figure.
fn note(outcome: &Option<Outcome>) -> Option<String> {
    match outcome {
        Some(Outcome::Measured { unit, least, median }) => {
            let far = (median / least - 1.0).abs() > 0.01;
            let unit = (unit != "instructions").then(|| unit.clone());
            far.then(|| format!("median {median:.0}")).or(unit)
        }
        Some(Outcome::Skipped(reason) | Outcome::Failed(reason)) => Some(reason.clone()),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_figures() {
        let (name, outcome) = parse("measured exit/cpuid instructions 1900.5 1901.0").unwrap();
        assert_eq!(name, "exit/cpuid");
        let measured =
            Outcome::Measured { unit: "instructions".into(), least: 1900.5, median: 1901.0 };
        assert_eq!(outcome, measured);
        let (_, outcome) = parse("skipped exit/x no such thing").unwrap();
        assert_eq!(outcome, Outcome::Skipped("no such thing".into()));
        assert_eq!(parse("something else entirely"), None);
    }

    #[test]
    fn ratios_are_ours_by_theirs() {
        let figure =
            |least| Outcome::Measured { unit: "instructions".into(), least, median: least };
        let of = |least| Outcomes::from([("a".to_owned(), figure(least))]);
        let rows = rows(of(50.0), of(200.0));
        assert_eq!(rows[0].ratio, Some(0.25));
        assert!(table(&rows).contains("| a | 50 | 200 | 0.25 |"));
    }
}
