// SPDX-License-Identifier: GPL-2.0
//! What the modules and their objects take of the host's memory.

use std::fs;

use anyhow::{Context, Result};
use micro::device;
use micro::request::{self, make};

use crate::sample::{Bench, Figure};

pub(crate) const BENCHES: &[Bench] = &[
    Bench { name: "size/modules", what: "the loaded modules", body: modules },
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

/// Bytes that nobody uses: those that the kernel says are free, and pages that CPUs hold ready. They
/// take dozens at a time, as much as all objects of a sample need.
fn free() -> Result<u64> {
    let zones = fs::read_to_string("/proc/zoneinfo").context("reading /proc/zoneinfo")?;
    let ready = zones.lines().filter_map(|line| line.trim_start().strip_prefix("count:"));
    let ready: u64 = ready.filter_map(|count| count.trim().parse::<u64>().ok()).sum();
    Ok(free_pages()? + ready * PAGE)
}

/// What isn't even ready.
fn free_pages() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemFree:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("no MemFree")?.parse::<u64>()? * 1024)
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
        let before = free()?;
        for index in 0..COUNT {
            alive.push(make(&with, index)?);
        }
        samples.push(before.saturating_sub(free()?));
        owners.push(with);
    }
    // The first fills caches.
    samples.remove(0);
    Ok(Figure::new("bytes", samples, COUNT)?.typical())
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
