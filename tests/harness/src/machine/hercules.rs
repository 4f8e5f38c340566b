// SPDX-License-Identifier: GPL-2.0
//! The `z` machine: Hercules, which has SIE.
//!
//! The channel is a 3270 terminal (see [`terminal`]): of all that Hercules offers it alone takes any
//! bytes, in large pieces, both ways. The console is a kernel module that prints into Hercules' own
//! log (`tests/machines/z/console`), because the consoles that Hercules emulates lose text.

mod log;
mod terminal;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use proto::Root;

use super::{Arch, BootSpec, Machine, Running};
use crate::process::Process;

/// The `z` machine.
pub(super) struct Hercules;

/// Where the kernel expects things in memory.
const INITRAMFS_AT: u64 = 0x0200_0000;
const CMDLINE_AT: u64 = 0x0001_0480;
const INITRAMFS_PLACE_AT: u64 = 0x0001_0408;

/// Longest command line, its end mark included.
const CMDLINE_MAX: usize = 4096;

/// Most processors Hercules emulates.
const CPUS_MAX: u32 = 8;

/// Starts to try: another program may take the port between its choice and its use.
const STARTS: u32 = 3;

impl Machine for Hercules {
    fn name(&self) -> &'static str {
        "z"
    }

    fn arch(&self) -> Arch {
        Arch::S390
    }

    fn root(&self) -> Root {
        Root::Initramfs
    }

    /// One or two seconds on an idle host, four on a busy one.
    fn boot_seconds(&self) -> u64 {
        40
    }

    /// With two processors Hercules was seen to stand still after the second one's first SIGP, once in
    /// some dozens of boots, and the kernel to panic there once in some hundreds.
    fn boot_attempts(&self) -> u32 {
        3
    }

    fn cmdline(&self) -> String {
        // The first console is the module's; the second gives PID 1 a place for its standard streams.
        "earlyprintk console=hercules0 console=ttynull".into()
    }

    fn channel(&self) -> &'static str {
        "/dev/3270/tub1"
    }

    fn boot_modules(&self) -> &'static [&'static str] {
        &["hercules_console"]
    }

    fn c_modules(&self) -> &'static [&'static str] {
        &["kvm"]
    }

    fn rust_modules(&self) -> &'static [&'static str] {
        &["kvm.ko", "kvm-s390.ko"]
    }

    fn needs(&self) -> &'static [&'static str] {
        &["s390x"]
    }

    fn boot(&self, spec: &BootSpec) -> Result<Running> {
        ensure!(!spec.icount, "machine 'z' cannot count instructions: leave ICOUNT out");
        ensure!(spec.smp <= CPUS_MAX, "machine 'z' has at most {CPUS_MAX} processors");
        write_ipl(spec)?;
        for _ in 0..STARTS {
            if let Some(running) = start(spec)? {
                return Ok(running);
            }
        }
        bail!("Hercules finds no free port for its terminal");
    }
}

/// Writes what Hercules loads into memory: a list of files with their addresses, and the files beside
/// it, because Hercules looks for them nowhere else.
fn write_ipl(spec: &BootSpec) -> Result<()> {
    let dir = &spec.dir;
    let kernel = link_into(dir, &spec.kernel)?;
    let initramfs = link_into(dir, &spec.initramfs)?;
    ensure!(spec.cmdline.len() < CMDLINE_MAX, "the kernel command line is too long");
    write(dir, "cmdline", &[spec.cmdline.as_bytes(), b"\0"].concat())?;
    let size = fs::metadata(&spec.initramfs).context("the size of the initramfs")?.len();
    ensure!(
        INITRAMFS_AT + size < u64::from(spec.mem_mib) << 20,
        "{} MiB of memory do not hold the initramfs",
        spec.mem_mib
    );
    let place = [INITRAMFS_AT.to_be_bytes(), size.to_be_bytes()].concat();
    write(dir, "initramfs.place", &place)?;
    let list = format!(
        "{kernel} 0x0\n{initramfs} {INITRAMFS_AT:#x}\n\
         cmdline {CMDLINE_AT:#x}\ninitramfs.place {INITRAMFS_PLACE_AT:#x}\n"
    );
    write(dir, "ipl.ins", list.as_bytes())
}

/// Makes `file` available in `dir` under its own name, which is returned.
fn link_into(dir: &Path, file: &Path) -> Result<String> {
    let name = file.file_name().context("a file without a name")?;
    let target = dir.join(name);
    if target != file && fs::hard_link(file, &target).is_err() {
        fs::copy(file, &target).with_context(|| format!("copying {}", file.display()))?;
    }
    Ok(name.to_string_lossy().into_owned())
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// Starts Hercules and connects the terminal; none if its port was taken in the meantime.
fn start(spec: &BootSpec) -> Result<Option<Running>> {
    let port = free_port()?;
    let templates = spec.tree.join("tests/machines/z");
    let template = fs::read_to_string(templates.join("hercules.conf"))
        .context("reading tests/machines/z/hercules.conf")?;
    let conf = template
        .replace("@CPUS@", &spec.smp.to_string())
        .replace("@MEMORY@", &spec.mem_mib.to_string())
        .replace("@PORT@", &port.to_string());
    write(&spec.dir, "hercules.conf", conf.as_bytes())?;
    let mut command = Command::new("hercules");
    // Files are named by the shortest way because Hercules has small buffers for names.
    command.args(["-d", "-f", "hercules.conf"]).current_dir(&spec.dir);
    command.env("HERCULES_RC", templates.join("hercules.rc"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = Process::spawn(&mut command)?;
    let output = child.child().stdout.take().context("Hercules' output")?;
    let console = spec.dir.join("console.log");
    let words = spec.dir.join("hercules.log");
    let log = log::keep(output, &words, &console)?;
    if !log.port_is_open()? {
        return Ok(None);
    }
    let (rx, tx) =
        terminal::connect(port, log).context("connecting the terminal of machine 'z'")?;
    let (rx, tx) = (Box::new(rx), Box::new(tx));
    Ok(Some(Running { child, rx, tx, console, words, tells: |_| true }))
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("looking for a free port")?;
    Ok(listener.local_addr().context("looking for a free port")?.port())
}
