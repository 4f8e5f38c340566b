// SPDX-License-Identifier: GPL-2.0
//! File systems: what PID 1 needs first, and then the root the command sees.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};
use proto::Root;
use proto::job::{FILES_DIR, MODULES_DIR, RUN_MODULES_DIR, WORK_DIR};

/// Where the shared root comes together.
const LOWER: &str = "/mnt/lower";
const UPPER: &str = "/mnt/upper";
const MERGED: &str = "/mnt/root";

/// What the job and the channel need.
pub(crate) fn early() -> Result<()> {
    mount_new("proc", "/proc", "proc", "")?;
    mount_new("sysfs", "/sys", "sysfs", "")?;
    mount_new("devtmpfs", "/dev", "devtmpfs", "mode=0755")
}

/// Makes `root` the root, with everything mounted that programs expect, and puts the run's files
/// where the command finds them.
pub(crate) fn root(root: &Root) -> Result<()> {
    let new = match root {
        Root::Initramfs => "",
        Root::Shared(tag) => {
            shared(tag)?;
            for dir in ["/proc", "/sys", "/dev"] {
                move_mount(dir, &format!("{MERGED}{dir}"))?;
            }
            MERGED
        }
    };
    mount_new("tmpfs", &format!("{new}/run"), "tmpfs", "mode=0755")?;
    copy_all(MODULES_DIR, &format!("{new}{RUN_MODULES_DIR}"))?;
    copy_all(FILES_DIR, &format!("{new}{WORK_DIR}"))?;
    if !new.is_empty() {
        chdir(new).context("entering the root")?;
        mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
            .context("moving the root")?;
        chroot(".").context("changing the root")?;
    }
    mount_new("tmpfs", "/tmp", "tmpfs", "mode=1777")?;
    mount_new("devpts", "/dev/pts", "devpts", "mode=0620,ptmxmode=0666")?;
    mount_new("tmpfs", "/dev/shm", "tmpfs", "mode=1777")?;
    // Not every kernel has these.
    let _ = mount_new("debugfs", "/sys/kernel/debug", "debugfs", "");
    let _ = mount_new("tracefs", "/sys/kernel/tracing", "tracefs", "");
    chdir(WORK_DIR).context("entering the working directory")
}

/// A directory of the host, read-only over 9p, below an overlay in memory.
fn shared(tag: &str) -> Result<()> {
    let options = "trans=virtio,version=9p2000.L,msize=512000,cache=loose,access=any,ro";
    mount_new(tag, LOWER, "9p", options)?;
    mount_new("tmpfs", UPPER, "tmpfs", "")?;
    for dir in ["upper", "work"] {
        make_dir(&format!("{UPPER}/{dir}"))?;
    }
    let options = format!("lowerdir={LOWER},upperdir={UPPER}/upper,workdir={UPPER}/work");
    mount_new("overlay", MERGED, "overlay", &options)
}

fn mount_new(source: &str, target: &str, kind: &str, options: &str) -> Result<()> {
    make_dir(target)?;
    mount(Some(source), target, Some(kind), MsFlags::empty(), Some(options))
        .with_context(|| format!("mounting {kind} on {target}"))
}

fn move_mount(from: &str, to: &str) -> Result<()> {
    make_dir(to)?;
    mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .with_context(|| format!("moving {from} to {to}"))
}

fn make_dir(path: &str) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("making {path}"))
}

/// Copies the files in `from`, which may be missing, to the directory `to`.
fn copy_all(from: &str, to: &str) -> Result<()> {
    make_dir(to)?;
    if !Path::new(from).exists() {
        return Ok(());
    }
    for entry in fs::read_dir(from).with_context(|| format!("reading {from}"))? {
        let entry = entry.with_context(|| format!("reading {from}"))?;
        let target = Path::new(to).join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path().to_string_lossy(), &target.to_string_lossy())?;
        } else {
            fs::copy(entry.path(), &target)
                .with_context(|| format!("copying {}", target.display()))?;
        }
    }
    Ok(())
}
