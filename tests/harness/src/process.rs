// SPDX-License-Identifier: GPL-2.0
//! Child processes that never outlive the harness.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::signals;
use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A child in a process group of its own. The group is killed when this is dropped, and the child
/// also when the harness dies in a way that runs no destructors.
#[derive(Debug)]
pub struct Process {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`.
    pub fn spawn(command: &mut Command) -> Result<Process> {
        command.process_group(0);
        // SAFETY: prctl(PR_SET_PDEATHSIG) is a plain system call, allowed between fork and exec.
        unsafe {
            command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
        }
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
        signals::register(group_of(&child));
        Ok(Process { child, ended: None })
    }

    /// The child itself, to take its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The exit status, if it has ended.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().context("waiting for a child")?;
        }
        Ok(self.ended)
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let status = self.child.wait().context("waiting for a child")?;
        self.ended = Some(status);
        Ok(status)
    }

    /// Kills the whole group now.
    pub fn kill(&mut self) {
        // An error means that nobody is left in the group.
        let _ = killpg(Pid::from_raw(group_of(&self.child)), Signal::SIGKILL);
        let _ = self.wait();
    }
}

/// The child leads its group. Process ids fit an `i32` wherever Linux runs.
fn group_of(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap_or(i32::MAX)
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        signals::unregister(group_of(&self.child));
    }
}

/// Descriptors that children get by number have lower ones.
const LOW: RawFd = 64;

/// Lets the child of `command` have `fd` as its descriptor `number`, which is below [`LOW`].
pub fn pass_fd(command: &mut Command, fd: OwnedFd, number: RawFd) -> Result<()> {
    // Out of the way of the numbers that others of the child's descriptors get.
    let fd = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(LOW)).context("copying a descriptor")?;
    // SAFETY: the number is new and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: dup2 is a plain system call, allowed between fork and exec; the closure owns `fd`, so
    // it is open.
    unsafe {
        command.pre_exec(move || match nix::libc::dup2(fd.as_raw_fd(), number) {
            0.. => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    Ok(())
}

/// Runs `command` to its end with its output appended to `log`; `progress` sees every line.
/// An unsuccessful end is an error that names the command and shows the last lines of its output.
pub fn run_logged(command: &mut Command, log: &Path, progress: &dyn Fn(&str)) -> Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("opening {}", log.display()))?;
    let shown = show(command);
    writeln!(file, "$ {shown}").context("writing the log")?;
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context("making a pipe")?;
    command.stdin(Stdio::null());
    command.stdout(writer.try_clone().context("making a pipe")?);
    command.stderr(writer);
    let mut process = Process::spawn(command)?;
    // The command still holds the writing ends; without this the reading below would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut tail = VecDeque::new();
    let mut lines = BufReader::new(File::from(reader)).split(b'\n');
    while let Some(Ok(line)) = lines.next() {
        let line = String::from_utf8_lossy(&line).into_owned();
        writeln!(file, "{line}").context("writing the log")?;
        progress(&line);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line);
    }
    let status = process.wait()?;
    if !status.success() {
        let tail: Vec<String> = tail.into();
        bail!("{shown}\n  ended with {status}; its last lines:\n    {}", tail.join("\n    "));
    }
    Ok(())
}

/// Lines of output shown with a failure.
const TAIL: usize = 12;

/// The command as a person would type it.
fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
