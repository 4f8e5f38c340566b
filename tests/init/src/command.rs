// SPDX-License-Identifier: GPL-2.0
//! The command of a run: started, fed, listened to, waited for.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::libc;
use nix::pty::{Winsize, openpty};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;
use proto::job::{RUN_MODULES_DIR, WORK_DIR};
use proto::{Decoder, Item, Job, Kind};

use crate::channel::Sender;

nix::ioctl_write_ptr_bad!(set_window, libc::TIOCSWINSZ, Winsize);
nix::ioctl_none_bad!(take_terminal, libc::TIOCSCTTY);

/// Silence after the command itself has ended that ends its output: something it left in the
/// background may hold its pipes open for ever.
const LINGER: Duration = Duration::from_secs(2);

/// The streams of a started command, from this side.
struct Streams {
    input: Option<File>,
    outputs: Vec<(Kind, File)>,
    terminal: Option<File>,
}

/// Runs the command of `job` and returns its exit status.
pub(crate) fn run(job: &Job, sender: &Sender, receiver: File) -> Result<u8> {
    let (pid, streams) = start(job)?;
    let (done, all_done) = mpsc::channel::<()>();
    for (kind, file) in streams.outputs {
        let (sender, done) = (sender.clone(), done.clone());
        thread::spawn(move || {
            forward(file, kind, &sender);
            drop(done);
        });
    }
    drop(done);
    let (input, terminal) = (streams.input, streams.terminal);
    thread::spawn(move || feed(receiver, input, terminal.as_ref()));
    let status = reap(pid)?;
    let mut sent = sender.sent();
    while let Err(RecvTimeoutError::Timeout) = all_done.recv_timeout(LINGER) {
        let now = sender.sent();
        if now == sent {
            break;
        }
        sent = now;
    }
    Ok(status)
}

fn start(job: &Job) -> Result<(Pid, Streams)> {
    let mut command = shell(job);
    let streams = if job.terminal {
        with_terminal(&mut command)?
    } else {
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        None
    };
    let mut child = command.spawn().context("starting the command")?;
    let pid = Pid::from_raw(i32::try_from(child.id()).context("the command's process id")?);
    let streams = streams.unwrap_or_else(|| {
        let mut outputs = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            outputs.push((Kind::Stdout, File::from(OwnedFd::from(pipe))));
        }
        if let Some(pipe) = child.stderr.take() {
            outputs.push((Kind::Stderr, File::from(OwnedFd::from(pipe))));
        }
        Streams {
            input: child.stdin.take().map(|pipe| File::from(OwnedFd::from(pipe))),
            outputs,
            terminal: None,
        }
    });
    Ok((pid, streams))
}

fn shell(job: &Job) -> Command {
    let mut command = Command::new("/bin/sh");
    match &job.cmd {
        Some(text) => command.args(["-c", text]),
        None => command.arg("-i"),
    };
    command
        .current_dir(WORK_DIR)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/root")
        .env("HOME", "/root")
        .env("USER", "root")
        .env("TERM", "linux")
        .env("LC_ALL", "C.UTF-8")
        .env("KVM_MODULES", RUN_MODULES_DIR)
        .envs(job.env.iter().map(|(name, value)| (name, value)));
    command
}

/// Gives the command a terminal of its own.
fn with_terminal(command: &mut Command) -> Result<Option<Streams>> {
    let pair = openpty(None, None).context("making a terminal")?;
    let (master, slave) = (File::from(pair.master), pair.slave);
    let copy = || slave.try_clone().context("duplicating the terminal");
    command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
    // SAFETY: setsid and an ioctl are plain system calls, allowed between fork and exec; descriptor
    // 0 is the terminal by then.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            take_terminal(0)?;
            Ok(())
        });
    }
    let copy = || master.try_clone().context("duplicating the terminal");
    Ok(Some(Streams {
        input: Some(copy()?),
        outputs: vec![(Kind::Stdout, copy()?)],
        terminal: Some(master),
    }))
}

fn forward(mut file: File, kind: Kind, sender: &Sender) {
    let mut buffer = [0; 16 * 1024];
    // A terminal ends with EIO.
    while let Ok(count @ 1..) = file.read(&mut buffer) {
        sender.send(kind, &buffer[..count]);
    }
}

/// Hands what the harness sends to the command.
fn feed(mut receiver: File, mut input: Option<File>, terminal: Option<&File>) {
    let mut decoder = Decoder::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = receiver.read(&mut buffer) {
        for item in decoder.push(&buffer[..count]) {
            let Item::Frame(frame) = item else { continue };
            match frame.kind {
                Kind::Stdin => {
                    if let Some(file) = &mut input {
                        let _ = file.write_all(&frame.payload);
                    }
                }
                Kind::EndOfInput if terminal.is_none() => input = None,
                Kind::Window => resize(terminal, &frame.payload),
                _ => {}
            }
        }
    }
}

/// `payload` is `rows columns`.
fn resize(terminal: Option<&File>, payload: &[u8]) {
    use std::os::fd::AsRawFd;
    let text = String::from_utf8_lossy(payload);
    let mut numbers = text.split(' ').filter_map(|number| number.parse().ok());
    let (Some(terminal), Some(ws_row), Some(ws_col)) = (terminal, numbers.next(), numbers.next())
    else {
        return;
    };
    let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is an open terminal and `size` outlives the call.
    let _ = unsafe { set_window(terminal.as_raw_fd(), &size) };
}

/// Waits for `pid`, and as PID 1 for whatever else ends meanwhile.
fn reap(pid: Pid) -> Result<u8> {
    loop {
        match wait().context("waiting for the command")? {
            WaitStatus::Exited(ended, status) if ended == pid => {
                return Ok(u8::try_from(status & 0xff).unwrap_or(u8::MAX));
            }
            WaitStatus::Signaled(ended, signal, _) if ended == pid => {
                return Ok(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX));
            }
            _ => {}
        }
    }
}
