// SPDX-License-Identifier: GPL-2.0
//! How much of the machine's memory is free.

use std::fs;

use anyhow::{Context, Result};

const PAGE: u64 = 4096;

/// Bytes that nobody uses, to the page: with those that processors keep for themselves, dozens at a time, which
/// MemFree leaves out.
pub fn bytes() -> Result<u64> {
    // Processors keep counts back, too.
    fs::write("/proc/sys/vm/stat_refresh", "1").context("refreshing the kernel's counts")?;
    let zones = fs::read_to_string("/proc/zoneinfo").context("reading /proc/zoneinfo")?;
    Ok(pages(&zones) * PAGE)
}

fn pages(zones: &str) -> u64 {
    let counts = zones.lines().filter_map(|line| {
        let (name, value) = line.trim().split_once(char::is_whitespace)?;
        let is_free = matches!(name, "nr_free_pages" | "count:");
        if is_free { value.trim().parse::<u64>().ok() } else { None }
    });
    counts.sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn pages_of_zones_and_processors() {
        let zones = "Node 0, zone Normal\n  pages free     1000\n      nr_free_pages 1000\n      \
                     nr_free_pages_blocks 512\n  pagesets\n    cpu: 0\n              count:    63\n              \
                     high:     186\n    cpu: 1\n              count:    7\n";
        assert_eq!(super::pages(zones), 1070);
    }
}
