// SPDX-License-Identifier: GPL-2.0
//! The kernel's log, whole, in the form `dmesg` prints.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::libc::O_NONBLOCK;

/// Longest record the kernel gives out.
const RECORD: usize = 8192;

/// Reads all records there are.
pub(crate) fn read() -> Result<Vec<u8>> {
    let mut device = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open("/dev/kmsg")
        .context("opening /dev/kmsg")?;
    let mut text = Vec::new();
    let mut record = vec![0; RECORD];
    loop {
        match device.read(&mut record) {
            Ok(0) => break,
            Ok(count) => push_record(&mut text, &record[..count]),
            // A record was overwritten before it was read: go on with the next.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error).context("reading /dev/kmsg"),
        }
    }
    Ok(text)
}

/// Where a kernel that looks for leaks tells of them.
const LEAKS: &str = "/sys/kernel/debug/kmemleak";

/// What is younger than five seconds is no leak to the kernel.
const LEAK_AGE: Duration = Duration::from_millis(5_500);

/// Memory that the kernel has lost track of; nothing on a kernel that does not look for it.
pub(crate) fn leaks() -> Vec<u8> {
    if !Path::new(LEAKS).exists() {
        return Vec::new();
    }
    thread::sleep(LEAK_AGE);
    // An object is a leak when two scans find no reference to it, with the same contents.
    for _ in 0..2 {
        if let Err(error) = fs::write(LEAKS, "scan") {
            return format!("kmemleak: Memory pool empty, or turned off: {error}\n").into_bytes();
        }
    }
    fs::read(LEAKS).unwrap_or_default()
}

/// `priority,sequence,microseconds,flags;text`, perhaps followed by ` KEY=value` lines.
fn push_record(text: &mut Vec<u8>, record: &[u8]) {
    let record = String::from_utf8_lossy(record);
    let Some((head, body)) = record.split_once(';') else {
        return;
    };
    let micros: u64 = head.split(',').nth(2).and_then(|field| field.parse().ok()).unwrap_or(0);
    let line = body.lines().next().unwrap_or_default();
    let stamp = format!("[{:5}.{:06}] {line}\n", micros / 1_000_000, micros % 1_000_000);
    text.extend_from_slice(stamp.as_bytes());
}
