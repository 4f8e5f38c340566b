// SPDX-License-Identifier: GPL-2.0
//! The emulated machines, behind one trait.
//!
//! A backend knows its emulator: how to start it with a kernel and an initramfs, where its console
//! text goes, and which stream reaches PID 1 inside. What is said over that stream is not its business
//! (see [`crate::channel`]), except where console and channel are one line, as on `z`: there the
//! backend passes everything on and the decoder tells frames from text.

mod bochs;
mod hercules;
mod qemu;
mod qemu_s390;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use proto::Root;

use crate::cache::Cache;
use crate::kernel::Kernel;
use crate::process::Process;

/// The architecture of a machine's processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// x86_64.
    X86,
    /// s390x.
    S390,
}

impl Arch {
    /// The Rust target of programs for inside the machine.
    pub fn target(self) -> &'static str {
        match self {
            Arch::X86 => "x86_64-unknown-linux-gnu",
            Arch::S390 => "s390x-unknown-linux-gnu",
        }
    }
}

/// One boot of a machine.
#[derive(Clone, Debug)]
pub struct BootSpec {
    /// Kernel image.
    pub kernel: PathBuf,
    /// Initramfs (cpio, perhaps compressed, perhaps several one after the other).
    pub initramfs: PathBuf,
    /// Whole kernel command line: the machine's own part and the run's.
    pub cmdline: String,
    /// Number of processors.
    pub smp: u32,
    /// Memory in MiB.
    pub mem_mib: u32,
    /// Virtual time counts instructions exactly, where the emulator does not do so anyway.
    pub icount: bool,
    /// Where the emulator's monitor is to listen; on `amd` only.
    pub monitor: Option<PathBuf>,
    /// How long the boot may take until PID 1 says hello.
    pub patience: Duration,
    /// The root file system of this run, which need not be the machine's usual one.
    pub root: Root,
    /// Directory of this run, for images, configuration and logs.
    pub dir: PathBuf,
    /// Where the project keeps what it prepared.
    pub cache: Cache,
    /// The project's tree, for configuration templates under `tests/machines/<name>`.
    pub tree: PathBuf,
}

/// A machine that was started.
pub struct Running {
    /// The emulator, in a process group of its own; dropping it kills the group.
    pub child: Process,
    /// What PID 1 sends.
    pub rx: Box<dyn Read + Send>,
    /// What PID 1 receives.
    pub tx: Box<dyn Write + Send>,
    /// The console log file.
    pub console: PathBuf,
    /// What the emulator itself says.
    pub words: PathBuf,
    /// Whether a line of that tells anything.
    pub tells: fn(&str) -> bool,
}

/// One emulated machine.
pub trait Machine: Send + Sync {
    /// The word a user gives as `M=`.
    fn name(&self) -> &'static str;

    /// Its processor.
    fn arch(&self) -> Arch;

    /// How the command's root file system gets there.
    fn root(&self) -> Root;

    /// The file of `kernel` that this machine boots; its image unless the machine wants another form.
    fn image(&self, kernel: &Kernel) -> PathBuf {
        kernel.image.clone()
    }

    /// What this machine needs on the kernel command line (`console=…` and the like).
    fn cmdline(&self) -> String;

    /// The device, seen from inside, that carries the frames.
    fn channel(&self) -> &'static str;

    /// The same for a boot without the shared root: devices that carry that may be missing then.
    fn own_root_channel(&self) -> &'static str {
        self.channel()
    }

    /// Most bytes of payload in a frame, each way.
    fn max_payload(&self) -> usize {
        proto::MAX_PAYLOAD
    }

    /// Parameters for the kernel's own C modules (`MODULES=c`), as `name parameter=value …`, in order.
    fn c_modules(&self) -> &'static [&'static str];

    /// The project's modules in the order of loading, as file names.
    fn rust_modules(&self) -> &'static [&'static str];

    /// Modules of the kernel (names) that PID 1 has to load to get at its usual root and channel.
    fn boot_modules(&self) -> &'static [&'static str] {
        &[]
    }

    /// The busybox of the initramfs and its applets, where the root is not shared: path in the cache.
    fn busybox(&self) -> &'static str {
        match self.arch() {
            Arch::X86 => "root/usr/bin/busybox",
            Arch::S390 => "toolchain/s390x/usr/bin/busybox",
        }
    }

    /// Whether a guest boots Linux in sensible time while the clock counts instructions.
    fn boots_linux_by_counting(&self) -> bool {
        false
    }

    /// Memory when the user gives none, in MiB.
    fn default_mem_mib(&self) -> u32 {
        1024
    }

    /// Seconds a boot of the usual kernel may take until PID 1 says hello, on a busy host.
    fn boot_seconds(&self) -> u64 {
        120
    }

    /// How often a boot that doesn't get to PID 1 is tried. More than once only where the emulator is known
    /// to stand still or to break the kernel now and then; nothing of ours runs before PID 1.
    fn boot_attempts(&self) -> u32 {
        1
    }

    /// Setup steps this machine needs beyond its kernel, by name.
    fn needs(&self) -> &'static [&'static str] {
        &[]
    }

    /// Starts it.
    fn boot(&self, spec: &BootSpec) -> Result<Running>;
}

/// All machines.
pub fn all() -> [&'static dyn Machine; 4] {
    [&qemu::Qemu, &bochs::Bochs, &hercules::Hercules, &qemu_s390::QemuS390]
}

/// The machine called `name`.
pub fn by_name(name: &str) -> Result<&'static dyn Machine> {
    for machine in all() {
        if machine.name() == name {
            return Ok(machine);
        }
    }
    bail!("no machine is called '{name}': there are amd, intel, z and z-tcg")
}
