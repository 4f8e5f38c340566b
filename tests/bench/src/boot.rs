// SPDX-License-Identifier: GPL-2.0
//! What it takes to boot Linux: QEMU, its firmware, the kernel and the way to user space.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use proto::Report;
use proto::report::{Line, READY};

use crate::sample::{self, Bench, Figure};

pub(crate) const BENCHES: &[Bench] = &[Bench {
    name: "boot/linux",
    what: "QEMU from its start until the user space of its Linux guest is up",
    body: linux,
}];

/// Boots. The first reads files that the others find in memory.
const SAMPLES: usize = 3;

/// The unpacked kernel, quiet and without tests of its own: what the guest computes isn't what is measured.
const WORDS: &str = "console=ttyS0 panic=-1 tsc=nowatchdog quiet cryptomgr.notests";

const VMM: &str =
    "-accel kvm -machine pc -cpu host -smp 1 -m 512M -display none -monitor none -serial stdio";

fn linux() -> Result<Figure> {
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let start = sample::now();
        let vmm = Vmm::start()?;
        samples.push(vmm.await_user_space()? - start);
    }
    Figure::instructions(samples, 1)
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

    /// When the guest says that its user space is up.
    fn await_user_space(mut self) -> Result<u64> {
        let console = BufReader::new(self.0.stdout.take().context("QEMU's console")?);
        for line in console.lines() {
            let line = line.context("the guest's console")?;
            match Report::read(line.trim_end()) {
                Line::Report(report) => {
                    ensure!(report.name == READY, "the guest reports {}", report.name);
                    ensure!(report.result.is_ok(), "the guest isn't well: {line}");
                    return Ok(sample::now());
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
