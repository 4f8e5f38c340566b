// SPDX-License-Identifier: GPL-2.0
//! What comes first: file systems and modules.

use std::ffi::CString;
use std::fs::{self, File};

use anyhow::{Context, Result};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};

/// Where the initramfs has the modules; the file `order` names them, one a line.
const MODULES: &str = "/modules";

/// Mounts what the commands look at.
pub(crate) fn mounts() -> Result<()> {
    for (kind, target) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp")]
    {
        fs::create_dir_all(target).with_context(|| format!("making {target}"))?;
        mount(Some(kind), target, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting {target}"))?;
    }
    Ok(())
}

/// Loads the modules of the initramfs.
pub(crate) fn modules() -> Result<()> {
    let order = format!("{MODULES}/order");
    let names = fs::read_to_string(&order).with_context(|| format!("reading {order}"))?;
    for name in names.lines() {
        let path = format!("{MODULES}/{name}");
        let file = File::open(&path).with_context(|| format!("opening {path}"))?;
        finit_module(&file, &CString::default(), ModuleInitFlags::empty())
            .with_context(|| format!("loading {name}"))?;
    }
    Ok(())
}

/// Keeps kernel messages out of the reports: only emergencies are still shown.
pub(crate) fn quiet() -> Result<()> {
    fs::write("/proc/sys/kernel/printk", "1").context("lowering the console's log level")
}
