// SPDX-License-Identifier: GPL-2.0
//! The `amd` machine: QEMU's own x86 emulation, which has SVM and nested paging.
//!
//! It boots the uncompressed kernel (unpacking under emulation takes seconds) and sees the Debian root
//! of the cache as its own, read-only over 9p with an overlay in memory above it.

use std::fs::OpenOptions;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use proto::Root;

use super::{Arch, BootSpec, Machine, Running};
use crate::kernel::Kernel;
use crate::monitor;
use crate::process::{Process, pass_fd};

/// The `amd` machine.
pub(super) struct Qemu;

/// The mount tag of the shared root.
const TAG: &str = "root";

/// The descriptor that the channel's socket has in QEMU.
pub(super) const CHANNEL_FD: i32 = 3;

/// The descriptor that its monitor's socket has.
const MONITOR_FD: i32 = 4;

impl Machine for Qemu {
    fn name(&self) -> &'static str {
        "amd"
    }

    fn arch(&self) -> Arch {
        Arch::X86
    }

    fn root(&self) -> Root {
        Root::Shared(TAG.into())
    }

    fn image(&self, kernel: &Kernel) -> PathBuf {
        kernel.uncompressed.clone()
    }

    fn cmdline(&self) -> String {
        // panic=-1: a panic resets the machine instead of hanging it, which ends the run. The rest keeps
        // the kernel from looking for what is not there, and from calibrating against emulated time.
        "console=ttyS0 panic=-1 tsc=reliable no_timer_check nowatchdog random.trust_cpu=on \
         i8042.noprobe=1 8250.nr_uarts=2 cryptomgr.notests pcie_aspm=off"
            .into()
    }

    fn channel(&self) -> &'static str {
        "/dev/vport0p1"
    }

    /// A serial port, because virtio's 9p does not live through suspend; then nothing virtual is there.
    fn own_root_channel(&self) -> &'static str {
        "/dev/ttyS1"
    }

    fn c_modules(&self) -> &'static [&'static str] {
        &["kvm-amd nested=1"]
    }

    fn rust_modules(&self) -> &'static [&'static str] {
        &["kvm.ko", "kvm-amd.ko"]
    }

    fn boot_modules(&self) -> &'static [&'static str] {
        &["9pnet_virtio", "9p", "overlay"]
    }

    fn boot(&self, spec: &BootSpec) -> Result<Running> {
        let console = spec.dir.join("console.log");
        let arguments = arguments(spec, &console);
        start(&EMULATOR, &arguments, &spec.dir, console)
    }
}

/// One of QEMU's programs.
pub(super) struct Emulator {
    /// Its name.
    pub(super) program: &'static str,
    /// The name of its processor's stack pointer.
    pub(super) stack: &'static str,
    /// Whether a line of what it says is to be shown when it ends too early.
    pub(super) tells: fn(&str) -> bool,
}

const EMULATOR: Emulator = Emulator { program: "qemu-system-x86_64", stack: "rsp", tells };

/// Starts QEMU, which has the channel's socket as descriptor [`CHANNEL_FD`]. What it says goes to a file in
/// `dir`.
pub(super) fn start(
    emulator: &Emulator,
    arguments: &[String],
    dir: &Path,
    console: PathBuf,
) -> Result<Running> {
    let (ours, theirs) = UnixStream::pair().context("making the channel's sockets")?;
    let (watcher, watched) = UnixStream::pair().context("making the monitor's sockets")?;
    let words = dir.join("qemu.log");
    let log = OpenOptions::new().create_new(true).append(true).open(&words);
    let log = log.context("making QEMU's log")?;
    let mut command = Command::new(emulator.program);
    command.args(arguments).args(monitor::PAUSE_AT_END);
    command.arg("-chardev").arg(format!("socket,id=end,fd={MONITOR_FD}"));
    command.args(["-mon", "chardev=end,mode=control"]);
    command.stdin(Stdio::null());
    command.stdout(log.try_clone().context("QEMU's log")?);
    command.stderr(log.try_clone().context("QEMU's log")?);
    pass_fd(&mut command, theirs.into(), CHANNEL_FD)?;
    pass_fd(&mut command, watched.into(), MONITOR_FD)?;
    let child = Process::spawn(&mut command)?;
    monitor::watch_end(watcher, log, emulator.stack);
    Ok(Running {
        child,
        rx: Box::new(ours.try_clone().context("the channel's socket")?),
        tx: Box::new(ours),
        console,
        words,
        tells: emulator.tells,
    })
}

/// Of a reset, what happened and where; of the registers only these.
fn tells(line: &str) -> bool {
    const DETAILS: &[&str] = &[
        "XMM", "FPR", "FCW", "CCS", "ES ", "DS ", "FS ", "LDT", "GDT", "IDT", "DR", "EFER", "R8",
        "R12", "YMM", "ZMM", "Opmask",
    ];
    !DETAILS.iter().any(|detail| line.starts_with(detail))
}

fn arguments(spec: &BootSpec, console: &Path) -> Vec<String> {
    let devices = match &spec.root {
        Root::Initramfs => "-serial chardev:chan".to_owned(),
        Root::Shared(tag) => format!(
            "-device virtio-serial-pci,max_ports=2 -device virtserialport,chardev=chan,nr=1 \
             -fsdev local,id=root,path={},security_model=none,readonly=on,multidevs=remap \
             -device virtio-9p-pci,fsdev=root,mount_tag={tag}",
            spec.cache.root().display(),
        ),
    };
    // A triple fault is silent otherwise: the log of resets has it.
    let text = format!(
        "-nodefaults -no-user-config -display none -monitor none \
         -d cpu_reset -machine pc,hpet=off,usb=off -cpu max -smp {} -m {} \
         -chardev file,id=con,path={} -serial chardev:con \
         -chardev socket,id=chan,fd={CHANNEL_FD} {devices}",
        spec.smp,
        spec.mem_mib,
        console.display(),
    );
    let mut arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let accel = if spec.icount {
        ["-accel", "tcg,thread=single", "-icount", "shift=0"].as_slice()
    } else {
        ["-accel", "tcg,thread=multi,tb-size=512"].as_slice()
    };
    arguments.extend(accel.iter().map(|word| (*word).to_owned()));
    if let Some(path) = &spec.monitor {
        arguments.extend(["-qmp".into(), format!("unix:{},server=on,wait=off", path.display())]);
    }
    arguments.extend(linux(spec));
    arguments
}

/// What QEMU boots.
pub(super) fn linux(spec: &BootSpec) -> impl Iterator<Item = String> {
    let options = [
        ("-kernel", spec.kernel.display().to_string()),
        ("-initrd", spec.initramfs.display().to_string()),
        ("-append", spec.cmdline.clone()),
    ];
    options.into_iter().flat_map(|(option, value)| [option.to_owned(), value])
}
