// SPDX-License-Identifier: GPL-2.0
//! What several vCPUs cost that do the same at once: the work of all, and their waiting for each other.

use std::sync::{Barrier, Mutex};
use std::thread;

use anyhow::{Context, Error, Result, ensure};
use micro::mode::Mode;
use micro::ram::Ram;
use micro::stats::Stats;
use micro::vcpu::Vcpu;
use micro::vm::Vm;
use micro::{Skip, guest};
use nix::sys::mman::{MapFlags, MmapAdvise};

use crate::memory::{self, PLACE};
use crate::sample::{Bench, Figure, now};

pub(crate) const BENCHES: &[Bench] = &[Bench {
    name: "crowd/fault-4k",
    what: "first touch of 4 KiB that the VMM has, four vCPUs at once",
    body: touch,
}];

const VCPUS: u32 = 4;
/// What each of them touches.
const SHARE: u64 = 4 << 20;
const PAGES: u64 = SHARE / 4096 * VCPUS as u64;

/// A vCPU that touches its part of the slot each time it is entered.
fn toucher(vm: &Vm, id: u32) -> Result<Vcpu> {
    let vcpu = vm.vcpu(id)?;
    let code = guest!(64;
        "3:", "mov rbx, r8", "lea rbp, [rbx + {size}]",
        "2:", "mov byte ptr [rbx], 1", "add rbx, 4096", "cmp rbx, rbp", "jb 2b",
        "out 0xe8, eax", "jmp 3b";
        size = SHARE
    );
    vcpu.start(Mode::Long, code)?;
    vcpu.change_regs(|regs| regs.r8 = PLACE + u64::from(id) * SHARE)?;
    Ok(vcpu)
}

/// All of it over the number of faults, on a clock that counts the instructions of all processors.
fn touch() -> Result<Figure> {
    let processors = thread::available_parallelism().context("how many processors there are")?;
    if processors.get() < 2 {
        return Err(Skip("there is one processor only".into()).into());
    }
    let vm = Vm::new()?;
    let ram = Ram::with_flags(
        SHARE as usize * VCPUS as usize,
        MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE,
    )?;
    ram.advise(MmapAdvise::MADV_NOHUGEPAGE)?;
    memory::populate(&ram)?;
    let mut vcpus = (0..VCPUS).map(|id| toucher(&vm, id)).collect::<Result<Vec<_>>>()?;
    let stats = vcpus.iter().map(|vcpu| Stats::open(vcpu.file())).collect::<Result<Vec<_>>>()?;
    let faults = || stats.iter().map(|stats| stats.value("pf_taken")).sum::<Result<u64>>();
    together(&mut vcpus, |all_touch| {
        memory::samples(PAGES, || {
            memory::remove_slot(&vm, &ram)?;
            vm.add_slot(1, PLACE, &ram)?;
            let before = faults()?;
            let time = all_touch();
            let taken = faults()? - before;
            ensure!((PAGES..PAGES * 2).contains(&taken), "{taken} faults for {PAGES} pages");
            Ok(time)
        })
    })
}

/// Has a thread for each of `vcpus`. What `body` is given enters all of them at once and tells how long it
/// took until all came out again.
fn together(
    vcpus: &mut [Vcpu],
    body: impl FnOnce(&dyn Fn() -> u64) -> Result<Figure>,
) -> Result<Figure> {
    let barrier = Barrier::new(vcpus.len() + 1);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let trouble: Mutex<Option<Error>> = Mutex::new(None);
    let run = |vcpu: &mut Vcpu| {
        loop {
            barrier.wait();
            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                return;
            }
            if let Err(error) = vcpu.report() {
                trouble
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                    .get_or_insert(error);
            }
            barrier.wait();
        }
    };
    let figure = thread::scope(|scope| {
        for vcpu in vcpus {
            scope.spawn(|| run(vcpu));
        }
        let figure = body(&|| {
            let start = now();
            barrier.wait();
            barrier.wait();
            now() - start
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        barrier.wait();
        figure
    });
    match trouble.into_inner() {
        Ok(Some(error)) => Err(error.context("a vCPU of several")),
        _ => figure,
    }
}
