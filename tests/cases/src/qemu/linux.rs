// SPDX-License-Identifier: GPL-2.0
//! A Linux guest with the project's small user space (tests/guest) in it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use proto::report::{Line, READY};
use proto::{Fields, Report};

use super::vmm::{END, Options, Vmm};

/// How long a guest may take until its user space is up.
pub(crate) const BOOT: Duration = Duration::from_secs(240);

/// The guest's name of its first serial port.
const CONSOLE: &str = if cfg!(target_arch = "s390x") { "ttysclp0" } else { "ttyS0" };

/// What it is told of clocks. Linux 7.3 compares the TSCs of its processors now and then; if the change
/// from the clock of early boot falls into such a comparison, two processors wait for each other with
/// interrupts off, and for a time-out by a clock that only their interrupts move on (`watchdog_wait_seq`).
const CLOCKS: &str = if cfg!(target_arch = "s390x") { "" } else { "tsc=nowatchdog" };

/// How long a command may take.
const ANSWER: Duration = Duration::from_secs(120);

/// The guest's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    /// As it is shipped: it unpacks itself.
    Compressed,
    /// Unpacked, started at its PVH entry: that saves seconds.
    Elf,
}

/// Options for a boot of Linux, with more words for the kernel's command line.
pub(crate) fn options(image: Image, words: &str) -> Result<Options> {
    let kernel = asset(match image {
        Image::Compressed => "GUEST_KERNEL",
        Image::Elf => "GUEST_VMLINUX",
    })?;
    let append = format!("console={CONSOLE} panic=-1 {CLOCKS} {words}");
    Ok(Options::default()
        .with_word("-kernel")
        .with_word(kernel)
        .with_word("-initrd")
        .with_word(asset("GUEST_INITRAMFS")?)
        .with_word("-append")
        .with_word(append.trim()))
}

/// A file that the harness has put somewhere and named in the environment.
pub(crate) fn asset(variable: &str) -> Result<String> {
    let path = std::env::var(variable).with_context(|| format!("{variable} is not set"))?;
    ensure!(Path::new(&path).exists(), "{variable}: there is no {path}");
    Ok(path)
}

/// A guest that listens to commands.
pub(crate) struct Linux {
    /// QEMU.
    pub(crate) vmm: Vmm,
    /// What it said when it was up.
    pub(crate) ready: Fields,
}

impl Linux {
    /// Starts it and waits until its user space is up.
    pub(crate) fn boot(options: &Options) -> Result<Self> {
        let mut vmm = Vmm::start(options)?;
        match await_report(&mut vmm, READY, BOOT) {
            Ok(ready) => {
                trace(&vmm, "up");
                Ok(Self { vmm, ready })
            }
            Err(error) => Err(vmm.explain(error.context("booting"))),
        }
    }

    /// Takes over a guest that is up already.
    pub(crate) fn adopt(vmm: Vmm, ready: Fields) -> Self {
        Self { vmm, ready }
    }

    /// Gives a command and returns what the guest reports of it.
    pub(crate) fn ask(&mut self, command: &str) -> Result<Fields> {
        self.begin(command)?;
        self.finish(command)
    }

    /// Gives a command without waiting for the answer.
    pub(crate) fn begin(&mut self, command: &str) -> Result<()> {
        self.vmm.console.type_line(command).map_err(|error| self.vmm.explain(error))
    }

    /// Waits for the answer to a command.
    pub(crate) fn finish(&mut self, command: &str) -> Result<Fields> {
        let name = command.split(' ').next().unwrap_or(command);
        let answer = await_report(&mut self.vmm, name, ANSWER);
        trace(&self.vmm, command);
        answer.map_err(|error| self.vmm.explain(error.context(format!("'{command}'"))))
    }

    /// Lets the guest reboot and waits until it is up again.
    pub(crate) fn reboot(&mut self) -> Result<()> {
        self.begin("reboot")?;
        let ready = await_report(&mut self.vmm, READY, BOOT);
        self.ready = ready.map_err(|error| self.vmm.explain(error.context("rebooting")))?;
        trace(&self.vmm, "reboot");
        Ok(())
    }

    /// Checks the guest's kernel log and lets it power off; QEMU ends.
    pub(crate) fn power_off(mut self) -> Result<()> {
        self.ask("log")?;
        self.begin("poweroff")?;
        let ended = self.vmm.wait(END);
        trace(&self.vmm, "poweroff");
        ended.map_err(|error| self.vmm.explain(error.context("powering off")))
    }
}

/// Notes what was done when: whoever looks for a hang, or for what takes so long, finds it there.
fn trace(vmm: &Vmm, what: &str) {
    if !vmm.is_shown() {
        eprintln!("QEMU {}, {:.1} s: {what}", vmm.pid(), vmm.age().as_secs_f32());
    }
}

/// Waits for the report `name`. A damaged one, or that of something else, is an error.
fn await_report(vmm: &mut Vmm, name: &str, limit: Duration) -> Result<Fields> {
    let deadline = Instant::now() + limit;
    loop {
        let Some(line) =
            vmm.console.line(deadline).with_context(|| format!("no '{name}' report"))?
        else {
            bail!("the console was closed before the '{name}' report");
        };
        match Report::read(&line) {
            Line::Text if line.contains("Kernel panic") => bail!("{line}"),
            Line::Text => {}
            Line::Damaged => bail!("a damaged report: {line}"),
            Line::Report(report) if report.name == name => {
                return report.result.map_err(|what| anyhow::anyhow!("the guest says: {what}"));
            }
            Line::Report(report) => bail!("a report of '{}' in place of '{name}'", report.name),
        }
    }
}
