// SPDX-License-Identifier: GPL-2.0
//! One run of a machine, from its start to its power-off: watches the clock, hands on what the command
//! writes, and judges the kernel's log at the end.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use proto::{Exit, Frame, Kind, hostlog};

use crate::channel::{self, Event};
use crate::machine::{BootSpec, Machine, Running};
use crate::process::Process;

/// Exit status of a run that took too long.
pub const TIMED_OUT: u8 = 124;
/// Exit status of a run whose machine broke: it died, or its kernel log has a report.
pub const BROKEN: u8 = 125;

/// How long a machine may take to power off.
const POWER_OFF: Duration = Duration::from_secs(30);

/// How long an emulator whose channel is closed may take to end.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// The sending end of the channel, shared with whoever forwards input.
pub type Sender = Arc<Mutex<Box<dyn Write + Send>>>;

/// What the caller does with what comes out of the machine.
pub trait Listener {
    /// The machine is up; `tx` reaches the command.
    fn up(&mut self, tx: &Sender);
    /// The command wrote `bytes` to its standard output.
    fn stdout(&mut self, bytes: &[u8]);
    /// The command wrote `bytes` to its standard error.
    fn stderr(&mut self, bytes: &[u8]);
}

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    /// The command's exit status, or [`TIMED_OUT`] or [`BROKEN`].
    pub status: u8,
    /// Why it is one of the latter.
    pub trouble: Option<String>,
    /// The machine stood still or ended, without a word of trouble in its log, before PID 1 was there.
    pub never_up: bool,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Boot,
    Command,
    PowerOff,
}

struct Session<'a> {
    name: &'static str,
    listener: &'a mut dyn Listener,
    tx: Sender,
    phase: Phase,
    deadline: Instant,
    limit: Duration,
    timeout: Duration,
    frames: u64,
    exit: Option<Exit>,
    kernel_log: Vec<u8>,
    text: String,
    console: PathBuf,
    words: PathBuf,
    tells: fn(&str) -> bool,
}

/// Boots `machine` and sees the run through.
pub fn run(
    machine: &dyn Machine,
    spec: &BootSpec,
    timeout: Duration,
    listener: &mut dyn Listener,
) -> Result<Outcome> {
    let running =
        machine.boot(spec).with_context(|| format!("starting machine {}", machine.name()))?;
    let Running { mut child, rx, tx, console, words, tells } = running;
    let mut session = Session {
        name: machine.name(),
        listener,
        tx: Arc::new(Mutex::new(tx)),
        phase: Phase::Boot,
        deadline: Instant::now() + spec.patience,
        limit: spec.patience,
        timeout,
        frames: 0,
        exit: None,
        kernel_log: Vec::new(),
        text: String::new(),
        console,
        words,
        tells,
    };
    let events = channel::listen(rx);
    let late = loop {
        let left = session.deadline.saturating_duration_since(Instant::now());
        match events.recv_timeout(left) {
            Ok(Event::Closed) | Err(RecvTimeoutError::Disconnected) => break false,
            Ok(Event::Text(line)) => session.keep(&line),
            Ok(Event::Frame(frame)) => session.take(frame),
            Err(RecvTimeoutError::Timeout) => break true,
        }
        if session.exit.is_some() && child.try_wait()?.is_some() {
            break false;
        }
    };
    let ended = if late { None } else { end(&mut child)? };
    child.kill();
    Ok(session.judge(late, ended))
}

/// How the emulator ended, which closes its channel a moment before.
fn end(child: &mut Process) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + LAST_MOMENT;
    loop {
        let ended = child.try_wait()?;
        if ended.is_some() || Instant::now() > deadline {
            return Ok(ended);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

impl Session<'_> {
    fn enter(&mut self, phase: Phase, limit: Duration) {
        self.phase = phase;
        self.limit = limit;
        self.deadline = Instant::now() + limit;
    }

    /// What the emulator said last, for a message.
    fn last_words(&self) -> String {
        let words = fs::read(&self.words).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let telling: Vec<&str> = words.lines().filter(|line| (self.tells)(line)).collect();
        match last_lines(&telling, 60) {
            None => String::new(),
            Some(lines) => format!("\nthe emulator's last words:\n  {lines}"),
        }
    }

    fn keep(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn take(&mut self, frame: Frame) {
        match frame.kind {
            Kind::Exit => {
                self.exit = Exit::from_payload(&frame.payload);
                self.enter(Phase::PowerOff, POWER_OFF);
                return;
            }
            Kind::Hello => {
                self.enter(Phase::Command, self.timeout);
                self.listener.up(&self.tx);
            }
            Kind::Stdout => self.listener.stdout(&frame.payload),
            Kind::Stderr => self.listener.stderr(&frame.payload),
            Kind::KernelLog => self.kernel_log.extend(frame.payload),
            Kind::Note => {
                let note = String::from_utf8_lossy(&frame.payload).into_owned();
                eprintln!("{}: {note}", self.name);
            }
            Kind::Stdin | Kind::Window | Kind::EndOfInput => {}
        }
        self.frames += 1;
    }

    /// The verdict, once the machine is gone; `late` if it had to be killed, else `ended` is how it did.
    fn judge(&self, late: bool, ended: Option<ExitStatus>) -> Outcome {
        let console = fs::read(&self.console).unwrap_or_default();
        let console = String::from_utf8_lossy(&console).into_owned() + &self.text;
        let mut reports = hostlog::reports(&String::from_utf8_lossy(&self.kernel_log));
        if reports.is_empty() {
            reports = hostlog::reports(&console);
        }
        let broken =
            |text: String| Outcome { status: BROKEN, trouble: Some(text), never_up: false };
        let name = self.name;
        let log = self.console.display();
        if !reports.is_empty() {
            let text = reports.join("\n\n");
            return broken(format!(
                "the kernel of machine {name} reported trouble:\n{text}\nconsole log: {log}"
            ));
        }
        match self.exit {
            Some(exit) if exit.frames != self.frames => broken(format!(
                "machine {name}: {} of {} frames were lost on the way; console log: {log}",
                exit.frames.saturating_sub(self.frames),
                exit.frames
            )),
            Some(exit) => Outcome { status: exit.status, trouble: None, never_up: false },
            None if late => Outcome {
                status: TIMED_OUT,
                trouble: Some(format!(
                    "machine {name}: {} took longer than {} s; console log: {log}{}",
                    match self.phase {
                        Phase::Boot => "the boot",
                        Phase::Command => "the command",
                        Phase::PowerOff => "the power-off",
                    },
                    self.limit.as_secs(),
                    tail(&console)
                )),
                never_up: self.phase == Phase::Boot,
            },
            None => Outcome {
                status: BROKEN,
                trouble: Some(format!(
                    "machine {name} ended in the middle of {}: {}; console log: {log}{}{}",
                    if self.phase == Phase::Boot { "its boot" } else { "the command" },
                    match ended {
                        Some(status) => status.to_string(),
                        None => "its emulator runs on".into(),
                    },
                    tail(&console),
                    self.last_words()
                )),
                never_up: self.phase == Phase::Boot,
            },
        }
    }
}

/// The last lines of the console, for a message.
fn tail(console: &str) -> String {
    let lines: Vec<&str> = console.lines().collect();
    match last_lines(&lines, 10) {
        None => "\n(the console is empty)".into(),
        Some(lines) => format!("\nits last lines:\n  {lines}"),
    }
}

fn last_lines(lines: &[&str], count: usize) -> Option<String> {
    let lines: Vec<&str> = lines.iter().copied().filter(|line| !line.trim().is_empty()).collect();
    let start = lines.len().saturating_sub(count);
    (!lines.is_empty()).then(|| lines[start..].join("\n  "))
}
