// SPDX-License-Identifier: GPL-2.0
//! Shows on standard error where long work is: moving lines on a terminal, plain ones elsewhere.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Time between plain lines.
pub const HEARTBEAT: Duration = Duration::from_secs(8);

/// Longest part of a command's output line that is shown.
const WIDTH: usize = 90;

/// All lines of one command.
pub struct Progress {
    bars: Option<MultiProgress>,
    lines: Mutex<Vec<Arc<Line>>>,
    start: Instant,
}

/// The line of one step.
pub struct Line {
    name: &'static str,
    about: &'static str,
    bar: Option<ProgressBar>,
    latest: Mutex<String>,
}

impl Progress {
    /// Nothing shown yet.
    pub fn new() -> Progress {
        Progress {
            bars: std::io::stderr().is_terminal().then(MultiProgress::new),
            lines: Mutex::default(),
            start: Instant::now(),
        }
    }

    /// A line for the step called `name`.
    pub fn step(&self, name: &'static str, about: &'static str) -> Arc<Line> {
        let line = Arc::new(Line {
            name,
            about,
            bar: self.bars.as_ref().map(|bars| bars.add(spinner(name, about))),
            latest: Mutex::default(),
        });
        self.plain(&line, about);
        lock(&self.lines).push(line.clone());
        line
    }

    /// Shows the end of a step.
    pub fn end(&self, line: &Arc<Line>, good: bool, took: Duration) {
        lock(&self.lines).retain(|other| !Arc::ptr_eq(other, line));
        let how = if good { "done" } else { "FAILED" };
        let text = format!("{} {how} in {} s", line.about, took.as_secs());
        match &line.bar {
            Some(bar) => bar.finish_with_message(text),
            None => self.plain(line, &text),
        }
    }

    /// Without a terminal: says where every step is. To be called every [`HEARTBEAT`].
    pub fn heartbeat(&self) {
        for line in lock(&self.lines).iter() {
            let latest = lock(&line.latest).clone();
            self.plain(line, &format!("{}: {latest}", line.about));
        }
    }

    fn plain(&self, line: &Line, text: &str) {
        if line.bar.is_none() {
            eprintln!("[{:4} s] {}: {text}", self.start.elapsed().as_secs(), line.name);
        }
    }
}

impl Line {
    /// Shows `text` as the latest news.
    pub fn note(&self, text: &str) {
        let text: String = text.trim().chars().filter(|c| !c.is_control()).take(WIDTH).collect();
        if text.is_empty() {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(format!("{}: {text}", self.about)),
            None => *lock(&self.latest) = text,
        }
    }
}

fn spinner(name: &'static str, about: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} [{elapsed}] {prefix}: {wide_msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(name);
    bar.set_message(about);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
