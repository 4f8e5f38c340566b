// SPDX-License-Identifier: GPL-2.0
//! Counts of interrupts.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use proto::Fields;

use crate::cpu;

/// How long a busy processor may take to get its next timer interrupt.
const PATIENCE: Duration = Duration::from_secs(20);

/// Device interrupts that are told, by the word in their last column.
const DEVICES: &[&str] = &["virtio", "ttyS0"];

/// Waits on every processor for two timer interrupts, and tells the counts: `timerN` by processor, and sums
/// of those of devices.
pub(crate) fn count() -> Result<Fields> {
    let mut fields = Fields::new();
    for cpu in cpu::online()? {
        let count = await_timer(cpu)?;
        fields = fields.with(&format!("timer{cpu}"), count);
    }
    let mut sums: BTreeMap<&str, u64> = DEVICES.iter().map(|device| (*device, 0)).collect();
    for line in read()?.lines() {
        let Some(device) = DEVICES.iter().find(|device| line.contains(**device)) else { continue };
        let counts: u64 =
            line.split_whitespace().skip(1).map_while(|w| w.parse::<u64>().ok()).sum();
        *sums.entry(device).or_default() += counts;
    }
    Ok(sums.iter().fold(fields, |fields, (device, sum)| fields.with(device, sum)))
}

/// Keeps processor `cpu` busy until its timer has interrupted it twice; the count by then.
fn await_timer(cpu: usize) -> Result<u64> {
    let here = Pid::from_raw(0);
    let all = nix::sched::sched_getaffinity(here).context("asking for the processors")?;
    let mut one = CpuSet::new();
    one.set(cpu).context("a processor number")?;
    sched_setaffinity(here, &one).with_context(|| format!("moving to processor {cpu}"))?;
    let result = (|| {
        let (before, start) = (timer(cpu)?, Instant::now());
        while start.elapsed() < PATIENCE {
            let now = timer(cpu)?;
            if now >= before + 2 {
                return Ok(now);
            }
        }
        bail!("processor {cpu} gets no timer interrupts")
    })();
    sched_setaffinity(here, &all).context("moving back")?;
    result
}

/// Timer interrupts of `cpu` so far: of its local timer, or where that isn't used, of the PIT.
fn timer(cpu: usize) -> Result<u64> {
    let text = read()?;
    let mut sum = 0;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or("");
        if first == "LOC:" || line.ends_with(" timer") {
            sum += words.nth(cpu).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(sum)
}

fn read() -> Result<String> {
    fs::read_to_string("/proc/interrupts").context("reading /proc/interrupts")
}
