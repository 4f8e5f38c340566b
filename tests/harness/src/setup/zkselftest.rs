// SPDX-License-Identifier: GPL-2.0
//! The kernel's own tests of KVM for s390x, as far as they are cases on the `z` machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{remove_dir, replace_dir};
use crate::step::{Place, Step, Work};

/// Where they lie in the kernel's source.
const SOURCE: &str = "tools/testing/selftests/kvm";

/// Those that are cases, below that directory.
const PROGRAMS: &[&str] = &[
    "demand_paging_test",
    "dirty_log_test",
    "guest_print_test",
    "irqfd_test",
    "kvm_binary_stats_test",
    "kvm_create_max_vcpus",
    "kvm_page_table_test",
    "set_memory_region_test",
    "s390/cpumodel_subfuncs_test",
    "s390/debug_test",
    "s390/irq_routing",
    "s390/memop",
    "s390/resets",
    "s390/shared_zeropage_test",
    "s390/sync_regs_test",
    "s390/tprot",
    "s390/user_operexec",
];

/// Makes `toolchain/z-kselftest`.
pub(super) fn step() -> Step {
    Step {
        name: "z-kselftest",
        about: "building the kernel's tests of KVM for s390x",
        needs: &["source", "packages"],
        heavy: true,
        recipe,
        run,
    }
}

fn recipe(place: &Place) -> Result<String> {
    Ok(format!("1 {PROGRAMS:?} {}", crate::kernel::stock_release(&place.cache)?))
}

fn run(work: &Work<'_>) -> Result<()> {
    let source = work.place.cache.source();
    let headers = work.place.cache.dir("build/z-kselftest/headers")?;
    let output = work.place.cache.dir("build/z-kselftest/out")?;
    let mut make = kbuild(&source);
    make.arg("-j2").arg(format!("O={}", headers.display())).arg("headers");
    work.run(&mut make)?;
    let mut make = kbuild(&source.join(SOURCE));
    make.arg("-j2").arg(format!("OUTPUT={}", output.display()));
    make.arg(format!("KHDR_INCLUDES=-isystem {}/usr/include", headers.display()));
    // Static, with the tests' own memcpy and the like before the library's.
    make.arg("LDFLAGS=-static -Wl,-z,muldefs");
    make.args(PROGRAMS.iter().map(|program| output.join(program)));
    work.run(&mut make)?;
    let (new, last) =
        (work.cache("toolchain/z-kselftest.new"), work.cache("toolchain/z-kselftest"));
    remove_dir(&new)?;
    fs::create_dir_all(&new).context("making a directory")?;
    for program in PROGRAMS {
        let name = Path::new(program).file_name().context("a program without a name")?;
        let mut strip = Command::new("s390x-linux-gnu-strip");
        work.run(strip.arg("-o").arg(new.join(name)).arg(output.join(program)))?;
    }
    replace_dir(&new, &last)
}

/// make for s390 in a directory of the kernel's source.
fn kbuild(dir: &Path) -> Command {
    let mut make = Command::new("nice");
    make.args(["make", "ARCH=s390", "CROSS_COMPILE=s390x-linux-gnu-", "-C"]).arg(dir);
    make
}
