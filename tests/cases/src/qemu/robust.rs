// SPDX-License-Identifier: GPL-2.0
//! VMMs that die and many of them at once: nothing is left behind.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use guest_load::Stream;

use crate::processor::Processor;
use crate::{memory, module};

use super::bare::{Code, DONE, Floppy};
use super::checks::{self, Disk, NIC, SEED};
use super::held::{self, Held};
use super::linux::{Image, Linux, options};
use super::qmp::Argument::{Number, Text};
use super::vmm::Vmm;

/// How long a boot sector may take, with many others beside it.
const SECTOR: Duration = Duration::from_secs(500);

/// QEMU is killed at random moments of a guest's boot and work.
pub(crate) fn kill(times: u64, latest: Duration) -> Result<()> {
    let mut random = Stream::new(SEED);
    let mut once = |number: u64| -> Result<()> {
        let smp = u32::try_from(1 + number % 3)?;
        let disk = Disk::new("kill.img")?;
        let mut options = options(Image::Elf, "quiet")?.with(&disk.arguments()).with(NIC);
        options.smp = smp;
        let moment = Duration::from_millis(random.below(u64::try_from(latest.as_millis())?));
        let mut vmm = Vmm::start(&options)?;
        // Work is asked for in advance: the guest finds it when it is up.
        vmm.console.type_line(&format!("disk-write {SEED} 4096"))?;
        vmm.console.type_line(&format!("load {SEED} 1000"))?;
        thread::sleep(moment);
        ensure!(vmm.ended()?.is_none(), "QEMU ended by itself: {}", vmm.words());
        vmm.kill()
    };
    let rounds = rounds();
    leaves_nothing(|round| {
        (round * times / rounds..(round + 1) * times / rounds).try_for_each(&mut once)
    })
}

/// A guest boots again and again, each time in a new QEMU: none stands still.
pub(crate) fn boots(times: u32) -> Result<()> {
    let options = options(Image::Elf, "quiet")?;
    (0..times).try_for_each(|number| {
        let boot = Linux::boot(&options).with_context(|| format!("boot {number}"));
        boot?.vmm.quit()
    })
}

/// `count` guests at once; each does its work.
pub(crate) fn at_once(count: usize) -> Result<()> {
    let floppy = Floppy::new("ticks.img", Code::Ticks, &[])?;
    let options = floppy.options();
    leaves_nothing(|_| {
        let mut vmms = Vec::new();
        for number in 0..count {
            let vmm = Vmm::start(&options).with_context(|| format!("guest {number}"))?;
            vmms.push(vmm);
        }
        for (number, vmm) in vmms.iter_mut().enumerate() {
            let done = vmm.console.expect(DONE, SECTOR);
            done.map_err(|error| vmm.explain(error.context(format!("guest {number}"))))?;
        }
        // Half of them end well.
        for vmm in vmms.iter_mut().step_by(2) {
            vmm.quit()?;
        }
        Ok(())
    })
}

/// As many guests as memory holds: each further one either runs or is refused, and those before it live on.
pub(crate) fn many() -> Result<()> {
    const RESERVE_KIB: i64 = 150 * 1024;
    let floppy = Floppy::new("ticks.img", Code::Ticks, &[])?;
    let options = floppy.options();
    leaves_nothing(|_| {
        let mut vmms: Vec<Vmm> = Vec::new();
        while held::available_kib()? > RESERVE_KIB {
            match Vmm::start(&options) {
                Ok(mut vmm) => {
                    let done = vmm.console.expect(DONE, SECTOR);
                    done.map_err(|error| vmm.explain(error))?;
                    vmms.push(vmm);
                }
                Err(error) if vmms.len() > 10 => {
                    ensure!(format!("{error:#}").contains("memory"), "{error:#}");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        eprintln!("{} guests", vmms.len());
        for vmm in &mut vmms {
            ensure!(vmm.ended()?.is_none(), "a guest was lost: {}", vmm.words());
            vmm.qmp.await_status("running", Duration::ZERO)?;
        }
        Ok(())
    })
}

/// The guest gives memory back by a balloon, and QEMU gives that to the host: pages vanish under a running
/// guest, and come back when it wants them.
pub(crate) fn balloon() -> Result<()> {
    // A page goes at a time, with a flush of the guest's TLBs for each.
    const WHOLE: u64 = 512 << 20;
    const SMALL: u64 = 488 << 20;
    const GIVEN_KIB: u64 = 16 * 1024;
    // The host would fill the holes again, given time, to make huge pages of what is around them.
    const HOLES: &str = "/sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none";
    fs::write(HOLES, "0").context("keeping holes")?;
    let options = options(Image::Elf, "quiet")?.with("-device virtio-balloon-pci");
    let mut guest = Linux::boot(&options)?;
    guest.ask(&format!("start {SEED} 16"))?;
    for _ in 0..2 {
        guest.ask(&format!("fill {SEED} 300"))?;
        let before = checks::resident_kib(guest.vmm.pid())?;
        balloon_to(&mut guest, SMALL)?;
        let after = checks::resident_kib(guest.vmm.pid())?;
        ensure!(after + GIVEN_KIB < before, "QEMU held {before} KiB, and then {after} KiB");
        balloon_to(&mut guest, WHOLE)?;
    }
    guest.ask("stop")?;
    checks::load(&mut guest, 2)?;
    guest.power_off()?;
    Ok(())
}

fn balloon_to(guest: &mut Linux, bytes: u64) -> Result<()> {
    guest.vmm.qmp.execute_with("balloon", &[("value", Number(bytes))])?;
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let state = guest.vmm.qmp.execute("query-balloon")?;
        if state.field("actual").number() == Some(bytes) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the balloon stays at {state}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A memory module comes and goes while the guest works: its slot, and QEMU's mapping below it.
pub(crate) fn unplug() -> Result<()> {
    const SIZE: u64 = 128 << 20;
    let mut options = options(Image::Elf, "quiet")?;
    options.memory = "512M,slots=2,maxmem=2G".into();
    let mut guest = Linux::boot(&options)?;
    guest.ask("online-movable")?;
    guest.ask(&format!("start {SEED} 16"))?;
    for round in 0..3 {
        let small = checks::number(&guest.ask("memory")?, "total")?;
        let kind = Text("memory-backend-ram");
        let backend = [("qom-type", kind), ("id", Text("more")), ("size", Number(SIZE))];
        guest.vmm.qmp.execute_with("object-add", &backend)?;
        let module = [("driver", Text("pc-dimm")), ("id", Text("dimm")), ("memdev", Text("more"))];
        guest.vmm.qmp.execute_with("device_add", &module)?;
        await_total(&mut guest, |total| total >= small + SIZE / 1024)
            .with_context(|| format!("plugging in, round {round}"))?;
        guest.ask(&format!("fill {SEED} 100"))?;
        guest.vmm.qmp.execute_with("device_del", &[("id", Text("dimm"))])?;
        guest.vmm.qmp.event("DEVICE_DELETED", Duration::from_secs(120))?;
        guest.vmm.qmp.execute_with("object-del", &[("id", Text("more"))])?;
        await_total(&mut guest, |total| total == small)
            .with_context(|| format!("unplugging, round {round}"))?;
        guest.ask(&format!("fill {SEED} 100"))?;
    }
    guest.ask("stop")?;
    guest.power_off()?;
    Ok(())
}

/// Waits until the guest's total memory in KiB is as wanted.
fn await_total(guest: &mut Linux, wanted: impl Fn(u64) -> bool) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let total = checks::number(&guest.ask("memory")?, "total")?;
        if wanted(total) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the guest has {total} KiB");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Rounds of [`leaves_nothing`]. A kernel that looks for leaks itself needs no comparison, and takes its time.
fn rounds() -> u64 {
    if memory::is_watched() { 1 } else { 4 }
}

/// KiB that a round may leave behind: caches of the system grow by that much.
const TOLERANCE_KIB: i64 = 512;

/// Runs rounds of `work`. After each the modules can be unloaded, and in one round at least the kernel holds no
/// more memory afterwards than before: what leaks leaks in all of them. The first fills caches. (A kernel that
/// looks for leaks itself is left to do that.)
pub(crate) fn leaves_nothing(mut work: impl FnMut(u64) -> Result<()>) -> Result<()> {
    let mut growths = Vec::new();
    for round in 0..rounds() {
        let before = Held::now()?;
        work(round).with_context(|| format!("round {round}"))?;
        let vendor = Processor::current()?.vendor_module();
        let references = module::references(vendor)?;
        ensure!(references == 0, "round {round} leaves {references} references to {vendor}");
        module::unload_all().with_context(|| format!("after round {round}"))?;
        let growth = Held::now()?.since(&before);
        module::load_all()?;
        growths.push(growth);
    }
    let later = &growths[1..];
    let least_kernel = later.iter().map(|growth| growth.kernel).min().unwrap_or(0);
    let least_lost = later.iter().map(|growth| growth.lost).min().unwrap_or(0);
    eprintln!("growth by round: {growths:?}");
    if !memory::is_watched() && (least_kernel > TOLERANCE_KIB || least_lost > TOLERANCE_KIB) {
        bail!("memory leaks: {growths:?}");
    }
    Ok(())
}
