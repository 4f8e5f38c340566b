// SPDX-License-Identifier: GPL-2.0
//! What was called how often, and how often that went well: a fuzzer that is always refused finds nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};

use crate::table::TABLE;

/// Counters of all processes.
pub(crate) struct Counts([Count; TABLE.len()]);

struct Count {
    calls: AtomicU64,
    successes: AtomicU64,
}

impl Counts {
    /// Counters that children share with this process.
    pub(crate) fn shared() -> Result<&'static Counts> {
        // SAFETY: a new mapping.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Counts>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context("mapping counters");
        }
        // SAFETY: zeroes are valid counters, the mapping is as long and never goes.
        Ok(unsafe { &*address.cast::<Counts>() })
    }

    /// Counts a call of entry `index` of the table.
    pub(crate) fn add(&self, index: usize, went_well: bool) {
        if let Some(count) = self.0.get(index) {
            count.calls.fetch_add(1, Relaxed);
            count.successes.fetch_add(went_well.into(), Relaxed);
        }
    }

    /// Prints a line for each request.
    pub(crate) fn print(&self) {
        println!("{:<32} {:>10} {:>10}", "request", "calls", "successes");
        for (entry, count) in TABLE.iter().zip(&self.0) {
            let (calls, successes) = (count.calls.load(Relaxed), count.successes.load(Relaxed));
            println!("{:<32} {calls:>10} {successes:>10}", entry.name);
        }
    }
}
