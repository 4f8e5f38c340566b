// SPDX-License-Identifier: GPL-2.0
//! Loading and unloading the project's modules.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};

use crate::processor::Processor;

/// Where the harness puts the modules of a run.
pub(crate) const DIR: &str = "/run/modules";

/// File stem of the core module.
pub(crate) const CORE: &str = "kvm";

/// Inserts `stem`.ko with the parameters in `stem`.params, if there is that; the kernel's errno if it
/// refuses.
pub(crate) fn insert(stem: &str) -> Result<Result<(), Errno>> {
    let path = Path::new(DIR).join(format!("{stem}.params"));
    insert_with(stem, &fs::read_to_string(path).unwrap_or_default())
}

/// The same with parameters, `name=value …`.
pub(crate) fn insert_with(stem: &str, parameters: &str) -> Result<Result<(), Errno>> {
    let path = Path::new(DIR).join(format!("{stem}.ko"));
    let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    let parameters = CString::new(parameters)?;
    Ok(finit_module(&file, &parameters, ModuleInitFlags::empty()))
}

/// Removes a module without waiting; the kernel's errno if it refuses.
pub(crate) fn remove(stem: &str) -> Result<Result<(), Errno>> {
    let name = CString::new(stem.replace('-', "_"))?;
    Ok(delete_module(&name, DeleteModuleFlags::O_NONBLOCK))
}

/// Loads the core and this machine's vendor module.
pub(crate) fn load_all() -> Result<()> {
    for stem in [CORE, Processor::current()?.vendor_module()] {
        insert(stem)?.with_context(|| format!("inserting {stem}.ko"))?;
    }
    Ok(())
}

/// Unloads whatever of KVM is loaded.
pub(crate) fn unload_all() -> Result<()> {
    for stem in ["kvm-amd", "kvm-intel", "kvm-s390", CORE] {
        if is_loaded(stem) {
            remove(stem)?.with_context(|| format!("removing {stem}"))?;
        }
    }
    Ok(())
}

/// Whether a module is loaded.
pub(crate) fn is_loaded(stem: &str) -> bool {
    sys_dir(stem).exists()
}

/// Whether the modules that are loaded came with the kernel: ours, built outside its tree, taint it.
#[cfg(target_arch = "x86_64")]
pub(crate) fn is_kernels_own() -> Result<bool> {
    let path = sys_dir(CORE).join("taint");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(!text.contains('O'))
}

/// References to a loaded module.
pub(crate) fn references(stem: &str) -> Result<u32> {
    let path = sys_dir(stem).join("refcnt");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.trim().parse()?)
}

/// Waits a moment until nobody uses this machine's vendor module any more: what a case made has to be
/// gone with it.
pub(crate) fn wait_unused() -> Result<()> {
    let stem = Processor::current()?.vendor_module();
    let start = Instant::now();
    loop {
        let count = references(stem)?;
        if count == 0 {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(5) {
            bail!("the case left {count} references to {stem}");
        }
        sleep(Duration::from_millis(10));
    }
}

/// The values of `key` in a module file's `.modinfo`, which holds `key=value` strings.
pub(crate) fn modinfo(stem: &str, key: &str) -> Result<Vec<String>> {
    let path = Path::new(DIR).join(format!("{stem}.ko"));
    let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let prefix = format!("{key}=");
    let values: Vec<String> = bytes
        .split(|byte| *byte == 0)
        .filter_map(|string| std::str::from_utf8(string).ok()?.strip_prefix(&prefix))
        .map(str::to_owned)
        .collect();
    if values.is_empty() {
        bail!("{stem}.ko has no '{key}' in its module information");
    }
    Ok(values)
}

/// The file of a loaded module's parameter.
pub(crate) fn parameter(stem: &str, name: &str) -> PathBuf {
    sys_dir(stem).join("parameters").join(name)
}

fn sys_dir(stem: &str) -> PathBuf {
    Path::new("/sys/module").join(stem.replace('-', "_"))
}
