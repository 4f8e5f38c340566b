// SPDX-License-Identifier: GPL-2.0
//! The processors and clocks as the guest sees them.

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use proto::Fields;

use crate::commands::Arguments;

const CLOCKS: &str = "/sys/devices/system/clocksource/clocksource0";

/// The hypervisor, the clock and the processors.
pub(crate) fn describe() -> Result<Fields> {
    let clock = |file: &str| {
        let path = format!("{CLOCKS}/{file}");
        fs::read_to_string(&path).with_context(|| format!("reading {path}"))
    };
    let online: Vec<String> = online()?.iter().map(usize::to_string).collect();
    let fields = Fields::new()
        .with("online", online.join(","))
        .with("clock", clock("current_clocksource")?.trim())
        .with("clocks", clock("available_clocksource")?.trim().replace(' ', ","));
    Ok(with_hypervisor(fields))
}

/// Signature and features in the leaves that hypervisors have.
#[cfg(target_arch = "x86_64")]
fn with_hypervisor(fields: Fields) -> Fields {
    use std::arch::x86_64::__cpuid;
    const PRESENT: u32 = 1 << 31;
    // SAFETY: every x86-64 processor has CPUID, and it has no other effect.
    let (basic, leaf, features) =
        unsafe { (__cpuid(1), __cpuid(0x4000_0000), __cpuid(0x4000_0001)) };
    if basic.ecx & PRESENT == 0 {
        return fields.with("hypervisor", "none");
    }
    let words = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes).concat();
    let name: String =
        words.iter().filter(|byte| **byte != 0).map(|&byte| char::from(byte)).collect();
    fields.with("hypervisor", name).with("features", format!("{:#x}", features.eax))
}

/// Elsewhere the kernel's word has to do.
#[cfg(not(target_arch = "x86_64"))]
fn with_hypervisor(fields: Fields) -> Fields {
    let kind = fs::read_to_string("/sys/hypervisor/type").unwrap_or_else(|_| "none".into());
    fields.with("hypervisor", kind.trim())
}

/// Numbers of the processors that are online.
pub(crate) fn online() -> Result<Vec<usize>> {
    let path = "/sys/devices/system/cpu/online";
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let mut cpus = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<usize>()?..=last.parse()?);
    }
    Ok(cpus)
}

/// `sleep MS`: how long that was by the clocks.
pub(crate) fn sleep(words: &mut Arguments<'_>) -> Result<Fields> {
    let wanted = Duration::from_millis(words.next("number of milliseconds")?);
    let (steady, wall) = (Instant::now(), SystemTime::now());
    thread::sleep(wanted);
    let (steady, wall) = (steady.elapsed(), wall.elapsed().context("the wall clock went back")?);
    Ok(Fields::new().with("steady_us", steady.as_micros()).with("wall_us", wall.as_micros()))
}
