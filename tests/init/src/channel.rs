// SPDX-License-Identifier: GPL-2.0
//! The device that carries the frames.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::libc;
use nix::sys::termios::{self, ControlFlags};
use proto::{Frame, Job, Kind};

/// How long the device may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);

/// The sending end, shared by the threads that read the command's output.
#[derive(Clone)]
pub(crate) struct Sender {
    shared: Arc<Mutex<Shared>>,
    max_payload: usize,
}

struct Shared {
    device: File,
    sent: u64,
}

/// Opens the channel of `job`; the file is the receiving end.
pub(crate) fn open(job: &Job) -> Result<(Sender, File)> {
    let device = open_device(Path::new(&job.channel))?;
    let receiver = device.try_clone().context("duplicating the channel")?;
    let sender = Sender {
        shared: Arc::new(Mutex::new(Shared { device, sent: 0 })),
        max_payload: job.max_payload,
    };
    Ok((sender, receiver))
}

fn open_device(path: &Path) -> Result<File> {
    set_terminals_online();
    let start = Instant::now();
    // The device may take its time to appear, and then be busy for a while with getting ready.
    let device = loop {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(device) => break device,
            Err(_) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => {
                return Err(error).with_context(|| format!("opening channel {}", path.display()));
            }
        }
    };
    // Not every channel is a terminal, and not every terminal does all of raw mode.
    if let Ok(mut attributes) = termios::tcgetattr(&device) {
        termios::cfmakeraw(&mut attributes);
        // A serial port comes up at 9600 baud, and an emulator may keep to it. (The libc's functions for
        // the speed have symbol versions that a static program cannot link.)
        let speed = ControlFlags::from_bits_retain(libc::B115200);
        attributes.control_flags.remove(ControlFlags::CBAUD);
        attributes.control_flags.insert(speed | ControlFlags::CLOCAL);
        let _ = termios::tcsetattr(&device, termios::SetArg::TCSANOW, &attributes);
    }
    Ok(device)
}

/// The 3270 terminals of a mainframe are offline until somebody asks for them.
fn set_terminals_online() {
    let Ok(terminals) = fs::read_dir("/sys/bus/ccw/drivers/3270") else {
        return;
    };
    for terminal in terminals.flatten() {
        // An entry without this file is no terminal, and one that fails will not open.
        let _ = OpenOptions::new()
            .write(true)
            .open(terminal.path().join("online"))
            .and_then(|mut online| online.write_all(b"1"));
    }
}

impl Sender {
    /// Sends `bytes` as frames of `kind`. A broken channel is no error: nobody could be told.
    pub(crate) fn send(&self, kind: Kind, bytes: &[u8]) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        for frame in Frame::split(kind, bytes, self.max_payload) {
            let _ = shared.device.write_all(frame.to_line().as_bytes());
            shared.sent += 1;
        }
    }

    /// Frames sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).sent
    }

    /// Waits until the device has let everything out.
    pub(crate) fn drain(&self) {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = termios::tcdrain(shared.device.as_fd());
    }
}
