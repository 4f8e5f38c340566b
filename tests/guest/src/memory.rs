// SPDX-License-Identifier: GPL-2.0
//! Memory: how much there is, and whether it holds what was put there.

use std::fs;

use anyhow::{Context, Result, ensure};
use guest_load::Stream;
use proto::Fields;

use crate::commands::Arguments;

/// Total and free memory in KiB.
pub(crate) fn describe() -> Result<Fields> {
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.split_whitespace().next()).unwrap_or("?").to_owned()
    };
    Ok(Fields::new().with("total", value("MemTotal:")).with("free", value("MemFree:")))
}

/// `fill SEED MIB`: fills memory, and reads it all back afterwards.
pub(crate) fn fill(words: &mut Arguments<'_>) -> Result<Fields> {
    const PAGE: usize = 4096;
    let mut stream = Stream::new(words.next("seed")?);
    let mib: usize = words.next("number of MiB")?;
    let mut memory = vec![0_u8; mib * 1024 * 1024];
    // A word a page is enough: what may go wrong goes wrong by pages.
    let words: Vec<u64> = (0..memory.len() / PAGE).map(|_| stream.word()).collect();
    for (page, word) in memory.chunks_exact_mut(PAGE).zip(&words) {
        page[..8].copy_from_slice(&word.to_le_bytes());
    }
    for (number, (page, word)) in memory.chunks_exact(PAGE).zip(&words).enumerate() {
        ensure!(page[..8] == word.to_le_bytes(), "page {number} of {} changed", words.len());
    }
    Ok(Fields::new().with("pages", words.len()))
}

/// From now on, memory that is plugged in comes online so that it can be unplugged again.
pub(crate) fn online_movable() -> Result<Fields> {
    let path = "/sys/devices/system/memory/auto_online_blocks";
    fs::write(path, "online_movable").with_context(|| format!("writing {path}"))?;
    Ok(Fields::new())
}
