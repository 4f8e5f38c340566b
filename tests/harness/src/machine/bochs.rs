// SPDX-License-Identifier: GPL-2.0
//! The `intel` machine: Bochs, which has VMX with EPT.
//!
//! It boots from a disk image of our own making (see [`disk`]), its second serial port is the
//! channel: Bochs connects it to a socket that waits for it here. Over a socket it takes input only as
//! fast as the machine reads it; on a pseudo-terminal it would lose bytes.

mod disk;

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use proto::Root;

use self::disk::Disk;
use super::{Arch, BootSpec, Machine, Running};
use crate::kernel::Kernel;
use crate::process::Process;
use crate::setup::bochs;

/// The `intel` machine.
pub(super) struct Bochs;

/// Emulated instructions, and ticks of the time-stamp counter, per emulated second. Fewer make delay
/// loops and timeouts of the kernel cheap, more make timer interrupts rare.
const IPS: u32 = 50_000_000;

/// How long Bochs may take to connect the channel, which it does before it starts the machine.
const CONNECT: Duration = Duration::from_secs(20);

/// When a run begins that is to be repeatable, in seconds since 1970: on 2026-01-01.
const REPEATABLE: &str = "1767225600";

/// A word on the kernel command line, which the kernel itself ignores: the processor has no VMX. (Bochs
/// comes up with VMX allowed and IA32_FEATURE_CONTROL locked, so that no firmware can turn it off; to
/// modules both look the same.)
const VMX_ABSENT: &str = "machine.vmx=absent";

impl Machine for Bochs {
    fn name(&self) -> &'static str {
        "intel"
    }

    fn arch(&self) -> Arch {
        Arch::X86
    }

    fn root(&self) -> Root {
        Root::Initramfs
    }

    fn image(&self, kernel: &Kernel) -> PathBuf {
        kernel.uncompressed.clone()
    }

    fn cmdline(&self) -> String {
        // The processor says that its time-stamp counter runs at 1.5 GHz, which is not so. Half of the
        // instructions of a boot would be self-tests of cryptography. A panic ends Bochs by way of a
        // triple fault.
        let khz = IPS / 1000;
        format!(
            "console=ttyS0,115200 loglevel=4 panic=-1 reboot=t tsc_early_khz={khz} no_timer_check \
             nowatchdog random.trust_cpu=on cryptomgr.notests 8250.nr_uarts=2"
        )
    }

    fn channel(&self) -> &'static str {
        "/dev/ttyS1"
    }

    fn boot_modules(&self) -> &'static [&'static str] {
        // Cases look at the host's registers.
        &["msr"]
    }

    fn c_modules(&self) -> &'static [&'static str] {
        // APICv isn't right in Bochs (docs/machines.md).
        &["kvm-intel enable_apicv=0 nested=1"]
    }

    fn rust_modules(&self) -> &'static [&'static str] {
        &["kvm.ko", "kvm-intel.ko"]
    }

    fn needs(&self) -> &'static [&'static str] {
        &["bochs"]
    }

    fn boots_linux_by_counting(&self) -> bool {
        true
    }

    fn boot(&self, spec: &BootSpec) -> Result<Running> {
        let machine = spec.tree.join("tests/machines/intel");
        let image = spec.dir.join("disk.img");
        Disk {
            kernel: &spec.kernel,
            initramfs: &spec.initramfs,
            cmdline: &spec.cmdline,
            mem_mib: spec.mem_mib,
        }
        .write(&boot_sector(&machine.join("boot.S"), &spec.dir)?, &image)?;

        let listener = TcpListener::bind(("127.0.0.1", 0)).context("listening for the channel")?;
        let channel = listener.local_addr().context("listening for the channel")?.to_string();
        let console = spec.dir.join("console.log");
        let config = spec.dir.join("bochsrc");
        let template = machine.join("bochsrc.template");
        let text = fs::read_to_string(&template)
            .with_context(|| format!("reading {}", template.display()))?;
        let text = fill(
            &text,
            &[
                ("SMP", &spec.smp.to_string()),
                ("MEM", &spec.mem_mib.to_string()),
                ("IPS", &IPS.to_string()),
                ("CPU", cpu_options(&spec.cmdline)),
                ("TIME", if spec.icount { REPEATABLE } else { "utc" }),
                ("DISK", &image.display().to_string()),
                ("CONSOLE", &console.display().to_string()),
                ("CHANNEL", &channel),
                ("LOG", &spec.dir.join("bochs.log").display().to_string()),
            ],
        );
        fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;

        let out = spec.dir.join("bochs.out");
        let mut child =
            Process::spawn(&mut command(&spec.cache.path(bochs::PROGRAM), &config, &out)?)?;
        let stream = accept(&listener, &mut child).with_context(|| {
            format!("Bochs did not start; see {} and bochs.log beside it", out.display())
        })?;
        Ok(Running {
            child,
            rx: Box::new(stream.try_clone().context("the channel's socket")?),
            tx: Box::new(stream),
            console,
            words: spec.dir.join("bochs.log"),
            tells: |_| true,
        })
    }
}

fn has_word(cmdline: &str, word: &str) -> bool {
    cmdline.split_whitespace().any(|other| other == word)
}

/// A configuration line that changes what the processor can do.
fn cpu_options(cmdline: &str) -> &'static str {
    if has_word(cmdline, VMX_ABSENT) { "cpu: exclude_features=vmx" } else { "" }
}

/// Replaces each `@NAME@` in the template `text`.
fn fill(text: &str, values: &[(&str, &str)]) -> String {
    values
        .iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value))
}

fn command(program: &Path, config: &Path, out: &Path) -> Result<Command> {
    let log = File::create(out).with_context(|| format!("making {}", out.display()))?;
    let mut command = Command::new(program);
    command
        .arg("-q")
        .arg("-f")
        .arg(config)
        // The machine's memory in huge pages: a few percent faster.
        .env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("Bochs's output")?)
        .stderr(log);
    Ok(command)
}

/// Assembles the boot sector.
fn boot_sector(source: &Path, dir: &Path) -> Result<Vec<u8>> {
    let (object, binary) = (dir.join("boot.o"), dir.join("boot.bin"));
    let mut assemble = Command::new("as");
    assemble.arg("--64").arg("-o").arg(&object).arg(source);
    let mut link = Command::new("ld");
    link.args(["-m", "elf_x86_64", "-Ttext", "0x7c00", "--oformat", "binary", "-e", "_start"])
        .arg("-o")
        .arg(&binary)
        .arg(&object);
    for command in [&mut assemble, &mut link] {
        let program = command.get_program().to_string_lossy().into_owned();
        let output = command.output().with_context(|| format!("running {program}"))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("{program} cannot make the boot sector: {errors}");
        }
    }
    fs::read(&binary).with_context(|| format!("reading {}", binary.display()))
}

/// Waits for Bochs to connect, as long as it lives.
fn accept(listener: &TcpListener, child: &mut Process) -> Result<TcpStream> {
    listener.set_nonblocking(true).context("the channel's socket")?;
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).context("the channel's socket")?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("accepting the channel"),
        }
        if let Some(status) = child.try_wait()? {
            bail!("it ended with {status}");
        }
        if start.elapsed() > CONNECT {
            bail!("it did not connect its serial port within {} s", CONNECT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::{VMX_ABSENT, cpu_options, fill, has_word};

    #[test]
    fn fills_in_every_place() {
        assert_eq!(fill("a=@A@,@B@ @A@", &[("A", "1"), ("B", "2")]), "a=1,2 1");
    }

    #[test]
    fn finds_whole_words_only() {
        assert!(has_word("quiet machine.vmx=absent", VMX_ABSENT));
        assert!(!has_word("xmachine.vmx=absent", VMX_ABSENT));
        assert_eq!(cpu_options("quiet"), "");
    }
}
