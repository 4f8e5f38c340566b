// SPDX-License-Identifier: GPL-2.0
//! Tests inside the machines: the cases of the program `cases`, several in one boot.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Job, Verdict};
use crate::build;
use crate::exec::{self, ModuleSet, Request};
use crate::kernel::Choice;
use crate::machine::{self, Arch};
use crate::session::{BROKEN, Listener, Outcome, Sender};
use crate::step::Place;

/// Limit for one boot's cases, and for slow ones.
const TIMEOUT: Duration = Duration::from_secs(400);
const LONG_TIMEOUT: Duration = Duration::from_secs(3600);

/// One line of `cases --list`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Case {
    name: String,
    machines: Vec<String>,
    group: String,
    long: bool,
    debug: bool,
    boot: Boot,
}

/// What a case wants of its boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Boot {
    smp: u32,
    mem_mib: Option<u32>,
    icount: bool,
    own_root: bool,
    guests: bool,
    steps: Vec<String>,
    kargs: String,
}

/// Cases with equal keys share a boot: machine, debug kernel or not, group, slow or not, boot.
type Key = (String, bool, String, bool, Boot);

/// One job per boot.
pub(super) fn jobs(place: &Place, long: bool, modules: ModuleSet) -> Result<Vec<Job>> {
    if !place.tree.join("tests/cases/Cargo.toml").exists() {
        return Ok(Vec::new());
    }
    let mut boots: BTreeMap<Key, Vec<Case>> = BTreeMap::new();
    for case in list(place)? {
        if case.long && !long {
            continue;
        }
        for machine in &case.machines {
            let mut key =
                (machine.clone(), false, case.group.clone(), case.long, case.boot.clone());
            boots.entry(key.clone()).or_default().push(case.clone());
            if long && case.debug && machine == "amd" {
                key.1 = true;
                boots.entry(key).or_default().push(case.clone());
            }
        }
    }
    boots.into_iter().map(|(key, cases)| job(place, key, cases, modules)).collect()
}

/// Asks this host's build of the program.
fn list(place: &Place) -> Result<Vec<Case>> {
    let program = build::program(place, Arch::X86, "cases")?;
    let out = Command::new(&program).arg("--list").output().context("running cases --list")?;
    if !out.status.success() {
        bail!("cases --list failed: {}", String::from_utf8_lossy(&out.stderr));
    }
    String::from_utf8_lossy(&out.stdout).lines().map(parse).collect()
}

fn parse(line: &str) -> Result<Case> {
    let mut words = line.split_whitespace();
    let mut case = Case {
        name: words.next().context("a case without a name")?.to_owned(),
        debug: true,
        boot: Boot { smp: 1, ..Boot::default() },
        ..Case::default()
    };
    for word in words {
        let (key, value) = word.split_once('=').with_context(|| format!("'{word}' in '{line}'"))?;
        match key {
            "machines" => case.machines = value.split(',').map(str::to_owned).collect(),
            "group" => case.group = value.to_owned(),
            "long" => case.long = value == "yes",
            "debug" => case.debug = value == "yes",
            "icount" => case.boot.icount = value == "yes",
            "kargs" => case.boot.kargs = value.replace(',', " "),
            "guests" => case.boot.guests = value == "yes",
            "steps" => case.boot.steps = value.split(',').map(str::to_owned).collect(),
            "root" => case.boot.own_root = value == "own",
            "smp" => case.boot.smp = value.parse().context("smp")?,
            "mem" => case.boot.mem_mib = Some(value.parse().context("mem")?),
            _ => bail!("'{word}' in '{line}' means nothing"),
        }
    }
    Ok(case)
}

/// `ground/reload` on `amd` is `ground/amd/reload`.
fn test_name(case: &str, machine: &str, debug: bool) -> String {
    let debug = if debug { "-debug" } else { "" };
    match case.split_once('/') {
        Some((first, rest)) => format!("{first}/{machine}{debug}/{rest}"),
        None => format!("{machine}{debug}/{case}"),
    }
}

fn job(place: &Place, key: Key, cases: Vec<Case>, modules: ModuleSet) -> Result<Job> {
    let (machine, debug, _, long, boot) = key;
    let names: Vec<String> =
        cases.iter().map(|case| test_name(&case.name, &machine, debug)).collect();
    let mut request = Request::new(machine::by_name(&machine)?);
    request.smp = boot.smp;
    request.mem_mib = boot.mem_mib;
    request.icount = boot.icount;
    request.own_root = boot.own_root;
    request.guests = boot.guests;
    request.steps = boot.steps;
    request.kargs = boot.kargs;
    request.modules = modules;
    request.load = false;
    request.kernel = if debug { Choice::Debug } else { Choice::Stock };
    request.timeout = match (long, debug) {
        (false, false) => TIMEOUT,
        (true, true) => 2 * LONG_TIMEOUT,
        _ => LONG_TIMEOUT,
    };
    let place = place.clone();
    let all = names.clone();
    Ok(Job {
        names,
        work: Box::new(move |selected| {
            let chosen = |name: &String| all.iter().position(|other| other == name);
            let cases: Vec<&str> =
                selected.iter().filter_map(chosen).map(|at| cases[at].name.as_str()).collect();
            match boot_once(&place, request, &cases) {
                Ok(verdicts) => verdicts,
                Err(error) => vec![Verdict::Failed(format!("{error:#}")); cases.len()],
            }
        }),
    })
}

/// Runs `cases` in one boot.
fn boot_once(place: &Place, mut request: Request, cases: &[&str]) -> Result<Vec<Verdict>> {
    request.files = vec![build::program(place, request.machine.arch(), "cases")?];
    request.cmd = Some(format!("./cases {}", cases.join(" ")));
    let mut output = Output::default();
    let outcome = exec::run(place, &request, &mut output)?;
    Ok(cases.iter().map(|case| judge(case, &output, &outcome)).collect())
}

/// The verdict on one case, from what the program printed and from what became of the machine. A report
/// in the kernel's log stains all cases of the boot, a hang only those that had not come to their end.
fn judge(case: &str, output: &Output, outcome: &Outcome) -> Verdict {
    let text = String::from_utf8_lossy(&output.stdout);
    let prefix = format!("case {case} ");
    let said = text.lines().find_map(|line| line.strip_prefix(&prefix));
    let trouble = outcome.trouble.as_deref();
    let failed = |what: &str| match trouble {
        Some(trouble) => Verdict::Failed(format!("{what}\n{trouble}").trim().to_owned()),
        None => Verdict::Failed(what.to_owned()),
    };
    match said.map(|rest| rest.split_once(' ').unwrap_or((rest, ""))) {
        Some(("FAILED", reason)) => failed(reason),
        _ if outcome.status == BROKEN && trouble.is_some() => failed(""),
        Some(("ok", _)) => Verdict::Passed,
        Some(("skipped", reason)) => Verdict::Skipped(reason.to_owned()),
        _ => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            failed(&format!("the program did not come to its end; its output:\n{text}{stderr}"))
        }
    }
}

/// Keeps what the program writes.
#[derive(Default)]
pub(super) struct Output {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

impl Listener for Output {
    fn up(&mut self, _tx: &Sender) {}

    fn stdout(&mut self, bytes: &[u8]) {
        self.stdout.extend_from_slice(bytes);
    }

    fn stderr(&mut self, bytes: &[u8]) {
        self.stderr.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::TIMED_OUT;

    #[test]
    fn a_line_of_the_list() {
        let case = parse("ground/reload machines=amd,z group=ground long=yes smp=2").unwrap();
        assert_eq!(case.name, "ground/reload");
        assert_eq!(case.machines, ["amd", "z"]);
        assert!(case.long && case.debug);
        assert_eq!(case.boot.smp, 2);
        assert!(parse("x colour=red").is_err());
    }

    #[test]
    fn names_of_tests() {
        assert_eq!(test_name("ground/reload", "amd", false), "ground/amd/reload");
        assert_eq!(test_name("ground/a/b", "amd", true), "ground/amd-debug/a/b");
        assert_eq!(test_name("idle", "amd", false), "amd/idle");
    }

    #[test]
    fn verdicts() {
        let stdout = b"case a ok\ncase b FAILED no file\ncase c skipped no CPU\nnoise\n".to_vec();
        let output = Output { stdout, stderr: Vec::new() };
        let outcome = |status, trouble: Option<&str>| Outcome {
            status,
            trouble: trouble.map(str::to_owned),
            never_up: false,
        };
        let well = outcome(1, None);
        assert_eq!(judge("a", &output, &well), Verdict::Passed);
        assert_eq!(judge("b", &output, &well), Verdict::Failed("no file".into()));
        assert_eq!(judge("c", &output, &well), Verdict::Skipped("no CPU".into()));
        assert!(matches!(judge("d", &output, &well), Verdict::Failed(_)));
        let hung = outcome(TIMED_OUT, Some("too long"));
        assert_eq!(judge("a", &output, &hung), Verdict::Passed);
        assert!(matches!(judge("d", &output, &hung), Verdict::Failed(_)));
        let stained = outcome(BROKEN, Some("BUG"));
        assert_eq!(judge("a", &output, &stained), Verdict::Failed("BUG".into()));
    }
}
