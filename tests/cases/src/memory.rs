// SPDX-License-Identifier: GPL-2.0
//! How much memory the kernel holds for itself.

use std::fs;

use anyhow::{Context, Result};

/// Lines of /proc/meminfo that a leaking module makes grow.
const LINES: [&str; 4] = ["SUnreclaim:", "VmallocUsed:", "Percpu:", "PageTables:"];

/// KiB of unreclaimable kernel memory.
pub(crate) fn kernel_kib() -> Result<i64> {
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let mut sum = 0;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next().is_some_and(|key| LINES.contains(&key)) {
            sum += words.next().unwrap_or("0").parse::<i64>()?;
        }
    }
    Ok(sum)
}
