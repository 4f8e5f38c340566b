// SPDX-License-Identifier: GPL-2.0
//! Setup steps: what has to be made before machines can boot, in which order.
//!
//! A step is whole when its stamp is there and holds the hash of its present recipe and of the stamps
//! of what it needs. It is redone otherwise; the stamp goes first, so nothing half-made looks whole.
//! A step's `run` may find what an interrupted attempt left and go on from there.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::cache::Cache;
use crate::progress::{HEARTBEAT, Progress};

/// One thing to prepare.
#[derive(Clone, Copy)]
pub struct Step {
    /// Short name, as in `prepare --only NAME`, the stamp's and the log's.
    pub name: &'static str,
    /// What it does, for progress lines: "building the s390 kernel".
    pub about: &'static str,
    /// Names of steps that must be whole first.
    pub needs: &'static [&'static str],
    /// It keeps all processors busy: two of these never run at once.
    pub heavy: bool,
    /// A text that changes when the step must be redone: versions, configuration, commands.
    pub recipe: fn(&Place) -> Result<String>,
    /// Does it.
    pub run: fn(&Work<'_>) -> Result<()>,
}

/// Where things are.
#[derive(Clone, Debug)]
pub struct Place {
    /// The cache.
    pub cache: Cache,
    /// The project's tree.
    pub tree: PathBuf,
}

/// What a running step has at hand.
pub struct Work<'a> {
    /// Where things are.
    pub place: &'a Place,
    /// The step's log file; [`Work::run`] appends to it.
    pub log: PathBuf,
    pub(crate) note: &'a (dyn Fn(&str) + Sync),
}

impl Work<'_> {
    /// Shows `text` as what the step is doing now.
    pub fn note(&self, text: &str) {
        (self.note)(text);
    }

    /// Runs a command to its end, its output going to the log, each line also shown as progress.
    /// An unsuccessful end is an error that names the command.
    pub fn run(&self, command: &mut Command) -> Result<()> {
        crate::process::run_logged(command, &self.log, &|line| self.note(line))
    }

    /// Path below the cache.
    pub fn cache(&self, below: &str) -> PathBuf {
        self.place.cache.path(below)
    }
}

/// Whether the step `name` and all that it needs are whole.
pub fn is_made(place: &Place, steps: &[Step], name: &str) -> Result<bool> {
    Ok(pending(place, steps, &[name])?.is_empty())
}

/// Makes everything whole that `wanted` names, and what that needs. Steps that do not compete for the
/// processors run at once.
pub fn make(place: &Place, steps: &[Step], wanted: &[&str]) -> Result<()> {
    if pending(place, steps, wanted)?.is_empty() {
        return Ok(());
    }
    let _lock = crate::lock::Lock::take(&place.cache, "setup")?;
    // Another command may have done it meanwhile.
    let todo = pending(place, steps, wanted)?;
    let progress = Progress::new();
    std::thread::scope(|scope| {
        let (done, finished) = mpsc::channel();
        let mut waiting = todo;
        let mut running: Vec<Step> = Vec::new();
        let mut failure = None;
        loop {
            let ready = |step: &Step| {
                let unfinished =
                    |name: &&str| waiting.iter().chain(&running).any(|other| other.name == *name);
                let busy = step.heavy && running.iter().any(|other| other.heavy);
                !busy && !step.needs.iter().any(unfinished)
            };
            if failure.is_none() {
                if let Some(at) = waiting.iter().position(ready) {
                    let step = waiting.remove(at);
                    running.push(step);
                    let (done, progress) = (done.clone(), &progress);
                    scope.spawn(move || {
                        // The receiver is gone only when the whole function is.
                        let _ = done.send((step.name, perform(place, steps, &step, progress)));
                    });
                    continue;
                }
            }
            if running.is_empty() {
                break;
            }
            let Ok((name, result)) = finished.recv_timeout(HEARTBEAT) else {
                progress.heartbeat();
                continue;
            };
            running.retain(|step| step.name != name);
            if let Err(error) = result {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), Err)
    })
}

/// Runs one step and sets its stamp.
fn perform(place: &Place, steps: &[Step], step: &Step, progress: &Progress) -> Result<()> {
    let log = place.cache.dir("logs")?.join(format!("{}.log", step.name));
    let stamp = stamp_path(place, step.name)?;
    for old in [&log, &stamp] {
        if old.exists() {
            fs::remove_file(old).with_context(|| format!("removing {}", old.display()))?;
        }
    }
    let line = progress.step(step.name, step.about);
    let start = Instant::now();
    let note = |text: &str| line.note(text);
    let work = Work { place, log: log.clone(), note: &note };
    let result = digest(place, steps, step).and_then(|before| {
        (step.run)(&work)?;
        fs::write(&stamp, before).with_context(|| format!("writing {}", stamp.display()))
    });
    progress.end(&line, result.is_ok(), start.elapsed());
    result.with_context(|| {
        format!("setup step '{}' ({}) failed, see {}", step.name, step.about, log.display())
    })
}

/// The steps that `wanted` needs and that are not whole, in an order that respects what they need.
fn pending(place: &Place, steps: &[Step], wanted: &[&str]) -> Result<Vec<Step>> {
    let mut order: Vec<Step> = Vec::new();
    for name in wanted {
        visit(steps, name, &mut order)?;
    }
    let mut todo: Vec<Step> = Vec::new();
    for step in order {
        let redone = step.needs.iter().any(|need| todo.iter().any(|other| other.name == *need));
        if redone || !is_whole(place, steps, &step)? {
            todo.push(step);
        }
    }
    Ok(todo)
}

fn visit(steps: &[Step], name: &str, order: &mut Vec<Step>) -> Result<()> {
    if order.iter().any(|step| step.name == name) {
        return Ok(());
    }
    let Some(step) = steps.iter().find(|step| step.name == name) else {
        let names: Vec<&str> = steps.iter().map(|step| step.name).collect();
        bail!("there is no setup step '{name}', only {}", names.join(", "));
    };
    for need in step.needs {
        visit(steps, need, order)?;
    }
    order.push(*step);
    Ok(())
}

fn is_whole(place: &Place, steps: &[Step], step: &Step) -> Result<bool> {
    let Ok(stamp) = fs::read_to_string(stamp_path(place, step.name)?) else {
        return Ok(false);
    };
    // A recipe that cannot even be read is that of something to be made again.
    Ok(digest(place, steps, step).is_ok_and(|now| now == stamp))
}

/// What the stamp of a whole `step` holds.
fn digest(place: &Place, steps: &[Step], step: &Step) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update((step.recipe)(place)?);
    for need in step.needs {
        let need = steps.iter().find(|other| other.name == *need);
        let need = need.with_context(|| format!("'{}' needs an unknown step", step.name))?;
        hash.update(fs::read_to_string(stamp_path(place, need.name)?).unwrap_or_default());
    }
    Ok(format!("{:x}", hash.finalize()))
}

fn stamp_path(place: &Place, name: &str) -> Result<PathBuf> {
    Ok(place.cache.dir("stamps")?.join(name))
}
