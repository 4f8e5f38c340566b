// SPDX-License-Identifier: GPL-2.0
//! A running guest moves to another QEMU.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::checks::{self, Disk, NIC, SEED};
use super::linux::{Image, Linux, options};
use super::qmp::Argument::Text;
use super::vmm::{Options, Vmm};

/// MiB that the guest keeps writing to.
const BUSY_MIB: u32 = 16;

/// How long a migration may take.
const LIMIT: Duration = Duration::from_secs(200);

/// How long the guest's clock may stand still in a live migration: what QEMU aims at is 300 ms.
const LONGEST_GAP: Duration = Duration::from_secs(20);

/// Over a socket, while the guest computes on both processors, writes to its memory and to its disk.
pub(crate) fn socket() -> Result<()> {
    let disk = Disk::new("migrate.img")?;
    let address = Scratch::new("migrate.socket");
    let options = both(&disk, "")?;
    let mut guest = Linux::boot(&options)?;
    checks::load(&mut guest, options.smp)?;
    checks::disk_write(&mut guest)?;
    guest.ask(&format!("start {SEED} {BUSY_MIB}"))?;

    let to = format!("unix:{}", address.0.display());
    let target = Vmm::start(&options.clone().with(&format!("-incoming {to}")))?;
    migrate(&mut guest.vmm, &to).map_err(|error| guest.vmm.explain(error))?;
    let mut guest = move_to(guest, target)?;
    let report = guest.ask("stop")?;
    let gap = Duration::from_micros(checks::number(&report, "longest_gap_us")?);
    ensure!(gap < LONGEST_GAP, "the guest's clock stood still for {gap:?}");
    afterwards(guest, &disk)
}

/// To a file and back, the guest being stopped in between. More words for its kernel may make it boot
/// faster.
pub(crate) fn file(words: &str) -> Result<()> {
    let disk = Disk::new("save.img")?;
    let state = Scratch::new("save.state");
    let options = both(&disk, words)?;
    let mut guest = Linux::boot(&options)?;
    checks::disk_write(&mut guest)?;
    guest.ask(&format!("start {SEED} {BUSY_MIB}"))?;
    guest.vmm.qmp.execute("stop")?;
    let to = format!("file:{}", state.0.display());
    migrate(&mut guest.vmm, &to).map_err(|error| guest.vmm.explain(error))?;
    guest.vmm.quit()?;

    let target = Vmm::start(&options.clone().with(&format!("-incoming {to}")))?;
    let mut guest = Linux::adopt(target, guest.ready.clone());
    // It was saved stopped, and stays so until it is told to go on.
    let restored = guest.vmm.qmp.await_status("paused", LIMIT);
    restored.map_err(|error| guest.vmm.explain(error.context("restoring")))?;
    guest.vmm.qmp.execute("cont")?;
    guest.ask("stop")?;
    afterwards(guest, &disk)
}

/// What both sides are started with.
fn both(disk: &Disk, words: &str) -> Result<Options> {
    Ok(options(Image::Elf, &format!("quiet {words}"))?.with(&disk.arguments()).with(NIC))
}

/// Starts the migration of `source` and waits until it is through.
fn migrate(source: &mut Vmm, to: &str) -> Result<()> {
    source.qmp.execute_with("migrate", &[("uri", Text(to))])?;
    let deadline = Instant::now() + LIMIT;
    loop {
        let state = source.qmp.execute("query-migrate")?;
        match state.field("status").text() {
            "completed" => return Ok(()),
            "failed" | "cancelled" => bail!("the migration failed: {state}"),
            _ => {}
        }
        ensure!(Instant::now() < deadline, "the migration does not end: {state}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ends the source and waits until the guest runs on in `target`.
fn move_to(mut source: Linux, target: Vmm) -> Result<Linux> {
    let mut guest = Linux::adopt(target, source.ready.clone());
    let running = guest.vmm.qmp.await_status("running", LIMIT);
    running.map_err(|error| guest.vmm.explain(error.context("arriving")))?;
    source.vmm.quit()?;
    Ok(guest)
}

/// The guest is whole: it computes, its disk and its network work, its log is clean.
fn afterwards(mut guest: Linux, disk: &Disk) -> Result<()> {
    checks::cpu(&mut guest, 2)?;
    checks::load(&mut guest, 2)?;
    checks::clock(&mut guest)?;
    checks::disk_read(&mut guest)?;
    checks::net(&mut guest)?;
    checks::interrupts(&mut guest, 2, &["virtio", "ttyS0"], None)?;
    guest.power_off()?;
    disk.check()?;
    Ok(())
}

/// A path in `/tmp` that is free now and again at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = PathBuf::from("/tmp").join(name);
        let _ = fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
