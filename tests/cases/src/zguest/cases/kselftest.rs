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

/// Declares a case for each program.
macro_rules! tests {
    ($($program:literal)*) => {
        pub(super) const CASES: &[Case] = &[
            $(Case::vmm(concat!("kselftest-", $program), &["z"], FILES, || run($program)),)*
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
    "memop"
    "irq_routing"
    "resets"
    "shared_zeropage_test"
    "sync_regs_test"
    "tprot"
    "user_operexec"
}

/// Runs one. Its exit status says how it went.
fn run(program: &str) -> Result<()> {
    const SKIPPED: i32 = 4;
    let path = Path::new(DIR).join(program);
    let out = Command::new("timeout").args(["-s", "KILL", "120"]).arg(&path).output();
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
