// SPDX-License-Identifier: GPL-2.0
//! The kernel's own conformance tests for KVM, from the kernel's source package: all of them for x86, where
//! `make kselftest` runs them, and for s390x those that are cases on the `z` machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{packages, remove_dir, replace_dir};
use crate::kernel::stock_release;
use crate::step::{Step, Work};

/// Where a machine with the shared root has those for x86.
pub(crate) const DIR: &str = "var/lib/kselftest";

/// Where they lie in the kernel's source.
const SOURCE: &str = "tools/testing/selftests/kvm";

/// What those for x86 need that nothing else does.
const PACKAGES: &[&str] = &["uuid-dev"];

/// Those for s390x, below the source's directory.
const Z_PROGRAMS: &[&str] = &[
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

/// Builds those for x86 into the root.
pub(super) fn step() -> Step {
    Step {
        name: "kselftest",
        about: "building the kernel's tests of KVM",
        needs: &["source", "packages"],
        heavy: true,
        recipe: |place| Ok(format!("1 {DIR} {PACKAGES:?} {}", stock_release(&place.cache)?)),
        run,
    }
}

/// Makes `toolchain/z-kselftest`.
pub(super) fn z_step() -> Step {
    Step {
        name: "z-kselftest",
        about: "building the kernel's tests of KVM for s390x",
        needs: &["source", "packages"],
        heavy: true,
        recipe: |place| Ok(format!("1 {Z_PROGRAMS:?} {}", stock_release(&place.cache)?)),
        run: z_run,
    }
}

fn run(work: &Work<'_>) -> Result<()> {
    let mut install = packages::apt();
    install.args(["install", "-y", "--no-install-recommends"]).args(PACKAGES);
    work.run(&mut install)?;
    let output = build(work, "kselftest", &["ARCH=x86_64"], |_| Vec::new())?;
    let to = work.place.cache.root().join(DIR);
    fs::create_dir_all(&to).with_context(|| format!("making {}", to.display()))?;
    for program in programs(&output)?.iter().chain(&programs(&output.join("x86"))?) {
        let name = program.file_name().context("a program without a name")?;
        fs::copy(program, to.join(name))
            .with_context(|| format!("copying {}", program.display()))?;
    }
    Ok(())
}

fn z_run(work: &Work<'_>) -> Result<()> {
    let words = ["ARCH=s390", "CROSS_COMPILE=s390x-linux-gnu-"];
    let output = build(work, "z-kselftest", &words, |output| {
        // Static, with the tests' own memcpy and the like before the library's.
        let mut words = vec!["LDFLAGS=-static -Wl,-z,muldefs".to_owned()];
        words.extend(Z_PROGRAMS.iter().map(|name| output.join(name).display().to_string()));
        words
    })?;
    let (new, last) =
        (work.cache("toolchain/z-kselftest.new"), work.cache("toolchain/z-kselftest"));
    remove_dir(&new)?;
    fs::create_dir_all(&new).context("making a directory")?;
    for program in Z_PROGRAMS {
        let name = Path::new(program).file_name().context("a program without a name")?;
        let mut strip = Command::new("s390x-linux-gnu-strip");
        work.run(strip.arg("-o").arg(new.join(name)).arg(output.join(program)))?;
    }
    replace_dir(&new, &last)
}

/// Builds headers and programs below `build/<name>` of the cache; where the programs are. `words` is for
/// both, `more` for the programs alone.
fn build(
    work: &Work<'_>,
    name: &str,
    words: &[&str],
    more: impl FnOnce(&Path) -> Vec<String>,
) -> Result<PathBuf> {
    let source = work.place.cache.source();
    let headers = work.place.cache.dir(format!("build/{name}/headers"))?;
    let output = work.place.cache.dir(format!("build/{name}/out"))?;
    let make = |dir: &Path| {
        let mut make = Command::new("nice");
        make.args(["make", "-j2"]).args(words).arg("-C").arg(dir);
        make
    };
    work.run(make(&source).arg(format!("O={}", headers.display())).arg("headers"))?;
    let mut tests = make(&source.join(SOURCE));
    tests.arg(format!("OUTPUT={}", output.display()));
    tests.arg(format!("KHDR_INCLUDES=-isystem {}/usr/include", headers.display()));
    work.run(tests.args(more(&output)))?;
    Ok(output)
}

/// The executable files in `dir`.
fn programs(dir: &Path) -> Result<Vec<PathBuf>> {
    use std::os::unix::fs::PermissionsExt;
    let mut programs = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry.context("reading what was built")?;
        let about = entry.metadata().context("reading what was built")?;
        if about.is_file() && about.permissions().mode() & 0o111 != 0 {
            programs.push(entry.path());
        }
    }
    Ok(programs)
}
