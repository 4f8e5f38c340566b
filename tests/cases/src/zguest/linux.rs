// SPDX-License-Identifier: GPL-2.0
//! A small VMM that starts Linux: the machine's own kernel, with this very program as its PID 1.
//!
//! Each vCPU has a thread. What they share is behind one lock; a thread whose vCPU is stopped waits for
//! an order to start.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kvm_uapi::ioctl::s390::{KVM_S390_INITIAL_RESET, KVM_S390_INTERRUPT, KVM_S390_NORMAL_RESET};
use kvm_uapi::s390::Interrupt;
use nix::errno::Errno;

use super::sclp::{Sclp, ascii};
use super::vcpu::{Exit, Vcpu, icpt};
use super::vm::{MASK, Vm};
use crate::deadline::Deadline;
use crate::device::ioctl_with as give;
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
/// A restart (`KVM_S390_RESTART`).
const RESTART: u64 = 0xfffe_0003;

/// How a guest ended.
#[derive(Debug)]
pub(super) struct End {
    /// The last exit of the vCPU that ended it.
    pub(super) exit: Exit,
    /// Where that was.
    pub(super) place: String,
    /// What the guest wrote to its consoles.
    pub(super) console: String,
}

impl End {
    /// What came last on the console.
    pub(super) fn tail(&self) -> &str {
        let from = self.console.len().saturating_sub(600);
        self.console.get(from..).unwrap_or(&self.console)
    }
}

/// A guest that is about to start.
pub(super) struct Linux {
    vm: Vm,
    vcpus: Vec<Vcpu>,
    sclp: Sclp,
    state: Mutex<State>,
    changed: Condvar,
    /// The guest is over.
    over: AtomicBool,
}

/// What the threads share.
#[derive(Default)]
struct State {
    console: Vec<u8>,
    /// Bytes of it that were shown.
    shown: usize,
    /// CPUs that were told to start.
    started: Vec<bool>,
}

impl Linux {
    /// A guest with this kernel and initramfs.
    pub(super) fn new(image: &[u8], initrd: &[u8], cpus: u16, command_line: &str) -> Result<Self> {
        let vm = Vm::with_ram(Ram::new(usize::from(MIB) << 20)?)?;
        let ram = vm.ram();
        ensure!((image.len() as u64) < INITRD, "the kernel is too large");
        ram.write_bytes(0, image)?;
        ram.write_bytes(INITRD, initrd)?;
        vm.write(INITRD_PLACE, INITRD)?;
        vm.write(INITRD_PLACE + 8, initrd.len() as u64)?;
        ram.write_bytes(COMMAND_LINE, command_line.as_bytes())?;
        ram.write(COMMAND_LINE + command_line.len() as u64, 0_u8)?;
        let vcpus: Vec<Vcpu> = (0..cpus).map(|id| vm.vcpu(id.into())).collect::<Result<_>>()?;
        for vcpu in &vcpus {
            vcpu.reset()?;
        }
        let first = vcpus.first().context("no vCPU")?;
        first.set_psw(MASK, ENTRY);
        let mut started = vec![false; vcpus.len()];
        started[0] = true;
        let sclp = Sclp { mib: MIB, cpus };
        let state = Mutex::new(State { started, ..State::default() });
        Ok(Self { vm, vcpus, sclp, state, changed: Condvar::new(), over: AtomicBool::new(false) })
    }

    /// Runs until all CPUs are stopped, which is how Linux turns off, or one of them ends otherwise.
    pub(super) fn run(&self, limit: Duration) -> Result<End> {
        let until = Instant::now() + limit;
        let ends: Vec<Result<Option<(Exit, String)>>> = thread::scope(|scope| {
            let threads: Vec<_> =
                self.vcpus.iter().map(|vcpu| scope.spawn(move || self.cpu(vcpu, until))).collect();
            let end = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| bail!("a vCPU's thread panicked"))
            };
            threads.into_iter().map(end).collect()
        });
        let console = String::from_utf8_lossy(&self.lock().console).into_owned();
        let mut found = None;
        for end in ends {
            let end = end.with_context(|| {
                let from = console.len().saturating_sub(600);
                format!("console: {}", console.get(from..).unwrap_or(""))
            })?;
            found = found.or(end);
        }
        let (exit, place) = found.context("no CPU ended the guest")?;
        Ok(End { exit, place, console })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// One CPU's thread; how the guest ended, if this CPU ended it.
    fn cpu(&self, vcpu: &Vcpu, until: Instant) -> Result<Option<(Exit, String)>> {
        let result = self.cpu_loop(vcpu, until);
        self.over.store(true, Ordering::SeqCst);
        self.changed.notify_all();
        result
    }

    fn cpu_loop(&self, vcpu: &Vcpu, until: Instant) -> Result<Option<(Exit, String)>> {
        while self.wait_for_start(vcpu) {
            match self.run_one(vcpu, until)? {
                None => return Ok(None),
                // It was told to stop. The last one ends the guest: that is how Linux turns off.
                Some(exit @ Exit::Sie { code: icpt::STOP, .. }) => {
                    let mut state = self.lock();
                    if let Some(started) = state.started.get_mut(self.index(vcpu)) {
                        *started = false;
                    }
                    if !state.started.contains(&true) {
                        return Ok(Some((exit, vcpu.place())));
                    }
                }
                Some(exit) => return Ok(Some((exit, vcpu.place()))),
            }
        }
        Ok(None)
    }

    fn index(&self, vcpu: &Vcpu) -> usize {
        self.vcpus.iter().position(|other| std::ptr::eq(other, vcpu)).unwrap_or(0)
    }

    /// Waits until the CPU is to run; whether it ever is.
    fn wait_for_start(&self, vcpu: &Vcpu) -> bool {
        let index = self.index(vcpu);
        let mut state = self.lock();
        while !self.over.load(Ordering::SeqCst) {
            if state.started.get(index) == Some(&true) {
                return true;
            }
            let waited = self.changed.wait_timeout(state, Duration::from_millis(100));
            state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        false
    }

    /// Runs a CPU until it stops or ends the guest.
    fn run_one(&self, vcpu: &Vcpu, until: Instant) -> Result<Option<Exit>> {
        // A short limit: the guest may be over, by another CPU.
        let _deadline = Deadline::start(Duration::from_millis(200))?;
        loop {
            let exit = match vcpu.try_run() {
                Ok(exit) => exit,
                Err(Errno::EINTR) if self.over.load(Ordering::SeqCst) => return Ok(None),
                Err(Errno::EINTR) if Instant::now() < until => continue,
                Err(error) => bail!("KVM_RUN fails with {error:?}; {}", vcpu.place()),
            };
            match exit {
                Exit::Sie { code: icpt::INSTRUCTION, ipa, ipb } => {
                    self.instruction(vcpu, ipa, ipb)?;
                }
                other => return Ok(Some(other)),
            }
        }
    }

    /// Copies whole lines of the console to the standard output, for whoever watches.
    fn show(state: &mut State) {
        let new = state.console.get(state.shown..).unwrap_or_default();
        if let Some(end) = new.iter().rposition(|byte| *byte == b'\n') {
            println!("{}", String::from_utf8_lossy(new.get(..end).unwrap_or_default()));
            state.shown += end + 1;
        }
    }

    fn instruction(&self, vcpu: &Vcpu, ipa: u16, ipb: u32) -> Result<()> {
        match ipa >> 8 {
            0xb2 if ipa == 0xb220 => self.service_call(vcpu, ipb),
            0x83 => self.diagnose(vcpu, ipa, ipb),
            0xae => self.signal(vcpu, ipa, ipb),
            _ => {
                println!("no instruction {ipa:04x} {ipb:08x}; {}", vcpu.place());
                program(vcpu, 1)
            }
        }
    }

    fn service_call(&self, vcpu: &Vcpu, ipb: u32) -> Result<()> {
        let command = vcpu.gpr((ipb >> 20 & 0xf) as u8) as u32;
        let block = vcpu.gpr((ipb >> 16 & 0xf) as u8) & 0x7fff_f000;
        let mut state = self.lock();
        self.sclp.serve(self.vm.ram(), command, block, &mut state.console)?;
        Self::show(&mut state);
        drop(state);
        let signal = Interrupt { type_: SERVICE, parm: block as u32, parm64: 0 };
        give(self.vm.file(), KVM_S390_INTERRUPT, &signal).context("the service signal")?;
        set_condition(vcpu, 0);
        Ok(())
    }

    fn diagnose(&self, vcpu: &Vcpu, ipa: u16, ipb: u32) -> Result<()> {
        let (r1, r3) = ((ipa >> 4 & 0xf) as u8, (ipa & 0xf) as u8);
        match ipb >> 16 & 0xfff {
            // A command for the operator: a line of the kernel's console.
            0x008 => {
                let length = usize::from(vcpu.gpr(r3) as u16);
                let text = self.vm.ram().read_bytes(vcpu.gpr(r1), length)?;
                let mut state = self.lock();
                state.console.extend(text.into_iter().map(ascii));
                state.console.push(b'\n');
                Self::show(&mut state);
                vcpu.set_gpr(r3, 0);
            }
            // There is nothing to start from.
            0x308 => vcpu.set_gpr(r1 | 1, 0x102),
            other => {
                println!("no diagnose {other:#x}; {}", vcpu.place());
                return program(vcpu, 6);
            }
        }
        Ok(())
    }

    /// Orders to other CPUs that the kernel leaves to userspace.
    fn signal(&self, vcpu: &Vcpu, ipa: u16, ipb: u32) -> Result<()> {
        let base = (ipb >> 28) as u8;
        let base = if base == 0 { 0 } else { vcpu.gpr(base) };
        let order = base.wrapping_add(u64::from(ipb >> 16 & 0xfff)) as u8;
        let number = vcpu.gpr((ipa & 0xf) as u8) as usize;
        let Some(target) = self.vcpus.get(number) else {
            set_condition(vcpu, 3);
            return Ok(());
        };
        match order {
            // Restart.
            0x06 => {
                target.inject(RESTART, [0; 8]).context("a restart")?;
                if let Some(started) = self.lock().started.get_mut(number) {
                    *started = true;
                }
                self.changed.notify_all();
            }
            0x0b => {
                target.call(KVM_S390_INITIAL_RESET, 0).context("an initial reset")?;
            }
            0x0c => {
                target.call(KVM_S390_NORMAL_RESET, 0).context("a reset")?;
            }
            other => {
                println!("no order {other:#x}; {}", vcpu.place());
                // Invalid order.
                let r1 = (ipa >> 4 & 0xf) as u8;
                vcpu.set_gpr(r1, vcpu.gpr(r1) & !0xffff_ffff | 2);
                set_condition(vcpu, 1);
                return Ok(());
            }
        }
        set_condition(vcpu, 0);
        Ok(())
    }
}

/// A program interruption for an instruction that there isn't.
fn program(vcpu: &Vcpu, code: u64) -> Result<()> {
    // The length is known: four bytes.
    let words = [0, 0, 0, code << 16, 0x05 << 16, 0, 0, 0];
    vcpu.inject(PROGRAM, words).context("a program interruption")?;
    Ok(())
}

fn set_condition(vcpu: &Vcpu, code: u64) {
    let (mask, address) = vcpu.psw();
    vcpu.set_psw(mask & !(3 << 44) | code << 44, address);
}

/// Where PID 1 finds the project's modules, in this order.
const MODULES: [&str; 2] = ["kvm", "kvm-s390"];

/// An initramfs with this program as PID 1, a module for its console, and the project's modules if they are
/// to be tried.
pub(super) fn initramfs(module: &[u8], with_modules: bool) -> Result<Vec<u8>> {
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
    for stem in MODULES.iter().filter(|_| with_modules) {
        let name = format!("{stem}.ko");
        let module = fs::read(Path::new(crate::module::DIR).join(&name));
        entry(&mut archive, &name, 0o100_644, (0, 0), &module.context(name.clone())?);
    }
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

/// What PID 1 says when it is up, before the number of CPUs.
pub(super) const UP: &str = "guest: user space is up on CPUs ";

/// What PID 1 says of the project's modules, before the name and the result.
const LOADED: &str = "guest: loading ";

/// Checks what the console of a guest says that has the project's modules, on a machine without SIE: the
/// core is loaded, the other one refuses and says why, and the machine goes on.
pub(super) fn check_refused(console: &str) -> Result<()> {
    let expected = [
        &format!("{LOADED}kvm: Ok(())"),
        "the machine has no interpretive execution (SIE)",
        &format!("{LOADED}kvm-s390: Err(EOPNOTSUPP)"),
        UP,
        "reboot: Power down",
    ];
    for words in expected {
        let from = console.len().saturating_sub(1000);
        ensure!(
            console.contains(words),
            "no '{words}': {}",
            console.get(from..).unwrap_or(console)
        );
    }
    Ok(())
}

/// PID 1 of the guest: loads the console, lets each CPU work, tells that it is up, and turns the machine
/// off.
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
    for line in cpus.lines().filter(|line| line.starts_with("features")) {
        fs::write("/dev/kmsg", format!("guest: {line}"))?;
    }
    for stem in MODULES {
        if let Ok(module) = fs::File::open(format!("/{stem}.ko")) {
            let result = finit_module(&module, c"", ModuleInitFlags::empty());
            fs::write("/dev/kmsg", format!("{LOADED}{stem}: {result:?}"))?;
        }
    }
    let mut numbers = Vec::new();
    for cpu in 0..thread::available_parallelism()?.get() {
        numbers.push(work_on(cpu)?.to_string());
    }
    fs::write("/dev/kmsg", format!("{UP}{}", numbers.join(" ")))?;
    match reboot(RebootMode::RB_POWER_OFF)? {}
}

/// Sleeps and computes a little on a CPU; its number as the kernel says it.
fn work_on(cpu: usize) -> Result<usize> {
    use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
    use nix::unistd::Pid;
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(5));
    }
    Ok(sched_getcpu()?)
}
