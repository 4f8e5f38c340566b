// SPDX-License-Identifier: GPL-2.0
//! What a Linux guest has to get right.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use proto::Fields;

use super::linux::Linux;

/// Seed of everything that looks random in a guest.
pub(crate) const SEED: u64 = 20_260;

/// Rounds of the load in a process.
const ROUNDS: u32 = 40;

/// KiB that go to the disk and back.
const DISK_KIB: u64 = 4096;

/// KiB that go over the network and back.
const NET_KIB: u64 = 1024;

/// A value of a report.
pub(crate) fn value<'a>(fields: &'a Fields, key: &str) -> Result<&'a str> {
    fields.get(key).with_context(|| format!("the guest's report has no '{key}'"))
}

/// A number in a report, decimal or hexadecimal.
pub(crate) fn number(fields: &Fields, key: &str) -> Result<u64> {
    let text = value(fields, key)?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.with_context(|| format!("'{key}' is {text}"))
}

/// The guest knows its hypervisor, uses its clock, and has all processors.
pub(crate) fn cpu(guest: &mut Linux, smp: u32) -> Result<()> {
    let fields = guest.ask("cpu")?;
    let hypervisor = value(&fields, "hypervisor")?;
    ensure!(hypervisor == "KVMKVMKVM", "the guest sees hypervisor {hypervisor}");
    let clock = value(&fields, "clock")?;
    let clocks = value(&fields, "clocks")?;
    // With a TSC that never stops, Linux prefers that one; kvm-clock has to be there all the same.
    ensure!(["kvm-clock", "tsc"].contains(&clock), "the guest's clock is {clock}");
    ensure!(clocks.split(',').any(|name| name == "kvm-clock"), "the guest's clocks are {clocks}");
    let online = value(&fields, "online")?;
    let want = (0..smp).map(|cpu| cpu.to_string()).collect::<Vec<_>>().join(",");
    ensure!(online == want, "processors online: {online}, not {want}");
    Ok(())
}

/// A load on every processor gives what it gives here.
pub(crate) fn load(guest: &mut Linux, smp: u32) -> Result<()> {
    let fields = guest.ask(&format!("load {SEED} {ROUNDS}"))?;
    for cpu in 0..u64::from(smp) {
        for process in 0..2 {
            let key = format!("{cpu}.{process}");
            let have = value(&fields, &key)?;
            let want = guest_load::digest(SEED + cpu * 2 + process, ROUNDS);
            ensure!(have == want, "processor {cpu} computed {have}, not {want}");
        }
    }
    Ok(())
}

/// Timer interrupts come on every processor, and `devices` have interrupted since `before`.
pub(crate) fn interrupts(
    guest: &mut Linux,
    smp: u32,
    devices: &[&str],
    before: Option<&Fields>,
) -> Result<Fields> {
    let fields = guest.ask("interrupts")?;
    for cpu in 0..smp {
        ensure!(number(&fields, &format!("timer{cpu}"))? > 0, "no timer on processor {cpu}");
    }
    for device in devices {
        let now = number(&fields, device)?;
        let then = before.map_or(Ok(0), |before| number(before, device))?;
        ensure!(now > then, "{device} has interrupted {now} times, and {then} times before");
    }
    Ok(fields)
}

/// A sleep takes as long in the guest as it does here.
pub(crate) fn clock(guest: &mut Linux) -> Result<()> {
    const ASKED_MS: u64 = 1000;
    let start = Instant::now();
    let fields = guest.ask(&format!("sleep {ASKED_MS}"))?;
    let here = u64::try_from(start.elapsed().as_micros())?;
    for key in ["steady_us", "wall_us"] {
        let there = number(&fields, key)?;
        let fits = there >= ASKED_MS * 1000 && there <= here + ASKED_MS * 20;
        ensure!(fits, "{key}: {there} us in the guest, {here} us outside");
    }
    Ok(())
}

/// Bytes go to the host and back over TCP.
pub(crate) fn net(guest: &mut Linux) -> Result<()> {
    let (port, server) = serve(mirror)?;
    let fields = guest.ask(&format!("net {port} {SEED} {NET_KIB}"))?;
    let bytes = number(&fields, "bytes")?;
    ensure!(bytes == NET_KIB * 1024, "{bytes} bytes came back");
    join(server)
}

/// Writes files for [`disk_read`] to find.
pub(crate) fn disk_write(guest: &mut Linux) -> Result<()> {
    guest.ask(&format!("disk-write {SEED} {DISK_KIB}"))?;
    Ok(())
}

/// Reads the files of [`disk_write`].
pub(crate) fn disk_read(guest: &mut Linux) -> Result<()> {
    guest.ask(&format!("disk-read {SEED} {DISK_KIB}"))?;
    Ok(())
}

/// Memory of a process that is really there.
pub(crate) fn resident_kib(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let word = line.and_then(|rest| rest.split_whitespace().next()).context("no VmRSS")?;
    Ok(word.parse()?)
}

/// A file with an empty ext4 file system, removed when this is dropped.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Makes `/tmp/NAME`.
    pub(crate) fn new(name: &str) -> Result<Self> {
        const SIZE: u64 = 32 * 1024 * 1024;
        let path = Path::new("/tmp").join(name);
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        file.set_len(SIZE).context("sizing the disk")?;
        let disk = Self(path);
        let out = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk.0).output();
        let out = out.context("running mkfs.ext4")?;
        ensure!(out.status.success(), "mkfs.ext4: {}", String::from_utf8_lossy(&out.stderr));
        Ok(disk)
    }

    /// Whether the file system is sound, by e2fsck.
    pub(crate) fn check(&self) -> Result<()> {
        let out = Command::new("e2fsck").args(["-f", "-n"]).arg(&self.0).output();
        let out = out.context("running e2fsck")?;
        ensure!(out.status.success(), "e2fsck: {}", String::from_utf8_lossy(&out.stdout));
        Ok(())
    }

    /// The arguments that give it to a guest.
    pub(crate) fn arguments(&self) -> String {
        format!("-drive if=virtio,format=raw,file={}", self.0.display())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The network card of the guests.
pub(crate) const NIC: &str = "-nic user,model=virtio-net-pci";

/// Accepts one connection on a port of the loopback interface and hands it to `talk`.
pub(crate) fn serve<T: Send + 'static>(
    talk: fn(TcpStream) -> Result<T>,
) -> Result<(u16, JoinHandle<Result<T>>)> {
    loopback()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
    let port = listener.local_addr().context("listening")?.port();
    let server = thread::spawn(move || {
        let (socket, _) = listener.accept().context("accepting")?;
        let limit = Some(Duration::from_secs(60));
        socket.set_read_timeout(limit).context("setting a limit")?;
        socket.set_nodelay(true).context("setting no delay")?;
        talk(socket)
    });
    Ok((port, server))
}

/// The result of a server.
pub(crate) fn join<T>(server: JoinHandle<Result<T>>) -> Result<T> {
    match server.join() {
        Ok(result) => result,
        Err(_) => bail!("the server panicked"),
    }
}

/// Sends every byte back with all bits turned over.
fn mirror(mut socket: TcpStream) -> Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = socket.read(&mut buffer).context("receiving")?;
        if count == 0 {
            return Ok(());
        }
        buffer[..count].iter_mut().for_each(|byte| *byte = !*byte);
        socket.write_all(&buffer[..count]).context("sending")?;
    }
}

/// The machine's loopback interface is down until somebody needs it.
fn loopback() -> Result<()> {
    let status = Command::new("busybox").args(["ip", "link", "set", "lo", "up"]).status();
    ensure!(status.context("running busybox")?.success(), "the loopback interface stays down");
    Ok(())
}
