// SPDX-License-Identifier: GPL-2.0
//! QEMU's monitor, to switch its log of executed instructions on and off.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// A connection to it.
pub(super) struct Monitor {
    input: BufReader<UnixStream>,
    output: UnixStream,
}

impl Monitor {
    /// Connects to the QEMU that listens at `path`.
    pub(super) fn connect(path: &Path) -> Result<Self> {
        let output = UnixStream::connect(path).context("connecting to QEMU's monitor")?;
        output.set_read_timeout(Some(ANSWER)).context("QEMU's monitor")?;
        let input = BufReader::new(output.try_clone().context("QEMU's monitor")?);
        let mut monitor = Self { input, output };
        monitor.message().context("QEMU's greeting")?;
        monitor.ask(&json!({ "execute": "qmp_capabilities" }))?;
        Ok(monitor)
    }

    /// Executes a command that a person could type; what it answers is an error.
    pub(super) fn command(&mut self, line: &str) -> Result<()> {
        let arguments = json!({ "command-line": line });
        let answer =
            self.ask(&json!({ "execute": "human-monitor-command", "arguments": arguments }))?;
        match answer.as_str().unwrap_or_default().trim() {
            "" => Ok(()),
            words => bail!("QEMU's monitor, to '{line}': {words}"),
        }
    }

    /// Ends QEMU, whose answer may be lost with it.
    pub(super) fn quit(&mut self) {
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
