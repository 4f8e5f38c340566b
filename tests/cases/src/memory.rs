// SPDX-License-Identifier: GPL-2.0
//! How much memory the kernel holds for itself.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use micro::free;

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
        if growth <= limit || is_watched() {
            return Ok(());
        }
    }
    bail!("each round leaves {growth} KiB behind")
}

/// As above for pages that no line of /proc/meminfo counts: fewer of them are free. `limit` is in bytes. Not for a
/// kernel that watches its memory.
pub(crate) fn leaves_no_page(limit: u64, round: impl Fn() -> Result<()>) -> Result<()> {
    round()?;
    let mut lost = 0;
    for _ in 0..8 {
        let before = free::bytes()?;
        round()?;
        lost = before.saturating_sub(free::bytes()?);
        if lost <= limit {
            return Ok(());
        }
    }
    bail!("each round leaves {lost} bytes less")
}

/// KiB of unreclaimable kernel memory.
pub(crate) fn kernel_kib() -> Result<i64> {
    sum(&LINES)
}

/// Whether the kernel looks for leaks itself; it holds on to freed memory then.
pub(crate) fn is_watched() -> bool {
    Path::new(KMEMLEAK).exists()
}

/// The sum of lines of /proc/meminfo, in KiB.
pub(crate) fn sum(keys: &[&str]) -> Result<i64> {
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
