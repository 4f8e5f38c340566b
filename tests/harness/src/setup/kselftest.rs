// SPDX-License-Identifier: GPL-2.0
//! The kernel's own conformance tests for KVM, from the kernel's source package.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::packages;
use crate::kernel::stock_release;
use crate::step::{Place, Step, Work};

/// Where a machine with the shared root has them.
pub(crate) const DIR: &str = "var/lib/kselftest";

/// Where they lie in the kernel's source.
const SOURCE: &str = "tools/testing/selftests/kvm";

/// What they need that nothing else does.
const PACKAGES: &[&str] = &["uuid-dev"];

/// Builds them into the root.
pub(super) fn step() -> Step {
    Step {
        name: "kselftest",
        about: "building the kernel's tests of KVM",
        needs: &["source", "packages"],
        heavy: true,
        recipe,
        run,
    }
}

fn recipe(place: &Place) -> Result<String> {
    Ok(format!("1 {DIR} {PACKAGES:?} {}", stock_release(&place.cache)?))
}

fn run(work: &Work<'_>) -> Result<()> {
    let mut install = packages::apt();
    install.args(["install", "-y", "--no-install-recommends"]).args(PACKAGES);
    work.run(&mut install)?;
    let source = work.place.cache.source();
    let headers = work.place.cache.dir("build/kselftest/headers")?;
    let output = work.place.cache.dir("build/kselftest/out")?;
    let mut make = Command::new("make");
    make.arg("-C").arg(&source).arg(format!("O={}", headers.display())).arg("headers");
    work.run(&mut make)?;
    let mut make = Command::new("make");
    make.arg("-C").arg(source.join(SOURCE)).args(["-j2", "ARCH=x86_64"]);
    make.arg(format!("OUTPUT={}", output.display()));
    make.arg(format!("KHDR_INCLUDES=-isystem {}/usr/include", headers.display()));
    work.run(&mut make)?;
    let to = work.place.cache.root().join(DIR);
    fs::create_dir_all(&to).with_context(|| format!("making {}", to.display()))?;
    for program in programs(&output)?.iter().chain(&programs(&output.join("x86"))?) {
        let name = program.file_name().context("a program without a name")?;
        fs::copy(program, to.join(name))
            .with_context(|| format!("copying {}", program.display()))?;
    }
    Ok(())
}

/// The executable files in `dir`.
fn programs(dir: &Path) -> Result<Vec<std::path::PathBuf>> {
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
