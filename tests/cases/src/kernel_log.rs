// SPDX-License-Identifier: GPL-2.0
//! The kernel's log.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result};

/// A place in the log.
pub(crate) struct Mark(std::fs::File);

impl Mark {
    /// The end of the log as it is now.
    pub(crate) fn now() -> Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .context("opening /dev/kmsg")?;
        file.seek(SeekFrom::End(0)).context("seeking in /dev/kmsg")?;
        Ok(Self(file))
    }

    /// Messages since then, without their headers.
    pub(crate) fn since(mut self) -> Result<Vec<String>> {
        let mut messages = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&record[..length]);
                    let message = text.split_once(';').map_or("", |(_, message)| message);
                    messages.push(message.lines().next().unwrap_or_default().to_owned());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(messages),
                Err(error) => return Err(error).context("reading /dev/kmsg"),
            }
        }
    }
}
