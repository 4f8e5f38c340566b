// SPDX-License-Identifier: GPL-2.0
//! QEMU's monitor: asks it, and watches how the machine ends.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// What QEMU needs to be told for [`watch_end`].
pub(crate) const PAUSE_AT_END: [&str; 2] = ["-action", "reboot=shutdown,shutdown=pause"];

/// Ends the QEMU at the other end of `stream` when its machine has shut itself down. The processors' state of
/// one that resets itself is appended to `log`, for a triple fault leaves nothing else; `stack` is their stack
/// pointer's name.
pub(crate) fn watch_end(stream: UnixStream, log: File, stack: &'static str) {
    thread::spawn(move || {
        // What fails here is found where the machine's end is waited for.
        let Ok(mut monitor) = Monitor::greet(stream) else { return };
        if let Ok(Some(state)) = monitor.await_end(stack) {
            let _ = writeln!(&log, "The machine resets itself.\n{state}");
        }
        monitor.quit();
    });
}

/// A connection to it.
pub(crate) struct Monitor {
    input: BufReader<UnixStream>,
    output: UnixStream,
}

impl Monitor {
    /// Connects to the QEMU that listens at `path`.
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        Self::greet(UnixStream::connect(path).context("connecting to QEMU's monitor")?)
    }

    fn greet(output: UnixStream) -> Result<Self> {
        output.set_read_timeout(Some(ANSWER)).context("QEMU's monitor")?;
        let input = BufReader::new(output.try_clone().context("QEMU's monitor")?);
        let mut monitor = Self { input, output };
        monitor.message().context("QEMU's greeting")?;
        monitor.ask(&json!({ "execute": "qmp_capabilities" }))?;
        Ok(monitor)
    }

    /// Executes a command that a person could type; what it answers is an error.
    pub(crate) fn command(&mut self, line: &str) -> Result<()> {
        match self.words(line)?.trim() {
            "" => Ok(()),
            words => bail!("QEMU's monitor, to '{line}': {words}"),
        }
    }

    /// The answer to a command that a person could type.
    fn words(&mut self, line: &str) -> Result<String> {
        let arguments = json!({ "command-line": line });
        let answer =
            self.ask(&json!({ "execute": "human-monitor-command", "arguments": arguments }))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the machine, which pauses then, is shut down. If it reset itself, the state of
    /// its processors is returned.
    fn await_end(&mut self, stack: &str) -> Result<Option<String>> {
        self.output.set_read_timeout(None).context("QEMU's monitor")?;
        loop {
            let message = self.message()?;
            if message["event"] == "SHUTDOWN" {
                return match message["data"]["reason"].as_str() {
                    Some("guest-reset") => self.state(stack).map(Some),
                    _ => Ok(None),
                };
            }
        }
    }

    /// The registers of all processors, and what lies on their stacks.
    fn state(&mut self, stack: &str) -> Result<String> {
        let mut state = self.words("info registers -a")?;
        for number in 0..state.matches("CPU#").count() {
            self.command(&format!("cpu {number}"))?;
            state +=
                &format!("stack of CPU#{number}\n{}", self.words(&format!("x/32gx ${stack}"))?);
        }
        Ok(state)
    }

    /// Ends QEMU, whose answer may be lost with it.
    pub(crate) fn quit(&mut self) {
        let _ = self.ask(&json!({ "execute": "quit" }));
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        writeln!(self.output, "{request}").context("asking QEMU's monitor")?;
        loop {
            let message = self.message()?;
            if let Some(error) = message.get("error") {
                bail!("QEMU's monitor, to {request}: {error}");
            }
            if let Some(answer) = message.get("return") {
                return Ok(answer.clone());
            }
        }
    }

    fn message(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.input.read_line(&mut line).context("listening to QEMU's monitor")?;
        serde_json::from_str(&line).with_context(|| format!("QEMU's monitor says '{line}'"))
    }
}
