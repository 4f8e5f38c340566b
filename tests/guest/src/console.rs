// SPDX-License-Identifier: GPL-2.0
//! The line on which commands come and reports go.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};

use anyhow::{Context, Result, bail};
use nix::sys::termios::{self, SetArg};
use proto::Report;

/// The first serial port.
const DEVICE: &str = if cfg!(target_arch = "s390x") { "/dev/ttysclp0" } else { "/dev/ttyS0" };

/// Both directions.
pub(crate) struct Console {
    input: BufReader<File>,
    output: File,
}

impl Console {
    /// Opens the port, raw: nothing is echoed, no character means anything.
    pub(crate) fn open() -> Result<Console> {
        let file = OpenOptions::new().read(true).write(true).open(DEVICE);
        let output = file.with_context(|| format!("opening {DEVICE}"))?;
        let mut attributes = termios::tcgetattr(&output).context("asking for the line's mode")?;
        termios::cfmakeraw(&mut attributes);
        termios::tcsetattr(&output, SetArg::TCSANOW, &attributes).context("making it raw")?;
        let input = BufReader::new(output.try_clone().context("duplicating the console")?);
        Ok(Console { input, output })
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.input.read_line(&mut line).context("reading the console")? == 0 {
            bail!("the console was closed");
        }
        Ok(line.trim_end().to_owned())
    }

    /// Writes a report and waits until it is out.
    pub(crate) fn say(&mut self, report: &Report) -> Result<()> {
        // A kernel message may have left the line unfinished.
        let line = format!("\r\n{}\r\n", report.to_line());
        self.output.write_all(line.as_bytes()).context("writing to the console")?;
        termios::tcdrain(&self.output).context("waiting for the console")
    }
}
