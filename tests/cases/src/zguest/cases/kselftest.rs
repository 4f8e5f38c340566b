// SPDX-License-Identifier: GPL-2.0
//! The kernel's own tests of KVM for s390x: each is a case.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use super::*;
use crate::case::{Skip, Vmm};

const FILES: Vmm = Vmm { group: "kselftest", mem_mib: 1536, step: Some("z-kselftest") };

/// Where the harness puts them.
const DIR: &str = "/usr/libexec/kselftest";

/// Seconds that programs have, and those that work a lot for a software-emulated machine.
const QUICK: u32 = 120;
const LONG: u32 = 1500;

/// Declares a case for each program.
macro_rules! tests {
    ($($program:literal)* long $($long:literal)*) => {
        pub(super) const CASES: &[Case] = &[
            $(Case::vmm(concat!("kselftest-", $program), &["z"], FILES, || run($program, QUICK)),)*
            $(Case::vmm(concat!("kselftest-", $long), &["z"], FILES, || run($long, LONG)).long(),)*
        ];
    };
}

tests! {
    "guest_print_test"
    "irqfd_test"
    "kvm_binary_stats_test"
    "kvm_create_max_vcpus"
    "set_memory_region_test"
    "cpumodel_subfuncs_test"
    "debug_test"
    "irq_routing"
    "resets"
    "shared_zeropage_test"
    "sync_regs_test"
    "tprot"
    "user_operexec"
    long
    "demand_paging_test"
    "dirty_log_test"
    "kvm_page_table_test"
    "memop"
}

/// Runs one for at most so many seconds. Its exit status says how it went.
fn run(program: &str, seconds: u32) -> Result<()> {
    const SKIPPED: i32 = 4;
    let path = Path::new(DIR).join(program);
    let out =
        Command::new("timeout").args(["-s", "KILL", &seconds.to_string()]).arg(&path).output();
    let out = out.with_context(|| format!("starting {}", path.display()))?;
    let words = [out.stdout, out.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let lines: Vec<&str> = words.iter().flat_map(|text| text.lines()).collect();
    let tail = lines[lines.len().saturating_sub(12)..].join(" / ");
    match out.status.code() {
        Some(0) => Ok(()),
        Some(SKIPPED) => Err(Skip(tail).into()),
        _ => bail!("{}: {tail}", out.status),
    }
}
