// SPDX-License-Identifier: GPL-2.0
//! The directories of VMs in debugfs: whoever looks finds everything in them, and nothing of them stays.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kvm_uapi::ioctl;

use crate::case::{Case, Outcome, Skip, check_eq};
use crate::device::make;
use crate::processor::Processor;
use crate::vm::new_vm;
use crate::{device, memory, module};

const ALL: &[&str] = &["amd", "intel", "z"];

/// The cases, in the order in which they run.
pub(crate) const CASES: &[Case] = &[
    Case::loaded("debugfs/links", ALL, links),
    Case::loaded("debugfs/by-path", ALL, by_path),
    Case::loaded("debugfs/listed", ALL, listed),
    Case::loaded("debugfs/entered", ALL, entered),
    Case::loaded("debugfs/changed", ALL, changed),
    Case::loaded("debugfs/raced", ALL, raced),
    Case::new("debugfs/left-behind", ALL, left_behind),
    Case::new("debugfs/unloaded", ALL, unloaded),
    Case::new("debugfs/leaves-nothing", ALL, leaves_nothing),
];

/// The directory of all of KVM.
const TOP: &str = "/sys/kernel/debug/kvm";

/// A VM whose directory nobody has looked into, and where that is.
struct Fresh {
    vm: File,
    path: PathBuf,
}

impl Fresh {
    fn new() -> Result<Self> {
        ensure!(Path::new(TOP).exists(), Skip("debugfs isn't mounted".into()));
        let (_, vm) = new_vm()?;
        let path = Path::new(TOP).join(format!("{}-{}", std::process::id(), vm.as_raw_fd()));
        Ok(Self { vm, path })
    }

    fn add_vcpu(&self, id: u64) -> Result<File> {
        make(&self.vm, ioctl::KVM_CREATE_VCPU, id).context("KVM_CREATE_VCPU")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Whether vCPUs have directories here.
fn shows_vcpus() -> Result<bool> {
    Ok(Processor::current()? != Processor::Z)
}

/// Names of the files in a directory, and of the directories.
fn list(path: &Path) -> io::Result<(BTreeSet<String>, BTreeSet<String>)> {
    let (mut files, mut directories) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = if entry.file_type()?.is_dir() { &mut directories } else { &mut files };
        kind.insert(entry.file_name().to_string_lossy().into_owned());
    }
    Ok((files, directories))
}

/// What every VM shows: the sums of all have the same names.
fn expected() -> Result<BTreeSet<String>> {
    let (files, _) = list(Path::new(TOP)).context(TOP)?;
    ensure!(files.len() > 10, "{} files in {TOP}", files.len());
    Ok(files)
}

fn expect_all(path: &Path, vcpus: &[&str]) -> Result<()> {
    let (files, directories) = list(path).with_context(|| path.display().to_string())?;
    let expected = expected()?;
    let missing: Vec<_> = expected.difference(&files).collect();
    ensure!(missing.is_empty(), "{}: {missing:?} missing", path.display());
    let vcpus: &[&str] = if shows_vcpus()? { vcpus } else { &[] };
    ensure!(directories.iter().eq(vcpus), "{}: directories {directories:?}", path.display());
    Ok(())
}

fn links_of(path: &Path) -> Result<u64> {
    Ok(fs::symlink_metadata(path).with_context(|| path.display().to_string())?.nlink())
}

/// The number of links of a directory tells `find` how many there are within. Asking for it is no look.
fn links() -> Result<()> {
    let of_vcpu = u64::from(shows_vcpus()?);
    let vm = Fresh::new()?;
    check_eq!(links_of(&vm.path)?, 2, "at first");
    let _first = vm.add_vcpu(0)?;
    let _second = vm.add_vcpu(5)?;
    check_eq!(links_of(&vm.path)?, 2 + 2 * of_vcpu, "with two vCPUs");
    expect_all(&vm.path, &["vcpu0", "vcpu5"])?;
    check_eq!(links_of(&vm.path)?, 2 + 2 * of_vcpu, "after a look");
    let _third = vm.add_vcpu(6)?;
    check_eq!(links_of(&vm.path)?, 2 + 3 * of_vcpu, "with one more");
    Ok(())
}

/// A system call with a path, and what it returns.
type Change<'a> = &'a dyn Fn(&CString) -> i32;

/// What changes a directory has it locked, as making files in it does: there is no waiting for oneself.
fn changed() -> Result<()> {
    let set_attribute = |path: &CString| {
        // SAFETY: All three are valid for reading as far as the call does.
        unsafe { libc::setxattr(path.as_ptr(), c"user.case".as_ptr(), c"1".as_ptr().cast(), 1, 0) }
    };
    let touch = |path: &CString| {
        // SAFETY: The path is a string; without times it is now.
        unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), std::ptr::null(), 0) }
    };
    let change_mode = |path: &CString| {
        // SAFETY: The path is a string.
        unsafe { libc::chmod(path.as_ptr(), 0o755) }
    };
    let changes: [(&str, Change<'_>, bool); 3] = [
        ("an attribute", &set_attribute, false),
        ("its times", &touch, true),
        ("its mode", &change_mode, true),
    ];
    for (what, change, is_possible) in changes {
        let vm = Fresh::new()?;
        let path = CString::new(vm.path.display().to_string())?;
        check_eq!(change(&path) == 0, is_possible, "changing {what}");
        expect_all(&vm.path, &[])?;
    }
    let vm = Fresh::new()?;
    let error = fs::create_dir(vm.file("more")).err().map(|error| error.kind());
    check_eq!(error, Some(io::ErrorKind::PermissionDenied), "a directory of one's own");
    expect_all(&vm.path, &[])
}

/// The first look is for a file that somebody knows the name of.
fn by_path() -> Result<()> {
    let vm = Fresh::new()?;
    let _vcpu = vm.add_vcpu(0)?;
    let counter = vm.file("halt_wakeup");
    let text = fs::read_to_string(&counter).with_context(|| counter.display().to_string())?;
    check_eq!(text, "0\n");
    let mode = fs::metadata(&counter)?.mode();
    check_eq!(mode, libc::S_IFREG | 0o644, "the mode");
    let error = File::open(vm.file("halt_wake")).err().map(|error| error.kind());
    check_eq!(error, Some(io::ErrorKind::NotFound), "opening what isn't there");

    let vm = Fresh::new()?;
    let error = File::open(vm.file("halt_wake")).err().map(|error| error.kind());
    check_eq!(error, Some(io::ErrorKind::NotFound), "opening what isn't there, at first");
    expect_all(&vm.path, &[])?;

    if shows_vcpus()? {
        let vm = Fresh::new()?;
        let _vcpu = vm.add_vcpu(7)?;
        let thread = vm.file("vcpu7/pid");
        let text = fs::read_to_string(&thread).with_context(|| thread.display().to_string())?;
        check_eq!(text, "0\n", "the thread of a vCPU that never ran");
    }
    Ok(())
}

/// The first look is at all there is; vCPUs that come later come into the directory.
fn listed() -> Result<()> {
    let vm = Fresh::new()?;
    let _first = vm.add_vcpu(0)?;
    expect_all(&vm.path, &["vcpu0"])?;
    let _second = vm.add_vcpu(3)?;
    expect_all(&vm.path, &["vcpu0", "vcpu3"])?;
    if shows_vcpus()? {
        for vcpu in ["vcpu0", "vcpu3"] {
            let (files, _) = list(&vm.file(vcpu))?;
            ensure!(files.contains("pid") && files.contains("guest_mode"), "{vcpu}: {files:?}");
        }
    }
    let Fresh { vm, path } = vm;
    drop((vm, _first, _second));
    ensure!(!path.exists(), "{} outlives its VM", path.display());
    Ok(())
}

/// A place that was found without a look, and what is seen from there.
fn entered() -> Result<()> {
    let place = |path: &Path| OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path);
    let from = |place: &File| PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd()));

    let vm = Fresh::new()?;
    let known = place(&vm.path)?;
    check_eq!(fs::read_to_string(from(&known).join("halt_wakeup"))?, "0\n");

    let vm = Fresh::new()?;
    let _vcpu = vm.add_vcpu(1)?;
    let known = place(&vm.path)?;
    expect_all(&from(&known), &["vcpu1"])?;

    // Who only goes through it has it filled as well.
    let vm = Fresh::new()?;
    let known = place(&vm.path)?;
    ensure!(from(&known).join("../halt_wakeup").exists(), "the directory above isn't there");
    expect_all(&vm.path, &[])?;
    Ok(())
}

/// Looks into one VM's directory. `Some(true)` if all was there, `None` if the VM went.
fn look(path: &Path, expected: &BTreeSet<String>) -> Result<Option<bool>> {
    let files = match list(path) {
        Ok((files, _)) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let counter = path.join("halt_wakeup");
    match fs::read_to_string(&counter) {
        Ok(text) => check_eq!(text, "0\n", "{}", counter.display()),
        Err(error) => {
            let gone = [libc::ENOENT, libc::EIO].map(Some).contains(&error.raw_os_error());
            ensure!(gone, "{}: {error}", counter.display());
        }
    }
    Ok(Some(expected.is_subset(&files)))
}

/// Looks at all VMs there are, until told to stop.
fn look_around(stop: &AtomicBool, whole: &AtomicU32) -> Result<()> {
    let expected = expected()?;
    while !stop.load(Ordering::Relaxed) {
        let (_, vms) = list(Path::new(TOP)).context(TOP)?;
        for path in vms.iter().map(|vm| Path::new(TOP).join(vm)) {
            // One that comes or goes may be seen half: not for long.
            let start = Instant::now();
            loop {
                match look(&path, &expected)? {
                    None => break,
                    Some(true) => {
                        whole.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    Some(false) => {}
                }
                let waited = start.elapsed();
                ensure!(waited < Duration::from_secs(10), "{} isn't whole", path.display());
                sleep(Duration::from_millis(1));
            }
        }
    }
    Ok(())
}

/// Two look at the same VMs while these come and go.
fn raced() -> Result<()> {
    drop(Fresh::new()?);
    let (stop, whole) = (AtomicBool::new(false), AtomicU32::new(0));
    let result = thread::scope(|scope| -> Result<()> {
        let lookers = [(); 2].map(|()| scope.spawn(|| look_around(&stop, &whole)));
        let made = come_and_go(&whole);
        stop.store(true, Ordering::Relaxed);
        for looker in lookers {
            looker.join().map_err(|_| anyhow::anyhow!("a looker panicked"))??;
        }
        made
    });
    result?;
    ensure!(whole.load(Ordering::Relaxed) > 0, "nobody saw a VM");
    Ok(())
}

fn come_and_go(whole: &AtomicU32) -> Result<()> {
    let start = Instant::now();
    let mut round = 0u32;
    while start.elapsed() < Duration::from_secs(4) || round < 20 {
        let one = Fresh::new()?;
        let other = Fresh::new()?;
        // Some go before anybody can have seen them, others at any moment of the first look.
        let vcpu = (round % 3 != 0).then(|| one.add_vcpu(0)).transpose()?;
        sleep(Duration::from_micros(u64::from(round % 16) * 100));
        drop(other);
        drop((vcpu, one));
        round += 1;
    }
    // On a slow machine all may have been too short.
    let last = Fresh::new()?;
    let seen = whole.load(Ordering::Relaxed);
    let start = Instant::now();
    while whole.load(Ordering::Relaxed) == seen {
        let waited = start.elapsed();
        ensure!(waited < Duration::from_secs(20), "{} isn't looked at", last.path.display());
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Who is in a directory when its VM ends, may stay there when the modules go, and finds nothing.
fn left_behind() -> Result<Outcome> {
    module::load_all()?;
    if !Path::new(TOP).exists() {
        return Ok(Outcome::Skipped("debugfs isn't mounted".into()));
    }
    let (known, inside) = (Fresh::new()?, Fresh::new()?);
    let place = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&known.path)?;
    std::env::set_current_dir(&inside.path)?;
    ensure!(Path::new("halt_wakeup").exists(), "no counter in this directory");
    drop((known, inside));
    let unloaded = module::unload_all();
    let seen = (|| -> Result<()> {
        unloaded?;
        for path in [PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd())), ".".into()] {
            check_eq!(fs::metadata(&path)?.nlink(), 0, "links of {}", path.display());
            let (files, directories) = list(&path)?;
            ensure!(files.is_empty() && directories.is_empty(), "{files:?}, {directories:?}");
            let error = File::open(path.join("halt_wakeup")).err().map(|error| error.kind());
            check_eq!(error, Some(io::ErrorKind::NotFound), "opening a counter");
        }
        Ok(())
    })();
    std::env::set_current_dir("/")?;
    seen?;
    module::load_all()?;
    expect_all(&Fresh::new()?.path, &[])?;
    Ok(Outcome::Passed)
}

/// The modules go and come under the eyes of two.
fn unloaded() -> Result<Outcome> {
    let stop = AtomicBool::new(false);
    let watch = || {
        while !stop.load(Ordering::Relaxed) {
            // No file is opened: that would keep the module.
            let Ok((_, vms)) = list(Path::new(TOP)) else { continue };
            for path in vms.iter().map(|vm| Path::new(TOP).join(vm)) {
                let _ = (fs::metadata(&path), fs::metadata(path.join("halt_wakeup")), list(&path));
            }
        }
    };
    thread::scope(|scope| -> Result<()> {
        let _watchers = [(); 2].map(|()| scope.spawn(watch));
        let cycle = || -> Result<()> {
            for _ in 0..5 {
                module::load_all()?;
                for _ in 0..20 {
                    let vm = Fresh::new()?;
                    let _vcpu = vm.add_vcpu(0)?;
                }
                module::unload_all()?;
            }
            Ok(())
        };
        let result = cycle();
        stop.store(true, Ordering::Relaxed);
        result
    })?;
    Ok(Outcome::Passed)
}

/// VMs that were looked at leave no memory behind, nor do others.
fn leaves_nothing() -> Result<Outcome> {
    module::load_all()?;
    let round = || -> Result<()> {
        for index in 0..20 {
            let vm = Fresh::new()?;
            let _vcpu = vm.add_vcpu(0)?;
            if index % 2 == 0 {
                expect_all(&vm.path, &["vcpu0"])?;
            }
        }
        Ok(())
    };
    // One leaked 256-byte object per VM would be 5 KiB.
    memory::leaves_nothing(4, round)?;
    drop(device::open()?);
    Ok(Outcome::Passed)
}
