// SPDX-License-Identifier: GPL-2.0
//! What guest memory costs: first touches, the log of written pages, changes of the slots and of the
//! VMM's memory.

use anyhow::{Context, Result, ensure};
use kvm_bindings as abi;
use micro::deadline::{self, Deadline};
use micro::guest;
use micro::ram::Ram;
use micro::request;
use micro::stats::Stats;
use micro::vcpu::Vcpu;
use micro::vm::Vm;
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise};

use crate::exits::report;
use crate::sample::{Bench, Figure, SAMPLES, now};

pub(crate) const BENCHES: &[Bench] = &[
    Bench { name: "fault/4k", what: "first touch of 4 KiB that the VMM has", body: touch_small },
    Bench { name: "fault/2m", what: "first touch of 2 MiB that the VMM has", body: touch_large },
    Bench { name: "fault/fresh", what: "first touch of 4 KiB that nobody had", body: touch_fresh },
    Bench { name: "dirty/enable", what: "turning the log on, per mapped 4 KiB", body: log_on },
    Bench { name: "dirty/write", what: "first write to a logged page", body: log_write },
    Bench { name: "dirty/get", what: "KVM_GET_DIRTY_LOG, per written page", body: log_get },
    Bench { name: "dirty/clear", what: "KVM_CLEAR_DIRTY_LOG, per written page", body: log_clear },
    Bench { name: "memory/zap", what: "madvise(DONTNEED), per mapped page", body: zap },
    Bench {
        name: "memory/slot-move",
        what: "a slot and its pages moved, per page",
        body: slot_move,
    },
];

/// Where the slot lies.
pub(crate) const PLACE: u64 = 1 << 30;
const SIZE: usize = 8 << 20;
const PAGES: u64 = (SIZE / 4096) as u64;
const LARGE: u64 = (SIZE >> 21) as u64;

/// A guest that touches all of the slot at a stride each time it is entered.
struct Toucher {
    vm: Vm,
    vcpu: Vcpu,
    ram: Ram,
    stats: Stats,
    vm_stats: Stats,
}

impl Toucher {
    /// `advice` says of what pages the VMM's memory is; `populated`: they are there already.
    fn new(advice: MmapAdvise, populated: bool) -> Result<Self> {
        let vm = Vm::new()?;
        let ram = Ram::with_flags(SIZE, MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE)?;
        ram.advise(advice)?;
        if populated {
            populate(&ram)?;
        }
        let stride = if advice == MmapAdvise::MADV_HUGEPAGE { 2 << 20 } else { 4096 };
        let vcpu = vm.long(guest!(64;
            "3:", "mov rbx, {place}", "lea rbp, [rbx + {size}]",
            "rdtsc", "shl rdx, 32", "lea r14, [rax + rdx]",
            "2:", "mov byte ptr [rbx], 1", "add rbx, r8", "cmp rbx, rbp", "jb 2b",
            "rdtsc", "shl rdx, 32", "or rax, rdx", "sub rax, r14",
            "out 0xe8, eax", "jmp 3b";
            place = PLACE, size = SIZE
        ))?;
        vcpu.change_regs(|regs| regs.r8 = stride)?;
        let (stats, vm_stats) = (Stats::open(vcpu.file())?, Stats::open(vm.file())?);
        let toucher = Self { vm, vcpu, ram, stats, vm_stats };
        toucher.set_slot(0)?;
        Ok(toucher)
    }

    fn slot(&self, flags: u32) -> abi::kvm_userspace_memory_region {
        abi::kvm_userspace_memory_region { flags, ..self.vm.slot(1, PLACE, &self.ram) }
    }

    fn set_slot(&self, flags: u32) -> Result<()> {
        self.vm.set_slot(&self.slot(flags)).map(|_| ()).context("the slot")
    }

    /// Touches everything; how long that took.
    fn touch(&mut self) -> Result<u64> {
        let _limit = Deadline::start(deadline::LIMIT)?;
        self.vcpu.enter().with_context(|| format!("KVM_RUN; {}", self.vcpu.place()))?;
        report(&mut self.vcpu).map(u64::from).context("no report")
    }

    /// Touches everything and checks that each page was a fault.
    fn touch_anew(&mut self, pages: u64) -> Result<u64> {
        let before = self.stats.value("pf_taken")?;
        let time = self.touch()?;
        let faults = self.stats.value("pf_taken")? - before;
        ensure!((pages..pages * 2).contains(&faults), "{faults} faults for {pages} pages");
        Ok(time)
    }

    /// Fails unless the slot is mapped by as many pages of 4 KiB.
    fn is_mapped(&self) -> Result<()> {
        let mapped = self.vm_stats.value("pages_4k")?;
        ensure!(mapped >= PAGES, "{mapped} of {PAGES} pages are mapped");
        Ok(())
    }
}

/// Removes slot 1, which `ram` is behind, if it is there.
pub(crate) fn remove_slot(vm: &Vm, ram: &Ram) -> Result<()> {
    let none = abi::kvm_userspace_memory_region { memory_size: 0, ..vm.slot(1, PLACE, ram) };
    match vm.set_slot(&none) {
        Ok(_) | Err(Errno::EINVAL) => Ok(()),
        Err(error) => Err(error).context("removing the slot"),
    }
}

/// Makes all pages be there.
pub(crate) fn populate(ram: &Ram) -> Result<()> {
    (0..ram.size() as u64).step_by(4096).try_for_each(|at| ram.write(at, 1u8))
}

/// Takes [`SAMPLES`] samples, after one that doesn't count.
pub(crate) fn samples(count: u64, mut one: impl FnMut() -> Result<u64>) -> Result<Figure> {
    one()?;
    let samples: Result<Vec<u64>> = (0..SAMPLES / 4).map(|_| one()).collect();
    Figure::instructions(samples?, count)
}

fn touch_small() -> Result<Figure> {
    let mut toucher = Toucher::new(MmapAdvise::MADV_NOHUGEPAGE, true)?;
    samples(PAGES, || {
        remove_slot(&toucher.vm, &toucher.ram)?;
        toucher.set_slot(0)?;
        toucher.touch_anew(PAGES)
    })
}

fn touch_large() -> Result<Figure> {
    let mut toucher = Toucher::new(MmapAdvise::MADV_HUGEPAGE, true)?;
    samples(LARGE, || {
        remove_slot(&toucher.vm, &toucher.ram)?;
        toucher.set_slot(0)?;
        toucher.touch_anew(LARGE)
    })
}

fn touch_fresh() -> Result<Figure> {
    let mut toucher = Toucher::new(MmapAdvise::MADV_NOHUGEPAGE, false)?;
    samples(PAGES, || {
        toucher.ram.advise(MmapAdvise::MADV_DONTNEED)?;
        toucher.touch_anew(PAGES)
    })
}

/// The time of `work`.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let start = now();
    work()?;
    Ok(now() - start)
}

fn log_on() -> Result<Figure> {
    let mut toucher = Toucher::new(MmapAdvise::MADV_NOHUGEPAGE, true)?;
    samples(PAGES, || {
        toucher.set_slot(0)?;
        toucher.touch()?;
        toucher.is_mapped()?;
        timed(|| toucher.set_slot(abi::KVM_MEM_LOG_DIRTY_PAGES))
    })
}

type Bitmap = Vec<u64>;

/// The log; it has to name every page.
fn get_log(toucher: &Toucher, bitmap: &mut Bitmap) -> Result<()> {
    let mut log = abi::kvm_dirty_log { slot: 1, ..Default::default() };
    log.__bindgen_anon_1.dirty_bitmap = bitmap.as_mut_ptr().cast();
    request::give(toucher.vm.file(), request::GET_DIRTY_LOG, &log).context("KVM_GET_DIRTY_LOG")?;
    Ok(())
}

fn all_dirty(bitmap: &Bitmap) -> Result<()> {
    let dirty: u32 = bitmap.iter().map(|word| word.count_ones()).sum();
    ensure!(u64::from(dirty) == PAGES, "{dirty} of {PAGES} pages are dirty");
    Ok(())
}

fn log_write() -> Result<Figure> {
    let mut toucher = Toucher::new(MmapAdvise::MADV_NOHUGEPAGE, true)?;
    toucher.set_slot(abi::KVM_MEM_LOG_DIRTY_PAGES)?;
    let mut bitmap = vec![0; SIZE / 4096 / 64];
    toucher.touch()?;
    samples(PAGES, || {
        // Protects all pages again. Not every write has to be a fault: some processors log it.
        get_log(&toucher, &mut bitmap)?;
        all_dirty(&bitmap)?;
        toucher.touch()
    })
}

fn log_get() -> Result<Figure> {
    let mut toucher = Toucher::new(MmapAdvise::MADV_NOHUGEPAGE, true)?;
    toucher.set_slot(abi::KVM_MEM_LOG_DIRTY_PAGES)?;
    let mut bitmap = vec![0; SIZE / 4096 / 64];
    samples(PAGES, || {
        toucher.touch()?;
        let time = timed(|| get_log(&toucher, &mut bitmap))?;
        all_dirty(&bitmap)?;
        Ok(time)
    })
}

fn log_clear() -> Result<Figure> {
    let mut toucher = Toucher::new(MmapAdvise::MADV_NOHUGEPAGE, true)?;
    let manual = u64::from(abi::KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
    let enabled = toucher.vm.enable(abi::KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, [manual, 0, 0, 0]);
    enabled.context("KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2")?;
    toucher.set_slot(abi::KVM_MEM_LOG_DIRTY_PAGES)?;
    let mut bitmap = vec![0; SIZE / 4096 / 64];
    samples(PAGES, || {
        toucher.touch()?;
        get_log(&toucher, &mut bitmap)?;
        all_dirty(&bitmap)?;
        let mut log =
            abi::kvm_clear_dirty_log { slot: 1, num_pages: PAGES as u32, ..Default::default() };
        log.__bindgen_anon_1.dirty_bitmap = bitmap.as_mut_ptr().cast();
        timed(|| {
            request::exchange(toucher.vm.file(), request::CLEAR_DIRTY_LOG, &mut log)?;
            Ok(())
        })
    })
}

/// With the kernel's own cost of unmapping pages of a process.
fn zap() -> Result<Figure> {
    let mut toucher = Toucher::new(MmapAdvise::MADV_NOHUGEPAGE, false)?;
    samples(PAGES, || {
        toucher.touch()?;
        toucher.is_mapped()?;
        let time = timed(|| toucher.ram.advise(MmapAdvise::MADV_DONTNEED))?;
        let left = toucher.vm_stats.value("pages_4k")?;
        ensure!(left < PAGES, "{left} pages are mapped yet");
        Ok(time)
    })
}

fn slot_move() -> Result<Figure> {
    let mut toucher = Toucher::new(MmapAdvise::MADV_NOHUGEPAGE, true)?;
    samples(PAGES, || {
        toucher.set_slot(0)?;
        toucher.touch()?;
        toucher.is_mapped()?;
        let away = abi::kvm_userspace_memory_region {
            guest_phys_addr: PLACE + (1 << 30),
            ..toucher.slot(0)
        };
        timed(|| toucher.vm.set_slot(&away).map(|_| ()).context("moving the slot"))
    })
}
