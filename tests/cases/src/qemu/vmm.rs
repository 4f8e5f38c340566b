// SPDX-License-Identifier: GPL-2.0
//! One QEMU process: how it is started, watched and ended.

use std::fs::{self, File};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::console::Console;
use super::diagnose;
use super::qmp::Qmp;

/// The program; it is the distribution's own.
const PROGRAM: &str =
    if cfg!(target_arch = "s390x") { "qemu-system-s390x" } else { "qemu-system-x86_64" };

/// The machine where nothing else is said.
const MACHINE: &str = if cfg!(target_arch = "s390x") { "s390-ccw-virtio" } else { "pc" };

/// How long QEMU may take to open its sockets, with fifty others beside it.
const START: Duration = Duration::from_secs(300);

/// How long it may take to end once it was told to or its guest has.
pub(crate) const END: Duration = Duration::from_secs(60);

/// What is run, as far as it is not the same for all.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// `-accel`.
    pub(crate) accel: String,
    /// `-machine`.
    pub(crate) machine: String,
    /// `-cpu`.
    pub(crate) cpu: String,
    /// `-smp`.
    pub(crate) smp: u32,
    /// `-m`.
    pub(crate) memory: String,
    /// Whatever else.
    pub(crate) more: Vec<String>,
    /// Whether to open a gdb stub.
    pub(crate) gdb: bool,
    /// Whether to show the console as it comes.
    pub(crate) show: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            accel: "kvm".into(),
            machine: MACHINE.into(),
            cpu: "host".into(),
            smp: 2,
            memory: "512M".into(),
            more: Vec::new(),
            gdb: false,
            show: false,
        }
    }
}

impl Options {
    /// Adds arguments, separated by blanks.
    pub(crate) fn with(mut self, arguments: &str) -> Self {
        self.more.extend(arguments.split_whitespace().map(str::to_owned));
        self
    }

    /// Adds one argument that may hold blanks.
    pub(crate) fn with_word(mut self, argument: impl Into<String>) -> Self {
        self.more.push(argument.into());
        self
    }

    /// The command as a person would type it, without the sockets of this program.
    pub(crate) fn command_line(&self) -> String {
        let mut line = format!(
            "{PROGRAM} -accel {} -machine {} -cpu {} -smp {} -m {}",
            self.accel, self.machine, self.cpu, self.smp, self.memory
        );
        for word in &self.more {
            line.push(' ');
            line.push_str(&if word.contains(' ') { format!("'{word}'") } else { word.clone() });
        }
        line
    }

    fn arguments(&self, dir: &Path) -> Vec<String> {
        let socket = |name: &str| format!("socket,id={name},path={}", dir.join(name).display());
        let mut arguments: Vec<String> = [
            "-accel",
            &self.accel,
            "-machine",
            &self.machine,
            "-cpu",
            &self.cpu,
            "-smp",
            &self.smp.to_string(),
            "-m",
            &self.memory,
            "-display",
            "none",
            "-chardev",
            &socket("console"),
            "-serial",
            "chardev:console",
            "-chardev",
            &socket("qmp"),
            "-qmp",
            "chardev:qmp",
        ]
        .map(str::to_owned)
        .into();
        if self.gdb {
            // QEMU stops the guest when a debugger connects, so this side does that, and later.
            let socket = format!("{},server=on,wait=off", socket("gdb"));
            arguments.extend(["-chardev", &socket, "-gdb", "chardev:gdb"].map(str::to_owned));
        }
        arguments.extend(self.more.iter().cloned());
        arguments
    }
}

/// A running QEMU. It is killed when this is dropped.
pub(crate) struct Vmm {
    child: Child,
    dir: PathBuf,
    /// The guest's first serial port.
    pub(crate) console: Console,
    /// The monitor.
    pub(crate) qmp: Qmp,
    started: Instant,
    shown: bool,
    vcpus: u32,
}

impl Vmm {
    /// Starts QEMU and connects to it.
    pub(crate) fn start(options: &Options) -> Result<Self> {
        let dir = new_dir()?;
        let listen = |name: &str| {
            let path = dir.join(name);
            UnixListener::bind(&path).with_context(|| format!("listening at {}", path.display()))
        };
        let (console, qmp) = (listen("console")?, listen("qmp")?);
        let log = File::create(dir.join("log")).context("making QEMU's log")?;
        let mut child = Command::new(PROGRAM)
            .args(options.arguments(&dir))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("QEMU's log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {PROGRAM}"))?;
        let started = Instant::now();
        let connected = (|| {
            let mut take = |listener: &UnixListener| accept(listener, &mut child);
            let console = Console::new(take(&console)?, options.show)?;
            let qmp = take(&qmp)?;
            Ok((console, Qmp::new(qmp)?))
        })();
        match connected {
            Ok((console, qmp)) => {
                let (shown, vcpus) = (options.show, options.smp);
                Ok(Self { child, dir, console, qmp, started, shown, vcpus })
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                let error: anyhow::Error = error;
                Err(error.context(format!("QEMU does not start: {}", words_of(&dir))))
            }
        }
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether somebody watches its console.
    pub(crate) fn is_shown(&self) -> bool {
        self.shown
    }

    /// Since the start.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Connects to the gdb stub, which stops the guest.
    pub(crate) fn connect_gdb(&self) -> Result<UnixStream> {
        UnixStream::connect(self.dir.join("gdb")).context("connecting to the gdb stub")
    }

    /// What QEMU has written to its standard error.
    pub(crate) fn words(&self) -> String {
        words_of(&self.dir)
    }

    /// The exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("waiting for QEMU")
    }

    /// Waits for the end, which must be a good one.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<()> {
        let status = self.wait_any(limit)?;
        ensure!(status.success(), "QEMU ended with {status}: {}", self.words());
        Ok(())
    }

    /// Waits for the end.
    pub(crate) fn wait_any(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            ensure!(start.elapsed() < limit, "QEMU does not end: {}", self.words());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it as nothing else does: no destructor of it runs.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill().context("killing QEMU")?;
        self.child.wait().context("waiting for QEMU")?;
        Ok(())
    }

    /// Tells QEMU to quit and waits until it did.
    pub(crate) fn quit(&mut self) -> Result<()> {
        self.qmp.execute("quit")?;
        self.wait(END)
    }

    /// Adds to `error` what QEMU and the guest said last, and what they are at.
    pub(crate) fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        let state = match self.child.try_wait() {
            Ok(Some(status)) => format!("; QEMU ended with {status}"),
            _ => format!("; {}", diagnose::report(self.child.id(), &mut self.qmp, self.vcpus)),
        };
        let words = self.words();
        let console = self.console.tail();
        anyhow::anyhow!("{error:#}{state}; QEMU's words: {words}; the console's last: {console}")
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A new directory for the sockets of one QEMU.
fn new_dir() -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = PathBuf::from(format!("/tmp/qemu-{}-{number}", std::process::id()));
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    Ok(dir)
}

fn accept(listener: &UnixListener, child: &mut Child) -> Result<UnixStream> {
    listener.set_nonblocking(true).context("listening")?;
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).context("accepting")?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("accepting"),
        }
        if let Some(status) = child.try_wait().context("waiting for QEMU")? {
            bail!("it ended with {status}");
        }
        ensure!(start.elapsed() < START, "it does not connect");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The last of what a QEMU wrote to its standard error, on one line.
fn words_of(dir: &Path) -> String {
    let log = fs::read(dir.join("log")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let start = lines.len().saturating_sub(30);
    if lines.is_empty() { "none".into() } else { lines[start..].join(" / ") }
}
