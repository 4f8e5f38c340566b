// SPDX-License-Identifier: GPL-2.0
//! What Hercules writes: its own messages, and among them the lines of the kernel's console.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// What a line of the console module starts with.
const KERNEL: &str = "kernel: ";

/// Messages that tell whether Hercules has its port.
const PORT_OPEN: &str = "HHCTE003I";
const PORT_TAKEN: &str = "HHCTE002W";

/// How long Hercules may take to open its port, and to finish its log when it has ended.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the log is.
enum News {
    PortOpen,
    PortTaken,
}

/// The thread that keeps the log.
pub(super) struct Log {
    /// Ends with the log.
    news: Receiver<News>,
    path: PathBuf,
}

/// Writes all of `output` to the file `all`, and the lines of the kernel to the file `console`.
pub(super) fn keep(output: impl Read + Send + 'static, all: &Path, console: &Path) -> Result<Log> {
    let create =
        |path: &Path| File::create(path).with_context(|| format!("making {}", path.display()));
    let path = all.to_owned();
    let (all, console) = (create(all)?, Console::new(create(console)?));
    let (sender, news) = mpsc::channel();
    thread::spawn(move || follow(output, all, console, &sender));
    Ok(Log { news, path })
}

impl Log {
    /// Waits until Hercules has opened its port, or found that it is taken.
    pub(super) fn port_is_open(&self) -> Result<bool> {
        match self.news.recv_timeout(PATIENCE) {
            Ok(News::PortOpen) => Ok(true),
            Ok(News::PortTaken) => Ok(false),
            Err(_) => {
                bail!("Hercules does not start, see {}", self.path.display())
            }
        }
    }

    /// Waits until the last line is written, once Hercules has ended.
    pub(super) fn wait(&self) {
        while !matches!(
            self.news.recv_timeout(PATIENCE),
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout)
        ) {}
    }
}

/// An error in writing a log ends it, and nothing else.
fn follow(output: impl Read, mut all: File, mut console: Console, news: &Sender<News>) {
    let mut lines = BufReader::new(output).split(b'\n');
    while let Some(Ok(line)) = lines.next() {
        let line = String::from_utf8_lossy(&line);
        if line.starts_with(PORT_OPEN) {
            let _ = news.send(News::PortOpen);
        } else if line.starts_with(PORT_TAKEN) {
            let _ = news.send(News::PortTaken);
        }
        if writeln!(all, "{line}").and_then(|()| console.take(&line)).is_err() {
            return;
        }
    }
}

/// The console's file. Until the console module speaks it holds what the kernel says early; the
/// module then begins from the start.
struct Console {
    file: File,
    complete: bool,
}

impl Console {
    fn new(file: File) -> Console {
        Console { file, complete: false }
    }

    fn take(&mut self, line: &str) -> std::io::Result<()> {
        if let Some(text) = line.strip_prefix(KERNEL) {
            if !self.complete {
                self.complete = true;
                self.restart()?;
            }
            writeln!(self.file, "{text}")
        } else if !self.complete && line.starts_with('[') {
            writeln!(self.file, "{line}")
        } else {
            Ok(())
        }
    }

    fn restart(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_and_messages_are_told_apart() {
        let dir = std::env::temp_dir().join(format!("hercules-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (all, console) = (dir.join("all"), dir.join("console"));
        let output = "HHCTE003I Waiting\n[ 0.1] early\nkernel: [ 0.1] early\nkernel: [ 2.0] late\n\
                      CPU0000: SIGP Stop\nkernel: [ 3.0] end";
        let log = keep(output.as_bytes(), &all, &console).unwrap();
        assert!(log.port_is_open().unwrap());
        log.wait();
        assert_eq!(std::fs::read_to_string(&all).unwrap().lines().count(), 6);
        let text = std::fs::read_to_string(&console).unwrap();
        assert_eq!(text, "[ 0.1] early\n[ 2.0] late\n[ 3.0] end\n");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
