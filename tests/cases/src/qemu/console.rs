// SPDX-License-Identifier: GPL-2.0
//! The console of a guest: every line it writes, and what is typed.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Lines kept for messages.
const TAIL: usize = 25;

/// Longest line kept; firmware may write without line ends.
const LONGEST: usize = 4096;

/// Both directions of the first serial port.
pub(crate) struct Console {
    output: UnixStream,
    chunks: Receiver<Vec<u8>>,
    pending: Vec<u8>,
    tail: VecDeque<String>,
}

impl Console {
    /// Reads `stream` in a thread of its own; `show` copies it to standard output as it comes.
    pub(crate) fn new(stream: UnixStream, show: bool) -> Result<Self> {
        let input = stream.try_clone().context("duplicating the console")?;
        let (sender, chunks) = mpsc::channel();
        thread::spawn(move || read(input, show, &sender));
        Ok(Self { output: stream, chunks, pending: Vec::new(), tail: VecDeque::new() })
    }

    /// Types a line.
    pub(crate) fn type_line(&mut self, line: &str) -> Result<()> {
        self.output.write_all(format!("{line}\n").as_bytes()).context("typing at the console")
    }

    /// The next line, without its end; `None` after the last one.
    pub(crate) fn line(&mut self, deadline: Instant) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return Ok(Some(self.keep(&line)));
            }
            if self.pending.len() > LONGEST || !self.more(deadline)? {
                let line = std::mem::take(&mut self.pending);
                return Ok(if line.is_empty() { None } else { Some(self.keep(&line)) });
            }
        }
    }

    /// Waits for a line that contains `text`.
    pub(crate) fn expect(&mut self, text: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            match self.line(deadline).with_context(|| format!("waiting for '{text}'"))? {
                Some(line) if line.contains(text) => return Ok(line),
                Some(_) => {}
                None => bail!("the console ended without '{text}'"),
            }
        }
    }

    /// Waits for `text` at the end of a line that has no end yet.
    pub(crate) fn expect_prompt(&mut self, text: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let unfinished = self.pending.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
            if String::from_utf8_lossy(unfinished).trim_end().ends_with(text) {
                let line = std::mem::take(&mut self.pending);
                self.keep(&line);
                return Ok(());
            }
            if !self.more(deadline).with_context(|| format!("waiting for '{text}'"))? {
                bail!("the console ended without '{text}'");
            }
        }
    }

    /// The last lines, on one.
    pub(crate) fn tail(&mut self) -> String {
        while let Ok(Some(_)) = self.line(Instant::now()) {}
        let unfinished = String::from_utf8_lossy(&self.pending).into_owned();
        let lines = self.tail.iter().map(String::as_str).chain([unfinished.as_str()]);
        let lines: Vec<&str> = lines.filter(|line| !line.trim().is_empty()).collect();
        if lines.is_empty() { "nothing".into() } else { lines.join(" / ") }
    }

    /// Notes a line and gives it back without what isn't text.
    fn keep(&mut self, line: &[u8]) -> String {
        let line = String::from_utf8_lossy(line).replace(['\r', '\0', '\n'], "");
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.clone());
        line
    }

    /// Waits for more bytes; false if there won't be any.
    fn more(&mut self, deadline: Instant) -> Result<bool> {
        match self.chunks.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(chunk) => {
                self.pending.extend(chunk);
                Ok(true)
            }
            Err(RecvTimeoutError::Disconnected) => Ok(false),
            Err(RecvTimeoutError::Timeout) => bail!("nothing comes from the console any more"),
        }
    }
}

fn read(mut input: UnixStream, show: bool, chunks: &mpsc::Sender<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = input.read(&mut buffer) {
        if show {
            let mut out = std::io::stdout().lock();
            // Whoever watches may go away.
            let _ = out.write_all(&buffer[..count]).and_then(|()| out.flush());
        }
        // Nobody may be interested any more.
        let _ = chunks.send(buffer[..count].to_vec());
    }
}
