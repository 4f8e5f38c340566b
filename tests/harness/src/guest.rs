// SPDX-License-Identifier: GPL-2.0
//! What guests inside the machines are made of: the stock kernel, and an initramfs with the project's small
//! user space (tests/guest) and the modules it loads.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::build;
use crate::initramfs::Archive;
use crate::kernel::{self, Kernel};
use crate::machine::Arch;
use crate::setup::zqemu;
use crate::step::Place;

/// Kernel modules that a guest loads, in this order, with what they need.
const MODULES: &[&str] = &["virtio_blk", "virtio_net", "ext4", "virtio_balloon"];

/// The initramfs, below the working directory of a run.
pub const INITRAMFS: &str = "guest.cpio";

/// Where the shared root has the guest's unpacked kernel.
pub const VMLINUX: &str = "var/lib/guests/vmlinux";

/// Where it has a guest's disk with a whole Debian, with the initramfs for that beside it.
pub const DEBIAN: &str = "var/lib/guests/debian.img";

/// Writes the guests' initramfs to `path`.
pub fn initramfs(place: &Place, arch: Arch, path: &Path) -> Result<()> {
    let (kernel, modules) = match arch {
        Arch::X86 => ("stock", MODULES),
        // What its guests need is built in.
        Arch::S390 => ("z", [].as_slice()),
    };
    let kernel = kernel::find(&place.cache, kernel)?;
    let mut archive = Archive::create(path)?;
    archive.copy(&build::program(place, arch, "guest")?, "/init")?;
    let mut order = String::new();
    for file in kernel.with_dependencies(modules)? {
        let name = kernel::module_file(&file);
        archive.module(&file, &format!("/modules/{name}"))?;
        order.push_str(&name);
        order.push('\n');
    }
    archive.file("/modules/order", 0o644, order.as_bytes())?;
    archive.finish()
}

/// What tells a command in the IBM Z machine where the files are.
pub fn environment_s390(image: &Path) -> Vec<(String, String)> {
    let name = image.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    vec![
        ("GUEST_KERNEL".into(), format!("{}/{name}", proto::job::WORK_DIR)),
        ("GUEST_CONSOLE".into(), format!("{}/hercules_console.ko", proto::job::WORK_DIR)),
        ("GUEST_INITRAMFS".into(), format!("{}/{INITRAMFS}", proto::job::WORK_DIR)),
    ]
}

/// Where the IBM Z machine has the kernel's own tests.
const KSELFTEST_S390: &str = "/usr/libexec/kselftest";

/// Puts what the steps of a request made into the initramfs of the IBM Z machine, and no more: with a large one
/// its processors often don't start. The kernel's own tests, and QEMU with its libraries, if the mirror had it.
pub fn vmm_s390(place: &Place, steps: &[String], archive: &mut Archive) -> Result<()> {
    let wants = |name: &str| steps.iter().any(|step| step == name);
    if wants("z-kselftest") {
        archive.copy(&place.cache.path("toolchain/z-kselftest"), KSELFTEST_S390)?;
    }
    let qemu = place.cache.path("toolchain/z-qemu");
    if wants("z-qemu") && qemu.join(zqemu::PROGRAM).exists() {
        for dir in ["usr", "lib"] {
            archive.copy(&qemu.join(dir), &format!("/{dir}"))?;
        }
    }
    Ok(())
}

/// What cases with guests run.
const PROGRAMS: &[&str] =
    &["/usr/bin/qemu-system-x86_64", "/usr/sbin/mkfs.ext4", "/usr/sbin/e2fsck"];

/// QEMU with what it needs of its firmware, and the guest's kernel, for a machine without the shared root;
/// this program itself runs in that.
pub fn vmm(place: &Place) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> =
        PROGRAMS.iter().map(PathBuf::from).chain([Path::new("/").join(VMLINUX)]).collect();
    for dir in ["/usr/share/seabios", "/usr/share/qemu"] {
        for entry in fs::read_dir(dir).with_context(|| format!("listing {dir}"))? {
            let path = entry.with_context(|| format!("listing {dir}"))?.path();
            let is_firmware = path.extension().is_some_and(|kind| kind == "bin" || kind == "rom");
            if is_firmware && path.exists() {
                files.push(path);
            }
        }
    }
    let kernel = kernel::find(&place.cache, "stock")?;
    let image =
        kernel.image.strip_prefix(place.cache.root()).context("a kernel outside the root")?;
    files.push(Path::new("/").join(image));
    Ok(files)
}

/// What tells a command in a machine with the shared root, or what [`vmm`] names of it, where the files are.
pub fn environment(place: &Place) -> Result<Vec<(String, String)>> {
    let kernel: Kernel = kernel::find(&place.cache, "stock")?;
    let image =
        kernel.image.strip_prefix(place.cache.root()).context("a kernel outside the root")?;
    Ok(vec![
        ("GUEST_KERNEL".into(), format!("/{}", image.display())),
        ("GUEST_VMLINUX".into(), format!("/{VMLINUX}")),
        ("GUEST_DEBIAN".into(), format!("/{DEBIAN}")),
        ("GUEST_INITRAMFS".into(), format!("{}/{INITRAMFS}", proto::job::WORK_DIR)),
    ])
}
