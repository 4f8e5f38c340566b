// SPDX-License-Identifier: GPL-2.0
//! A small VMM that starts Linux: the machine's own kernel, with this very program as its PID 1.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kvm_uapi::ioctl::s390::KVM_S390_INTERRUPT;
use kvm_uapi::s390::Interrupt;
use nix::errno::Errno;

use super::request::give;
use super::sclp::{Sclp, ascii};
use super::vcpu::{Exit, Vcpu, icpt};
use super::vm::{MASK, Vm};
use crate::deadline::Deadline;
use crate::ram::Ram;

/// Where the initramfs goes.
const INITRD: u64 = 0x0200_0000;
/// Where the kernel looks for its address and size.
const INITRD_PLACE: u64 = 0x1_0408;
/// Where the kernel's command line is.
const COMMAND_LINE: u64 = 0x1_0480;
/// Where the kernel begins.
const ENTRY: u64 = 0x1_0000;
/// Memory of the guest.
const MIB: u16 = 160;

/// The service signal (`KVM_S390_INT_SERVICE`).
const SERVICE: u32 = 0xffff_2401;
/// A program interruption of a vCPU (`KVM_S390_PROGRAM_INT`).
const PROGRAM: u64 = 0xfffe_0001;

/// A guest that is about to start.
pub(super) struct Linux {
    vm: Vm,
    vcpu: Vcpu,
    ram: std::sync::Arc<Ram>,
    sclp: Sclp,
    /// What it wrote to its consoles.
    pub(super) console: Vec<u8>,
    /// Exits to userspace.
    pub(super) exits: u64,
    shown: usize,
}

impl Linux {
    /// A guest with this kernel, PID 1 and modules.
    pub(super) fn new(image: &[u8], initrd: &[u8], command_line: &str) -> Result<Self> {
        let ram = Ram::new(usize::from(MIB) << 20)?;
        let vm = Vm::with_ram(ram)?;
        let ram = std::sync::Arc::clone(vm.ram());
        ensure!((image.len() as u64) < INITRD, "the kernel is too large");
        ram.write_bytes(0, image)?;
        ram.write_bytes(INITRD, initrd)?;
        vm.write(INITRD_PLACE, INITRD)?;
        vm.write(INITRD_PLACE + 8, initrd.len() as u64)?;
        ram.write_bytes(COMMAND_LINE, command_line.as_bytes())?;
        ram.write(COMMAND_LINE + command_line.len() as u64, 0_u8)?;
        let vcpu = vm.vcpu(0)?;
        vcpu.reset()?;
        vcpu.set_psw(MASK, ENTRY);
        let sclp = Sclp { mib: MIB, cpus: 1 };
        Ok(Self { vm, vcpu, ram, sclp, console: Vec::new(), exits: 0, shown: 0 })
    }

    /// Runs until the kernel waits for nothing any more, which is how it turns off, or asks for a reset.
    pub(super) fn run(&mut self, limit: Duration) -> Result<Exit> {
        let started = Instant::now();
        let deadline = Deadline::start(limit)?;
        loop {
            let exit = match self.vcpu.try_run() {
                Ok(exit) => exit,
                Err(Errno::EINTR) if !deadline.has_passed() => continue,
                Err(error) => bail!(
                    "KVM_RUN fails with {error:?} after {:?} and {} exits; {}; console: {}",
                    started.elapsed(),
                    self.exits,
                    self.vcpu.place(),
                    self.tail()
                ),
            };
            self.exits += 1;
            match exit {
                Exit::Sie { code: icpt::INSTRUCTION, ipa, ipb } => self.instruction(ipa, ipb)?,
                other => return Ok(other),
            }
            self.show();
        }
    }

    /// Where it is.
    pub(super) fn place(&self) -> String {
        self.vcpu.place()
    }

    /// What came last on the console.
    pub(super) fn tail(&self) -> String {
        let from = self.console.len().saturating_sub(600);
        String::from_utf8_lossy(&self.console[from..]).into_owned()
    }

    /// Copies whole lines to the standard output, for whoever watches.
    fn show(&mut self) {
        if let Some(end) = self.console[self.shown..].iter().rposition(|byte| *byte == b'\n') {
            let text = &self.console[self.shown..self.shown + end];
            print!("{}\n", String::from_utf8_lossy(text));
            self.shown += end + 1;
        }
    }

    fn instruction(&mut self, ipa: u16, ipb: u32) -> Result<()> {
        match ipa >> 8 {
            0xb2 if ipa == 0xb220 => self.service_call(ipb),
            0x83 => self.diagnose(ipa, ipb),
            _ => {
                println!("no instruction {ipa:04x} {ipb:08x}; {}", self.vcpu.place());
                self.program(1)
            }
        }
    }

    /// A program interruption for an instruction that there isn't.
    fn program(&mut self, code: u64) -> Result<()> {
        let mut words = [0; 8];
        words[3] = code << 16;
        // The length is known: four bytes.
        words[4] = 0x05 << 16;
        self.vcpu.inject(PROGRAM, words).context("a program interruption")?;
        Ok(())
    }

    fn service_call(&mut self, ipb: u32) -> Result<()> {
        let command = self.vcpu.gpr((ipb >> 20 & 0xf) as u8) as u32;
        let block = self.vcpu.gpr((ipb >> 16 & 0xf) as u8) & 0x7fff_f000;
        self.sclp.serve(&self.ram, command, block, &mut self.console)?;
        let signal = Interrupt { type_: SERVICE, parm: block as u32, parm64: 0 };
        give(self.vm.file(), KVM_S390_INTERRUPT, &signal).context("the service signal")?;
        self.set_condition(0);
        Ok(())
    }

    fn set_condition(&self, code: u64) {
        let (mask, address) = self.vcpu.psw();
        self.vcpu.set_psw(mask & !(3 << 44) | code << 44, address);
    }

    fn diagnose(&mut self, ipa: u16, ipb: u32) -> Result<()> {
        let (r1, r3) = ((ipa >> 4 & 0xf) as u8, (ipa & 0xf) as u8);
        match ipb >> 16 & 0xfff {
            // A command for the operator: a line of the kernel's console.
            0x008 => {
                let length = usize::from(self.vcpu.gpr(r3) as u16);
                let text = self.ram.read_bytes(self.vcpu.gpr(r1), length)?;
                self.console.extend(text.into_iter().map(ascii));
                self.console.push(b'\n');
                self.vcpu.set_gpr(r3, 0);
            }
            // There is nothing to start from.
            0x308 => self.vcpu.set_gpr(r1 | 1, 0x102),
            other => {
                println!("no diagnose {other:#x}; {}", self.vcpu.place());
                return self.program(6);
            }
        }
        Ok(())
    }
}

/// An initramfs with this program as PID 1, and a module for its console.
pub(super) fn initramfs(module: &[u8]) -> Result<Vec<u8>> {
    let program = fs::read("/proc/self/exe").context("reading this program")?;
    let mut archive = Vec::new();
    let directory = 0o040_755;
    entry(&mut archive, "dev", directory, (0, 0), &[]);
    entry(&mut archive, "proc", directory, (0, 0), &[]);
    // A program wants its first three files to be something.
    entry(&mut archive, "dev/console", 0o020_600, (5, 1), &[]);
    entry(&mut archive, "dev/null", 0o020_666, (1, 3), &[]);
    entry(&mut archive, "init", 0o100_755, (0, 0), &program);
    entry(&mut archive, "console.ko", 0o100_644, (0, 0), module);
    entry(&mut archive, "TRAILER!!!", 0, (0, 0), &[]);
    Ok(archive)
}

/// One file of a cpio archive ("newc").
fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, device: (usize, usize), contents: &[u8]) {
    let inode = archive.len();
    let fields = [
        inode,
        mode as usize,
        0,
        0,
        1,
        0,
        contents.len(),
        0,
        0,
        device.0,
        device.1,
        name.len() + 1,
        0,
    ];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(contents);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    while archive.len() % 4 != 0 {
        archive.push(0);
    }
}

/// What PID 1 says when it is up.
pub(super) const UP: &str = "guest: user space is up";

/// PID 1 of the guest: loads the console, tells that it is up, and turns the machine off.
pub(crate) fn init() -> Result<()> {
    use nix::kmod::{ModuleInitFlags, finit_module};
    use nix::mount::{MsFlags, mount};
    use nix::sys::reboot::{RebootMode, reboot};
    for (kind, target) in [("proc", "/proc"), ("devtmpfs", "/dev")] {
        mount(Some(kind), target, Some(kind), MsFlags::empty(), None::<&str>)?;
    }
    let module = fs::File::open("/console.ko")?;
    finit_module(&module, c"", ModuleInitFlags::empty())?;
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let lines =
        cpus.lines().filter(|line| line.starts_with("features") || line.contains("machine"));
    for line in lines {
        fs::write("/dev/kmsg", format!("guest: {line}"))?;
    }
    fs::write("/dev/kmsg", UP)?;
    match reboot(RebootMode::RB_POWER_OFF)? {}
}
