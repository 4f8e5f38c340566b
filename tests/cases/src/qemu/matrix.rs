// SPDX-License-Identifier: GPL-2.0
//! Linux in all the ways QEMU is usually started.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::checks::{self, Disk, NIC};
use super::linux::{Image, Linux, options};
use super::vmm::Options;

/// Words for the guest's kernel.
const WORDS: &str = "quiet";

/// Words for it in a slow machine: half of a boot would be self-tests of cryptography.
const SLOW_WORDS: &str = "quiet cryptomgr.notests";

/// The whole life of a guest: boot, checks, a reboot from inside, checks, power off.
pub(crate) fn whole(machine: &str, smp: u32, image: Image) -> Result<()> {
    life(machine, smp, options(image, WORDS)?)
}

/// The same in a slow machine.
pub(crate) fn slow_whole(smp: u32) -> Result<()> {
    life("pc", smp, options(Image::Elf, SLOW_WORDS)?)
}

fn life(machine: &str, smp: u32, options: Options) -> Result<()> {
    let disk = Disk::new("whole.img")?;
    let mut options = options.with(&disk.arguments()).with(NIC);
    options.machine = machine.into();
    options.smp = smp;
    let mut guest = Linux::boot(&options)?;
    checks::cpu(&mut guest, smp)?;
    let before = checks::interrupts(&mut guest, smp, &[], None)?;
    checks::load(&mut guest, smp)?;
    checks::clock(&mut guest)?;
    checks::net(&mut guest)?;
    checks::disk_write(&mut guest)?;
    checks::interrupts(&mut guest, smp, &["virtio", "ttyS0"], Some(&before))?;
    guest.ask("log")?;
    guest.reboot()?;
    checks::cpu(&mut guest, smp)?;
    checks::disk_read(&mut guest)?;
    guest.power_off()?;
    disk.check()?;
    Ok(())
}

/// One boot with everything but the reboot, with other options.
pub(crate) fn variant(smp: u32, change: impl FnOnce(&mut Options)) -> Result<()> {
    one_boot(smp, options(Image::Elf, WORDS)?, change)
}

/// The same in a slow machine.
pub(crate) fn slow_variant(smp: u32, change: impl FnOnce(&mut Options)) -> Result<()> {
    one_boot(smp, options(Image::Elf, SLOW_WORDS)?, change)
}

fn one_boot(smp: u32, options: Options, change: impl FnOnce(&mut Options)) -> Result<()> {
    let disk = Disk::new("variant.img")?;
    let mut options = options.with(&disk.arguments()).with(NIC);
    options.smp = smp;
    change(&mut options);
    let mut guest = Linux::boot(&options)?;
    checks::cpu(&mut guest, smp)?;
    checks::load(&mut guest, smp)?;
    checks::net(&mut guest)?;
    checks::disk_write(&mut guest)?;
    checks::disk_read(&mut guest)?;
    checks::interrupts(&mut guest, smp, &["virtio", "ttyS0"], None)?;
    guest.power_off()?;
    disk.check()?;
    Ok(())
}

/// A boot to user space, and the way down again.
pub(crate) fn boot(smp: u32) -> Result<()> {
    let mut options = options(Image::Elf, SLOW_WORDS)?;
    options.smp = smp;
    let mut guest = Linux::boot(&options)?;
    checks::cpu(&mut guest, smp)?;
    guest.power_off()
}

/// Guest memory below and above the hole for devices at 4 GiB; the machine needn't have as much.
pub(crate) fn four_gib() -> Result<()> {
    const POLICY: &str = "/proc/sys/vm/overcommit_memory";
    let before = fs::read_to_string(POLICY).context("asking how memory is committed")?;
    fs::write(POLICY, "1").context("allowing more memory than there is")?;
    let result = variant(2, |options| options.memory = "4G".into());
    fs::write(POLICY, before).context("setting back how memory is committed")?;
    result
}

/// Guest memory from hugetlbfs: 2 MiB pages.
pub(crate) fn hugetlbfs() -> Result<()> {
    const PAGES: &str = "/proc/sys/vm/nr_hugepages";
    const DIR: &str = "/tmp/huge";
    fs::write(PAGES, "160").context("reserving huge pages")?;
    let reserved = fs::read_to_string(PAGES).context("asking for huge pages")?;
    ensure!(reserved.trim() == "160", "the machine has only {} huge pages", reserved.trim());
    fs::create_dir_all(DIR).context("making the mount point")?;
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("huge"), DIR, Some("hugetlbfs"), flags, None::<&str>)
        .context("mounting hugetlbfs")?;
    let result = variant(2, |options| {
        options.memory = "320M".into();
        options.machine = "pc,memory-backend=ram".into();
        options.more.extend(
            ["-object", "memory-backend-file,id=ram,size=320M,prealloc=on,mem-path=/tmp/huge"]
                .map(str::to_owned),
        );
    });
    nix::mount::umount(DIR).context("unmounting hugetlbfs")?;
    fs::write(PAGES, "0").context("giving huge pages back")?;
    result?;
    let left = fs::read_to_string(PAGES).context("asking for huge pages")?;
    ensure!(left.trim() == "0", "{} huge pages are still in use", left.trim());
    Ok(())
}
