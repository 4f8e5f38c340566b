// SPDX-License-Identifier: GPL-2.0
//! Memory that is held while VMMs come and go.

use std::fs;

use anyhow::{Context, Result};

use crate::memory::{kernel_kib, sum};

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

/// KiB that programs could still get.
pub(crate) fn available_kib() -> Result<i64> {
    sum(&["MemAvailable:"])
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
