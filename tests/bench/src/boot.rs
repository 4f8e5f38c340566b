// SPDX-License-Identifier: GPL-2.0
//! What it takes to boot Linux: QEMU, its firmware, the kernel and the way to user space.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use proto::Report;
use proto::report::{Line, READY};

use crate::sample::{self, Bench, Figure};

pub(crate) const BENCHES: &[Bench] = &[Bench {
    name: "boot/linux",
    what: "QEMU from its start until the user space of its Linux guest is up",
    body: linux,
}];

/// Boots; the first reads files that the others find in memory.
const SAMPLES: usize = 3;

/// The unpacked kernel, quiet and without tests of its own: what the guest computes isn't what is measured.
const WORDS: &str = "console=ttyS0 panic=-1 tsc=nowatchdog quiet cryptomgr.notests";

const VMM: &str =
    "-accel kvm -machine pc -cpu host -smp 1 -m 512M -display none -monitor none -serial stdio";

fn linux() -> Result<Figure> {
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let start = Moment::now()?;
        let mut vmm = Vmm::start()?;
        vmm.await_user_space()?;
        samples.push(Moment::now()?.executed_since(&start));
    }
    Ok(Figure::instructions(samples, 1)?.typical())
}

/// A moment by the clock that counts instructions, and goes on while the processor is idle.
struct Moment {
    clock: u64,
    time: Instant,
    /// How long the processor was idle.
    idle: Duration,
}

impl Moment {
    fn now() -> Result<Self> {
        /// Fields of the first line of /proc/stat in hundredths of a second: idle, and so for the disk.
        const IDLE: [usize; 2] = [4, 5];
        let stat = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        let words: Vec<&str> = stat.lines().next().unwrap_or("").split_whitespace().collect();
        let mut ticks = 0;
        for index in IDLE {
            ticks += words.get(index).context("/proc/stat is short")?.parse::<u64>()?;
        }
        let idle = Duration::from_millis(10 * ticks);
        Ok(Self { clock: sample::now(), time: Instant::now(), idle })
    }

    /// What was executed since `start`: the clock without its part of the time that was idle.
    fn executed_since(&self, start: &Self) -> u64 {
        let passed = (self.time - start.time).as_secs_f64();
        let idle = self.idle.saturating_sub(start.idle).as_secs_f64();
        ((self.clock - start.clock) as f64 * (1.0 - idle / passed)) as u64
    }
}

/// A QEMU that is killed when this is dropped.
struct Vmm(Child);

impl Vmm {
    fn start() -> Result<Self> {
        let kernel = std::env::var("GUEST_VMLINUX").context("GUEST_VMLINUX")?;
        let initramfs = std::env::var("GUEST_INITRAMFS").context("GUEST_INITRAMFS")?;
        let mut command = Command::new("qemu-system-x86_64");
        command.args(VMM.split(' '));
        command.args(["-kernel", &kernel, "-initrd", &initramfs, "-append", WORDS]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().map(Self).context("starting QEMU")
    }

    /// Waits until the guest says that its user space is up.
    fn await_user_space(&mut self) -> Result<()> {
        let console = BufReader::new(self.0.stdout.take().context("QEMU's console")?);
        for line in console.lines() {
            let line = line.context("the guest's console")?;
            match Report::read(line.trim_end()) {
                Line::Report(report) => {
                    ensure!(report.name == READY, "the guest reports {}", report.name);
                    ensure!(report.result.is_ok(), "the guest isn't well: {line}");
                    return Ok(());
                }
                Line::Text => {}
                Line::Damaged => bail!("a damaged report: {line}"),
            }
        }
        bail!("QEMU ended: {:?}", self.0.wait())
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        // One that has ended needs no killing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
