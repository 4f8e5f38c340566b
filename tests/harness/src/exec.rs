// SPDX-License-Identifier: GPL-2.0
//! From what a user asks for to a run of a machine: prepares, builds, packs the initramfs, runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use proto::job::{FILES_DIR, JOB, MODULES_DIR};
use proto::{Job, Load, Root};

use crate::build;
use crate::guest;
use crate::initramfs::Archive;
use crate::kernel::{self, Choice, Kernel, module_file};
use crate::machine::{Arch, BootSpec, Machine};
use crate::session::{self, Listener, Outcome};
use crate::setup;
use crate::step::Place;

/// Which modules a run loads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum ModuleSet {
    /// The project's.
    #[default]
    Rust,
    /// The kernel's own.
    C,
    /// None.
    None,
}

/// What a user asks for.
#[derive(Clone)]
pub struct Request {
    /// The machine.
    pub machine: &'static dyn Machine,
    /// Its kernel.
    pub kernel: Choice,
    /// The command, or none for an interactive shell.
    pub cmd: Option<String>,
    /// Files (as seen from here) that go into the working directory.
    pub files: Vec<PathBuf>,
    /// Modules to load.
    pub modules: ModuleSet,
    /// Whether to load them, or only to have them at hand in the machine.
    pub load: bool,
    /// More words for the kernel's command line.
    pub kargs: String,
    /// Boot with a root of its own (a busybox in memory) where the machine usually shares one.
    pub own_root: bool,
    /// Whether the command gets a terminal.
    pub terminal: bool,
    /// Whether the command starts guests: it gets their files and is told where they are.
    pub guests: bool,
    /// Steps that the command needs beyond what the machine does.
    pub steps: Vec<String>,
    /// Environment of the command.
    pub env: Vec<(String, String)>,
    /// Processors.
    pub smp: u32,
    /// Memory in MiB, or none for the machine's usual.
    pub mem_mib: Option<u32>,
    /// Exact virtual time.
    pub icount: bool,
    /// Where the emulator's monitor is to listen, if somebody wants to speak with it.
    pub monitor: Option<PathBuf>,
    /// Limit for the command.
    pub timeout: Duration,
}

impl Request {
    /// The usual for `machine`.
    pub fn new(machine: &'static dyn Machine) -> Request {
        Request {
            machine,
            kernel: Choice::Stock,
            cmd: None,
            files: Vec::new(),
            modules: ModuleSet::Rust,
            load: true,
            kargs: String::new(),
            own_root: false,
            terminal: false,
            guests: false,
            steps: Vec::new(),
            env: Vec::new(),
            smp: 1,
            mem_mib: None,
            icount: false,
            monitor: None,
            timeout: Duration::from_secs(600),
        }
    }
}

impl Request {
    fn root(&self) -> Root {
        if self.own_root { Root::Initramfs } else { self.machine.root() }
    }
}

/// Prepares and builds what `request` needs, without running it.
pub fn prepare(place: &Place, request: &Request) -> Result<Kernel> {
    let name = kernel::name(request.machine, request.kernel)?;
    let mut steps = vec![kernel::step(name)];
    steps.extend(request.machine.needs());
    if request.guests && request.machine.arch() == Arch::X86 {
        steps.push("guest-kernel");
    }
    steps.extend(request.steps.iter().map(String::as_str));
    setup::make(place, &steps)?;
    kernel::find(&place.cache, name)
}

/// Boots that didn't get to PID 1 and were repeated since this program started.
pub static REPEATED: AtomicU32 = AtomicU32::new(0);

/// Carries `request` out.
pub fn run(place: &Place, request: &Request, listener: &mut dyn Listener) -> Result<Outcome> {
    let kernel = prepare(place, request)?;
    let machine = request.machine;
    for attempt in 1..machine.boot_attempts() {
        let outcome = run_once(place, request, &kernel, listener)?;
        if !outcome.never_up {
            return Ok(outcome);
        }
        REPEATED.fetch_add(1, Ordering::Relaxed);
        eprintln!(
            "{}: boot {attempt} did not get to PID 1, trying once more{}",
            machine.name(),
            outcome.trouble.map(|trouble| format!("\n{trouble}")).unwrap_or_default()
        );
    }
    run_once(place, request, &kernel, listener)
}

/// One boot and what comes of it.
fn run_once(
    place: &Place,
    request: &Request,
    kernel: &Kernel,
    listener: &mut dyn Listener,
) -> Result<Outcome> {
    let machine = request.machine;
    let dir = run_dir(place, machine.name())?;
    let initramfs = dir.join("initramfs");
    let job = pack(place, request, kernel, &initramfs)?;
    let spec = BootSpec {
        kernel: machine.image(kernel),
        initramfs,
        cmdline: format!("{} {} {}", machine.cmdline(), request.kernel.cmdline(), request.kargs),
        smp: request.smp,
        mem_mib: request.mem_mib.unwrap_or_else(|| machine.default_mem_mib()),
        icount: request.icount,
        monitor: request.monitor.clone(),
        patience: Duration::from_secs(machine.boot_seconds()) * request.kernel.slowness(),
        root: request.root(),
        dir: dir.clone(),
        cache: place.cache.clone(),
        tree: place.tree.clone(),
    };
    fs::write(dir.join("job.json"), serde_json::to_vec_pretty(&job)?).context("noting the job")?;
    let outcome = session::run(machine, &spec, request.timeout, listener)?;
    if outcome.trouble.is_none() {
        fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    Ok(outcome)
}

/// Writes the initramfs of the run.
fn pack(place: &Place, request: &Request, kernel: &Kernel, path: &Path) -> Result<Job> {
    let machine = request.machine;
    let init = build::program(place, machine.arch(), "machine_init")?;
    let mut archive = Archive::create(path)?;
    archive.copy(&init, "/init")?;
    let mut boot = Vec::new();
    if request.root() == Root::Initramfs {
        userland(&mut archive, place, machine)?;
    }
    if !request.own_root {
        for file in kernel.with_dependencies(machine.boot_modules())? {
            boot.push(add_module(&mut archive, &file, "/boot-modules", "")?);
        }
    }
    let load = match request.modules {
        ModuleSet::None => Vec::new(),
        ModuleSet::C => c_modules(&mut archive, kernel, request)?,
        ModuleSet::Rust => rust_modules(&mut archive, place, kernel, request)?,
    };
    let mut files = request.files.clone();
    let mut env = request.env.clone();
    if request.guests {
        let initramfs = path.with_file_name(guest::INITRAMFS);
        guest::initramfs(place, machine.arch(), &initramfs)?;
        files.push(initramfs);
    }
    if request.guests && machine.arch() == Arch::S390 {
        // The machine's own kernel and its console are the guest's, too.
        files.push(kernel.image.clone());
        files.extend(kernel.with_dependencies(machine.boot_modules())?);
        guest::vmm_s390(place, &request.steps, &mut archive)?;
        env.extend(guest::environment_s390(&kernel.image));
    } else if request.guests {
        if request.root() == Root::Initramfs {
            for file in guest::vmm(place)? {
                let path = file.to_string_lossy().into_owned();
                archive.copy(&file, &path)?;
                libraries(&mut archive, &file)?;
            }
        }
        env.extend(guest::environment(place)?);
    }
    for file in &files {
        let name = file.file_name().context("a file without a name")?.to_string_lossy();
        archive.copy(file, &format!("{FILES_DIR}/{name}"))?;
        if request.root() == Root::Initramfs {
            libraries(&mut archive, file)?;
        }
    }
    let channel = if request.own_root { machine.own_root_channel() } else { machine.channel() };
    let job = Job {
        cmd: request.cmd.clone(),
        terminal: request.terminal,
        boot,
        load,
        env,
        root: request.root(),
        channel: channel.into(),
        max_payload: machine.max_payload(),
    };
    archive.file(JOB, 0o600, &serde_json::to_vec(&job)?)?;
    archive.finish()?;
    Ok(job)
}

fn add_module(archive: &mut Archive, file: &Path, dir: &str, params: &str) -> Result<Load> {
    let path = format!("{dir}/{}", module_file(file));
    archive.module(file, &path)?;
    Ok(Load { path, params: params.into() })
}

/// The kernel's own modules with what they depend on; those already loaded for the boot are skipped
/// because the lists of no machine overlap. If they are not to be loaded, what they depend on still is, and
/// the parameters lie beside them.
fn c_modules(archive: &mut Archive, kernel: &Kernel, request: &Request) -> Result<Vec<Load>> {
    let mut load: Vec<Load> = Vec::new();
    for line in request.machine.c_modules() {
        let (name, params) = line.split_once(' ').unwrap_or((line, ""));
        for file in kernel.with_dependencies(&[name])? {
            let module = kernel::module_name(&file.to_string_lossy());
            let params = if module == name.replace('-', "_") { params } else { "" };
            let own = module.starts_with("kvm");
            let dir = if own { MODULES_DIR } else { "/boot-modules" };
            let path = format!("{dir}/{}", module_file(&file));
            if archive.has(&path) {
                continue;
            }
            let entry = add_module(archive, &file, dir, params)?;
            if request.load || !own {
                load.push(entry);
            } else if !params.is_empty() {
                let path = path.trim_end_matches(".ko");
                archive.file(&format!("{path}.params"), 0o644, params.as_bytes())?;
            }
        }
    }
    Ok(load)
}

/// All modules of the project, and which of them to load; and before those what they need of the
/// kernel's own.
fn rust_modules(
    archive: &mut Archive,
    place: &Place,
    kernel: &Kernel,
    request: &Request,
) -> Result<Vec<Load>> {
    let built = build::modules(place, kernel)?;
    let mut load = Vec::new();
    for file in &built {
        add_module(archive, file, MODULES_DIR, "")?;
    }
    for wanted in request.machine.rust_modules().iter().filter(|_| request.load) {
        if !built.iter().any(|file| module_file(file) == *wanted) {
            bail!("the build made no {wanted}");
        }
        load.push(Load { path: format!("{MODULES_DIR}/{wanted}"), params: String::new() });
    }
    let mut first = Vec::new();
    for file in dependencies(&built, kernel)? {
        first.push(add_module(archive, &file, "/boot-modules", "")?);
    }
    first.extend(load);
    Ok(first)
}

/// Modules of the kernel that the project's modules name in their `depends` lines.
fn dependencies(built: &[PathBuf], kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let out = Command::new("modinfo").args(["-F", "depends"]).args(built).output();
    let text = String::from_utf8_lossy(&out.context("running modinfo")?.stdout).into_owned();
    let own = |name: &&str| {
        built
            .iter()
            .any(|file| kernel::module_name(&file.to_string_lossy()) == name.replace('-', "_"))
    };
    let names: Vec<&str> =
        text.split([',', '\n']).filter(|name| !name.is_empty() && !own(name)).collect();
    kernel.with_dependencies(&names)
}

/// A small userland for machines that share no root.
fn userland(archive: &mut Archive, place: &Place, machine: &dyn Machine) -> Result<()> {
    archive.copy(&place.cache.path(machine.busybox()), "/bin/busybox")?;
    // The applets are the same on every architecture, and this side's busybox can be asked.
    let out = Command::new("busybox").arg("--list-full").output().context("running busybox")?;
    for path in String::from_utf8_lossy(&out.stdout).lines() {
        if path != "bin/busybox" {
            archive.link(&format!("/{path}"), "/bin/busybox")?;
        }
    }
    archive.file("/etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?;
    archive.file("/etc/group", 0o644, b"root:x:0:\n")?;
    for dir in ["/proc", "/sys", "/dev", "/tmp", "/run", "/root", "/mnt"] {
        archive.dir(dir)?;
    }
    Ok(())
}

/// The shared libraries that the program `file` needs, at the places where it looks for them. Not
/// every file is a program, and not every program is for this host: then there are none.
fn libraries(archive: &mut Archive, file: &Path) -> Result<()> {
    let out = Command::new("ldd").arg(file).output().context("running ldd")?;
    for line in String::from_utf8_lossy(&out.stdout).lines().filter(|_| out.status.success()) {
        let path = line.split_once("=>").map_or(line, |(_, path)| path);
        let path = path.split_whitespace().next().unwrap_or_default();
        if path.starts_with('/') && !archive.has(path) {
            archive.copy(Path::new(path), path)?;
        }
    }
    Ok(())
}

/// A new directory for a run. Those of failed runs stay for a day.
fn run_dir(place: &Place, machine: &str) -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let all = place.cache.dir("run")?;
    for entry in fs::read_dir(&all).context("listing old runs")?.flatten() {
        let age =
            entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|t| t.elapsed().ok());
        if age.is_some_and(|age| age > Duration::from_secs(24 * 3600)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    place.cache.dir(format!("run/{machine}-{}-{number}", std::process::id()))
}
