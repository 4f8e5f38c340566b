// SPDX-License-Identifier: GPL-2.0
//! The main job, for a person to watch: Linux under QEMU, its console live, and a summary.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::checks::{self, Disk, NIC};
use super::linux::{Image, Linux, options};
use super::qmp::Argument::Text;
use super::vmm::{Options, Vmm};

/// Runs it; the modules have to be loaded.
pub(crate) fn run() -> Result<()> {
    let disk = Disk::new("main.img")?;
    let mut options = options(Image::Compressed, "")?.with(&disk.arguments()).with(NIC);
    options.show = true;
    println!("$ {}\n", options.command_line());
    let start = Instant::now();
    let mut guest = Linux::boot(&options)?;
    let booted = start.elapsed();
    checks::cpu(&mut guest, options.smp)?;
    let before = checks::interrupts(&mut guest, options.smp, &[], None)?;
    checks::load(&mut guest, options.smp)?;
    checks::net(&mut guest)?;
    checks::disk_write(&mut guest)?;
    checks::disk_read(&mut guest)?;
    checks::interrupts(&mut guest, options.smp, &["virtio", "ttyS0"], Some(&before))?;
    let exits = exits(&mut guest.vmm);
    let release = checks::value(&guest.ready, "release")?.to_owned();
    guest.power_off()?;
    disk.check()?;
    summary(&options, &release, booted, start.elapsed(), exits);
    Ok(())
}

fn summary(
    options: &Options,
    release: &str,
    booted: Duration,
    whole: Duration,
    exits: Result<Exits>,
) {
    println!("\nran      Linux {release}, {} processors, {}", options.smp, options.memory);
    println!("checked  hypervisor, clock, load on every processor, timer and device interrupts,");
    println!("         TCP over virtio-net, ext4 on virtio-blk, power off");
    println!(
        "time     {:.1} s to its user space, {:.1} s in all",
        booted.as_secs_f32(),
        whole.as_secs_f32()
    );
    match exits {
        Ok(exits) => {
            println!("exits    {} of all processors, by reason:", exits.total);
            for (name, count) in &exits.reasons {
                println!("         {count:>9}  {name}");
            }
        }
        Err(error) => println!("exits    unknown: {error:#}"),
    }
}

/// Exits of all processors together.
struct Exits {
    total: u64,
    /// The most frequent first.
    reasons: Vec<(String, u64)>,
}

/// Asks the kernel, through QEMU, how often the processors left the guest.
fn exits(vmm: &mut Vmm) -> Result<Exits> {
    let answer = vmm.qmp.execute_with("query-stats", &[("target", Text("vcpu"))])?;
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for provider in answer.elements() {
        for entry in provider.field("stats").elements() {
            let name = entry.field("name").text().to_owned();
            let Some(value) = entry.field("value").number() else { continue };
            if name == "exits" || name.ends_with("_exits") {
                *sums.entry(name).or_default() += value;
            }
        }
    }
    let total = sums.remove("exits").context("no count of exits")?;
    let mut reasons: Vec<(String, u64)> =
        sums.into_iter().filter(|(_, count)| *count > 0).collect();
    reasons.sort_by(|left, right| right.1.cmp(&left.1));
    Ok(Exits { total, reasons })
}
