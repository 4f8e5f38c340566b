// SPDX-License-Identifier: GPL-2.0
//! How much memory the kernel holds for itself.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Lines of /proc/meminfo that a leaking module makes grow.
const LINES: [&str; 4] = ["SUnreclaim:", "VmallocUsed:", "Percpu:", "PageTables:"];

/// There on a kernel that looks for leaks itself, after the run.
const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";

/// Does `round` a few times, one of which leaves no more than `limit` KiB behind.
///
/// The first fills caches that stay. Other parts of the system allocate as well, and what holds per-CPU
/// variables comes and goes in large pieces, so one good round of the rest is enough: a leak is in all of
/// them. A kernel that watches its memory holds on to what was
/// freed; there only the rounds are done, and what they leak it reports itself.
pub(crate) fn leaves_nothing(limit: i64, round: impl Fn() -> Result<()>) -> Result<()> {
    round()?;
    let mut growth = 0;
    for _ in 0..8 {
        let before = kernel_kib()?;
        round()?;
        growth = kernel_kib()? - before;
        if growth <= limit || Path::new(KMEMLEAK).exists() {
            return Ok(());
        }
    }
    bail!("each round leaves {growth} KiB behind")
}

/// Lines that together hold all memory whose user is known, apart from what is free.
const ACCOUNTED: [&str; 10] = [
    "Buffers:",
    "Cached:",
    "SwapCached:",
    "AnonPages:",
    "Slab:",
    "KernelStack:",
    "PageTables:",
    "SecPageTables:",
    "VmallocUsed:",
    "Percpu:",
];

/// KiB of unreclaimable kernel memory.
fn kernel_kib() -> Result<i64> {
    sum(&LINES)
}

/// KiB that programs could still get.
pub(crate) fn available_kib() -> Result<i64> {
    sum(&["MemAvailable:"])
}

/// Whether the kernel looks for leaks itself; it holds on to freed memory then.
pub(crate) fn is_watched() -> bool {
    Path::new(KMEMLEAK).exists()
}

/// Memory that modules may hold, in KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Unreclaimable kernel memory.
    pub(crate) kernel: i64,
    /// Memory that no line of /proc/meminfo accounts for: pages that somebody holds a reference to.
    pub(crate) lost: i64,
}

impl Held {
    /// What is held once everything that can be given back was.
    pub(crate) fn now() -> Result<Self> {
        nix::unistd::sync();
        for _ in 0..3 {
            fs::write("/proc/sys/vm/drop_caches", "3").context("dropping caches")?;
            // What RCU frees takes its time.
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        let lost = sum(&["MemTotal:"])? - sum(&["MemFree:"])? - sum(&ACCOUNTED)?;
        Ok(Self { kernel: kernel_kib()?, lost })
    }

    /// The growth since `before`.
    pub(crate) fn since(self, before: &Self) -> Self {
        Self { kernel: self.kernel - before.kernel, lost: self.lost - before.lost }
    }
}

/// The sum of lines of /proc/meminfo, in KiB.
fn sum(keys: &[&str]) -> Result<i64> {
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let mut sum = 0;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next().is_some_and(|key| keys.contains(&key)) {
            sum += words.next().unwrap_or("0").parse::<i64>()?;
        }
    }
    Ok(sum)
}
