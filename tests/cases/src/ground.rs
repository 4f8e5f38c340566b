// SPDX-License-Identifier: GPL-2.0
//! The ground: modules load, answer, follow CPUs, unload, and leave nothing behind.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use kvm_uapi::{KVM_API_VERSION, KVM_MINOR, ioctl};
use nix::errno::Errno;

use crate::case::{Case, Outcome};
use crate::processor::{self, Processor};
use crate::{device, kernel_log, memory, module};

const ALL: &[&str] = &["amd", "intel", "z"];
const X86: &[&str] = &["amd", "intel"];
const AMD: &[&str] = &["amd"];
/// Where virtualization is missing: one machine takes it away when it is told to, one never has it.
const ABSENT: &[&str] = &["intel", "z-tcg"];

/// The cases, in the order in which they run.
pub(crate) const CASES: &[Case] = &[
    Case::new("ground/answers", ALL, answers),
    Case::new("ground/device", ALL, device_node),
    Case::new("ground/modinfo", ALL, information),
    Case::new("ground/parameters", ALL, parameters),
    Case::new("ground/open-file", ALL, open_file),
    Case::new("ground/wrong-vendor", X86, wrong_vendor),
    Case::new("ground/turned-off", AMD, turned_off).with_karg("clearcpuid=svm"),
    Case::new("ground/absent", ABSENT, absent).with_karg("machine.vmx=absent"),
    Case::new("ground/hotplug", ALL, hotplug),
    Case::new("ground/load-with-cpu-off", ALL, cpu_off),
    Case::new("ground/suspend", AMD, suspend).in_own_root(),
    Case::new("ground/autoload", AMD, autoload),
    Case::new("ground/reload", ALL, reload),
];

/// The first ioctls, right and wrong.
fn answers() -> Result<Outcome> {
    module::load_all()?;
    let kvm = device::open()?;
    let ask = |request, arg| device::ioctl(&kvm, request, arg);

    let version = ask(ioctl::KVM_GET_API_VERSION, 0);
    ensure!(version == Ok(KVM_API_VERSION as i32), "API version: {version:?}");
    let pages = if Processor::current()? == Processor::Z { 1 } else { 3 };
    let size = ask(ioctl::KVM_GET_VCPU_MMAP_SIZE, 0);
    ensure!(size == Ok(4096 * pages), "vCPU map size: {size:?}");
    for request in [ioctl::KVM_GET_API_VERSION, ioctl::KVM_GET_VCPU_MMAP_SIZE] {
        let answer = ask(request, 1);
        ensure!(answer == Err(Errno::EINVAL), "{request:#x} with an argument: {answer:?}");
    }
    for absent in [4_001, 4_000, u64::from(u32::MAX), u64::MAX] {
        let answer = ask(ioctl::KVM_CHECK_EXTENSION, absent);
        ensure!(answer == Ok(0), "capability {absent} that isn't implemented: {answer:?}");
    }
    // Known to no version, known on other files only, of another driver.
    for request in [0xae7e, ioctl::KVM_RUN, ioctl::KVM_SET_USER_MEMORY_REGION, 0x5401, 0, !0] {
        let answer = ask(request, 0);
        ensure!(answer == Err(Errno::EINVAL), "unknown request {request:#x}: {answer:?}");
    }
    Ok(Outcome::Passed)
}

/// Number, type and mode of the node; it comes and goes with the vendor module.
fn device_node() -> Result<Outcome> {
    let vendor = Processor::current()?.vendor_module();
    module::insert(module::CORE)??;
    ensure!(!Path::new(device::PATH).exists(), "{} without a vendor module", device::PATH);
    module::insert(vendor)??;
    let node = fs::metadata(device::PATH).context("/dev/kvm with a vendor module")?;
    ensure!(node.file_type().is_char_device(), "{} is no character device", device::PATH);
    let number = (libc::major(node.rdev()), libc::minor(node.rdev()));
    ensure!(number == (10, KVM_MINOR), "device number {number:?}");
    ensure!(node.mode() & 0o777 == 0o600, "mode {:o}", node.mode());
    module::remove(vendor)??;
    ensure!(!Path::new(device::PATH).exists(), "{} outlives its vendor module", device::PATH);
    Ok(Outcome::Passed)
}

/// What `modinfo` and udev look at.
fn information() -> Result<Outcome> {
    let (vendor, alias) = match Processor::current()? {
        Processor::Amd => ("kvm-amd", "cpu:type:x86,ven*fam*mod*:feature:*00C2*"),
        Processor::Intel => ("kvm-intel", "cpu:type:x86,ven*fam*mod*:feature:*0085*"),
        Processor::Z => ("kvm-s390", "char-major-10-232"),
    };
    for stem in [module::CORE, vendor] {
        ensure!(module::modinfo(stem, "license")? == ["GPL"], "{stem}: licence");
        ensure!(module::modinfo(stem, "name")? == [stem.replace('-', "_")], "{stem}: name");
        module::modinfo(stem, "description")?;
    }
    let aliases = module::modinfo(vendor, "alias")?;
    ensure!(aliases.iter().any(|have| have == alias), "{vendor}: aliases {aliases:?}");
    ensure!(module::modinfo(vendor, "depends")? == ["kvm"], "{vendor}: dependencies");
    Ok(Outcome::Passed)
}

/// Parameters are read at load, shown, and changed where that is allowed; nonsense is refused.
fn parameters() -> Result<Outcome> {
    let refused = module::insert_with(module::CORE, "halt_poll_ns=soon")?;
    ensure!(refused == Err(Errno::EINVAL), "inserting with nonsense: {refused:?}");
    ensure!(!module::is_loaded(module::CORE), "loaded all the same");
    module::insert_with(module::CORE, "halt_poll_ns=1234")??;

    let file = module::parameter(module::CORE, "halt_poll_ns");
    let shown = || fs::read_to_string(&file).with_context(|| file.display().to_string());
    ensure!(fs::metadata(&file)?.mode() & 0o777 == 0o644, "mode of {}", file.display());
    ensure!(shown()? == "1234\n", "the value that was given: {:?}", shown()?);
    fs::write(&file, "77").context("changing it")?;
    ensure!(fs::write(&file, "-1").is_err(), "a negative number is taken");
    ensure!(shown()? == "77\n", "the value that was set: {:?}", shown()?);
    let described = module::modinfo(module::CORE, "parmtype")?;
    ensure!(described.iter().any(|have| have == "halt_poll_ns:uint"), "parmtype: {described:?}");

    // What isn't there can't be had by asking, what must be can't be turned off.
    let (vendor, asked, shown): (_, _, &[_]) = match Processor::current()? {
        Processor::Amd => (
            "kvm-amd",
            "npt=0 nested=1 pause_filter_count=70000 nrips=0",
            &[("npt", "Y"), ("nested", "0"), ("dump_invalid_vmcb", "N"), ("nrips", "0")],
        ),
        Processor::Intel => (
            "kvm-intel",
            "ept=0 unrestricted_guest=0 nested=1 vpid=0 eptad=0 ple_gap=77",
            &[
                ("ept", "Y"),
                ("unrestricted_guest", "Y"),
                ("nested", "N"),
                ("vpid", "N"),
                ("eptad", "N"),
                ("ple_gap", "77"),
                ("ple_window", "4096"),
                ("ple_window_grow", "2"),
                ("ple_window_shrink", "0"),
                ("ple_window_max", "4294967295"),
                ("preemption_timer", "Y"),
                ("vnmi", "Y"),
                ("pml", "N"),
                ("dump_invalid_vmcs", "N"),
            ],
        ),
        Processor::Z => return Ok(Outcome::Passed),
    };
    module::insert_with(vendor, asked)??;
    for (name, value) in shown {
        let file = module::parameter(vendor, name);
        let mode = if name.starts_with("dump") { 0o644 } else { 0o444 };
        ensure!(fs::metadata(&file)?.mode() & 0o777 == mode, "mode of {}", file.display());
        let have = fs::read_to_string(&file)?;
        ensure!(have.trim() == *value, "{name}: {have:?}");
    }
    Ok(Outcome::Passed)
}

/// An open file keeps the vendor module, and that keeps the core.
fn open_file() -> Result<Outcome> {
    let vendor = Processor::current()?.vendor_module();
    module::load_all()?;
    let file = device::open()?;
    let refused = module::remove(vendor)?;
    ensure!(refused == Err(Errno::EAGAIN), "unloading {vendor} under an open file: {refused:?}");
    let refused = module::remove(module::CORE)?;
    ensure!(refused == Err(Errno::EAGAIN), "unloading the core under {vendor}: {refused:?}");
    ensure!(module::references(vendor)? == 1, "references: {}", module::references(vendor)?);
    drop(file);
    ensure!(module::references(vendor)? == 0, "references: {}", module::references(vendor)?);
    module::remove(vendor)??;
    Ok(Outcome::Passed)
}

/// The other vendor's module refuses with an errno and one line, and leaves nothing behind.
fn wrong_vendor() -> Result<Outcome> {
    match Processor::current()? {
        Processor::Amd => refuses("kvm-intel", "kvm_intel: the processor has no VMX (VT-x)"),
        _ => refuses("kvm-amd", "kvm_amd: the processor has no SVM (AMD-V)"),
    }
}

/// A processor that has SVM, and a kernel that doesn't use it.
fn turned_off() -> Result<Outcome> {
    refuses("kvm-amd", "kvm_amd: SVM is turned off by the kernel; see its boot log")
}

/// A processor of the right vendor without virtualization.
fn absent() -> Result<Outcome> {
    match Processor::current()? {
        Processor::Z => {
            refuses("kvm-s390", "kvm_s390: the machine has no interpretive execution (SIE)")
        }
        _ => refuses("kvm-intel", "kvm_intel: the processor has no VMX (VT-x)"),
    }
}

/// `vendor` can't be inserted; the log says `reason` and no more.
fn refuses(vendor: &str, reason: &str) -> Result<Outcome> {
    module::insert(module::CORE)??;
    let mark = kernel_log::Mark::now()?;
    let refused = module::insert(vendor)?;
    ensure!(refused == Err(Errno::EOPNOTSUPP), "inserting {vendor}: {refused:?}");
    let log: Vec<String> = mark.since()?.into_iter().filter(|line| line.contains("kvm_")).collect();
    ensure!(log == [reason], "log: {log:?}");
    ensure!(module::references(module::CORE)? == 0, "a reference to the core is left");
    ensure!(!Path::new(device::PATH).exists(), "{} is there", device::PATH);
    Ok(Outcome::Passed)
}

/// A CPU goes and comes back under a loaded module, three times.
fn hotplug() -> Result<Outcome> {
    module::load_all()?;
    for _ in 0..3 {
        processor::set_online(1, false)?;
        ensure!(processor::online()? == 1, "CPU 1 is still there");
        processor::set_online(1, true)?;
        expect_svm([0, 1], true)?;
    }
    let file = device::open()?;
    ensure!(device::ioctl(&file, ioctl::KVM_GET_API_VERSION, 0).is_ok(), "no answer afterwards");
    drop(file);
    module::unload_all()?;
    expect_svm([0, 1], false)?;
    Ok(Outcome::Passed)
}

/// A CPU that was off while the module came gets virtualization later.
fn cpu_off() -> Result<Outcome> {
    processor::set_online(1, false)?;
    let loaded = module::load_all();
    processor::set_online(1, true)?;
    loaded?;
    expect_svm([0, 1], true)?;
    processor::set_online(1, false)?;
    let unloaded = module::unload_all();
    processor::set_online(1, true)?;
    unloaded?;
    expect_svm([0, 1], false)?;
    Ok(Outcome::Passed)
}

/// Suspend to RAM up to the last step and back (the kernel's own test mode).
fn suspend() -> Result<Outcome> {
    let test = Path::new("/sys/power/pm_test");
    let states = fs::read_to_string("/sys/power/mem_sleep").unwrap_or_default();
    if !test.exists() || !states.contains("deep") {
        return Ok(Outcome::Skipped(format!("no suspend test mode here (mem_sleep: {states:?})")));
    }
    module::load_all()?;
    // Don't wait in the middle; there is nothing to watch.
    let delay = Path::new("/sys/module/suspend/parameters/pm_test_delay");
    if delay.exists() {
        fs::write(delay, "0").context("setting pm_test_delay")?;
    }
    fs::write("/sys/power/mem_sleep", "deep").context("choosing suspend to RAM")?;
    fs::write(test, "core").context("choosing the test mode")?;
    let suspended = fs::write("/sys/power/state", "mem").context("suspending");
    fs::write(test, "none").context("leaving the test mode")?;
    suspended?;
    expect_svm([0, 1], true)?;
    module::unload_all()?;
    expect_svm([0, 1], false)?;
    Ok(Outcome::Passed)
}

/// udev's question, what drives this processor, is answered with our modules where they are
/// installed. The tree they are installed in holds nothing else: an index of all modules takes minutes
/// here.
fn autoload() -> Result<Outcome> {
    const BASE: &str = "/tmp/autoload";
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let release = release.trim();
    let updates = format!("{BASE}/lib/modules/{release}/updates");
    fs::create_dir_all(&updates)?;
    for stem in ["kvm", "kvm-amd", "kvm-intel"] {
        fs::copy(format!("{}/{stem}.ko", module::DIR), format!("{updates}/{stem}.ko"))?;
    }
    let depmod = Command::new("depmod").args(["-b", BASE, release]).output();
    let Ok(depmod) = depmod else {
        return Ok(Outcome::Skipped("no depmod in this root file system".into()));
    };
    ensure!(depmod.status.success(), "depmod: {}", String::from_utf8_lossy(&depmod.stderr));
    let modalias = fs::read_to_string("/sys/devices/system/cpu/modalias")?;
    let modprobe = Command::new("modprobe").args(["-d", BASE, "-a", modalias.trim()]).output()?;
    fs::remove_dir_all(BASE)?;
    let loaded = module::is_loaded("kvm-amd") && module::is_loaded("kvm");
    ensure!(loaded, "modprobe: {}: {}", modprobe.status, String::from_utf8_lossy(&modprobe.stderr));
    ensure!(!module::is_loaded("kvm-intel"), "the other vendor's module came as well");
    Ok(Outcome::Passed)
}

/// Twenty loads and unloads leave no memory and no reference behind.
fn reload() -> Result<Outcome> {
    const ROUNDS: i64 = 20;
    let cycle = || -> Result<()> {
        for _ in 0..ROUNDS {
            module::load_all()?;
            let vendor = Processor::current()?.vendor_module();
            ensure!(module::references(vendor)? == 0, "{vendor} is referenced");
            ensure!(module::references(module::CORE)? == 1, "the core has other users");
            drop(device::open()?);
            module::unload_all()?;
        }
        Ok(())
    };
    // One leaked 256-byte object per load would be 5 KiB.
    memory::leaves_nothing(4, cycle)?;
    Ok(Outcome::Passed)
}

/// SVM is on, or off, on each of `cpus`, where that can be seen.
fn expect_svm(cpus: [u32; 2], on: bool) -> Result<()> {
    for cpu in cpus {
        if let Some(is_on) = processor::svm_is_on(cpu)? {
            ensure!(is_on == on, "SVM on CPU {cpu}: {is_on}, expected {on}");
        }
    }
    Ok(())
}
