// SPDX-License-Identifier: GPL-2.0
//! What the modules and their objects take of the host's memory.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use micro::device;
use micro::free;
use micro::guest;
use micro::ram::Ram;
use micro::request::{self, make};
use micro::stats::Stats;
use micro::vm::Vm;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::memory::{self, PLACE};
use crate::sample::{Bench, Figure};

pub(crate) const BENCHES: &[Bench] = &[
    Bench { name: "size/modules", what: "the loaded modules", body: modules },
    Bench { name: "size/mapped", what: "a slot of a GiB mapped by 4 KiB", body: mapped },
    Bench { name: "size/vm", what: "a VM that has nothing", body: vm },
    Bench { name: "size/vcpu", what: "a vCPU with a local APIC", body: vcpu },
];

/// Objects that are made at once: allocators give and take whole pages.
const COUNT: u64 = 32;

const PAGE: u64 = 4096;

/// Samples: each is an average already.
const SAMPLES: usize = 7;

/// Text, data and bss of kvm and the vendor's module, as the kernel has them in memory.
fn modules() -> Result<Figure> {
    let mut all = 0;
    for name in ["kvm", "kvm_amd", "kvm_intel"] {
        if let Ok(text) = fs::read_to_string(format!("/sys/module/{name}/coresize")) {
            all += text.trim().parse::<u64>().context("a module's size")?;
        }
    }
    Figure::new("bytes", vec![all], 1)
}

/// What [`COUNT`] objects take. All live to the end: what was freed would serve the next ones.
fn taken<T>(
    mut prepare: impl FnMut() -> Result<T>,
    make: impl Fn(&T, u64) -> Result<fs::File>,
) -> Result<Figure> {
    let mut samples = Vec::with_capacity(SAMPLES);
    let (mut alive, mut owners) = (Vec::new(), Vec::new());
    for _ in 0..=SAMPLES {
        let with = prepare()?;
        let before = free::bytes()?;
        for index in 0..COUNT {
            alive.push(make(&with, index)?);
        }
        samples.push(before.saturating_sub(free::bytes()?));
        owners.push(with);
    }
    // The first fills caches.
    samples.remove(0);
    Ok(Figure::new("bytes", samples, COUNT)?.typical())
}

/// What the kernel keeps for a GiB of a guest's memory, all of it mapped. The machine needn't have as much: a
/// small file lies there many times.
fn mapped() -> Result<Figure> {
    const PIECE: usize = 2 << 20;
    const PIECES: usize = 512;
    const PAGES: u64 = (PIECE * PIECES) as u64 / PAGE;
    let file = memfd_create(c"piece", MFdFlags::empty()).context("memfd_create")?;
    let file = fs::File::from(file);
    file.set_len(PIECE as u64).context("sizing the file")?;
    let ram = Ram::repeated(&file, PIECE, PIECES)?;
    // The VMM's own tables are there before.
    memory::populate(&ram)?;
    let mut samples = Vec::new();
    // All live to the end: what goes is free again some time later only.
    let mut alive = Vec::new();
    for _ in 0..3 {
        let vm = Vm::new()?;
        let vm_stats = Stats::open(vm.file())?;
        let mut vcpu = vm.long(guest!(64;
            "out 0xe8, eax",
            "mov rbx, {place}", "lea rbp, [rbx + {size}]",
            "2:", "mov byte ptr [rbx], 1", "add rbx, 4096", "cmp rbx, rbp", "jb 2b",
            "out 0xe8, eax";
            place = PLACE, size = PIECE * PIECES
        ))?;
        vcpu.set_limit(Duration::from_secs(120));
        // What the guest has otherwise is there then.
        vcpu.report()?;
        let before = free::bytes()?;
        vm.add_slot(1, PLACE, &ram)?;
        vcpu.report()?;
        samples.push(before.saturating_sub(free::bytes()?));
        let mapped = vm_stats.value("pages_4k")?;
        ensure!(mapped >= PAGES, "{mapped} of {PAGES} pages are mapped");
        alive.push((vm, vcpu));
    }
    // The first fills caches.
    samples.remove(0);
    Ok(Figure::new("bytes", samples, 1)?.typical())
}

fn vm() -> Result<Figure> {
    taken(device::open, |kvm, _| make(kvm, request::CREATE_VM, 0).context("KVM_CREATE_VM"))
}

fn vcpu() -> Result<Figure> {
    let kvm = device::open()?;
    let prepare = || {
        let vm = make(&kvm, request::CREATE_VM, 0).context("KVM_CREATE_VM")?;
        request::call(&vm, request::CREATE_IRQCHIP, 0).context("KVM_CREATE_IRQCHIP")?;
        Ok(vm)
    };
    taken(prepare, |vm, index| make(vm, request::CREATE_VCPU, index).context("KVM_CREATE_VCPU"))
}
