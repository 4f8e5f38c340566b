// SPDX-License-Identifier: GPL-2.0
//! The emulator of the `intel` machine: Bochs from Debian's source package, with the faults corrected
//! that guests meet (`tests/machines/intel/bochs/`, each with what is wrong and why).
//!
//! It has the processor options of Debian's package, and none of its displays, devices, plugins and
//! debuggers that the machine does without: less to build and to execute.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::archive::{self, Archive, Known};
use super::{packages, remove_dir, replace_dir};
use crate::step::{Place, Step, Work};

/// Where the emulator is, below the cache.
pub(crate) const PROGRAM: &str = "toolchain/bochs/bochs";

/// Known good files: path in the mirror and checksum.
const KNOWN: &[Known] = &[
    (
        "pool/main/b/bochs/bochs_3.0+dfsg.orig.tar.xz",
        "78f6c73d4a6472d5130a87ab9dc306d02c7c71ed8e25b3a8ef642e2a7acd282b",
    ),
    (
        "pool/main/b/bochs/bochs_3.0+dfsg-1.debian.tar.xz",
        "c68fe1162aa485249467ec93707ccbf5d039b00d12815899fc2c819ec16d00df",
    ),
];

/// What it takes that nothing else does.
const PACKAGES: &[&str] = &["g++", "patch"];

/// As in Debian's rules, as far as processor and board go; and without a display.
const OPTIONS: &[&str] = &[
    "--prefix=/usr",
    "--with-nogui",
    "--disable-docbook",
    "--enable-3dnow",
    "--enable-a20-pin",
    "--enable-all-optimizations",
    "--enable-amx",
    "--enable-avx",
    "--enable-cet",
    "--enable-cpu-level=6",
    "--enable-evex",
    "--enable-fpu",
    "--enable-memtype",
    "--enable-pci",
    "--enable-protection-keys",
    "--enable-repeat-speedups",
    "--enable-smp",
    "--enable-svm",
    "--enable-uintr",
    "--enable-vmx=2",
    "--enable-x86-64",
    "--enable-x86-debugger",
];

/// Makes `toolchain/bochs`.
pub(super) fn step() -> Step {
    Step { name: "bochs", about: "building Bochs", needs: &["packages"], heavy: true, recipe, run }
}

/// Our patches, in the order of their names.
fn patches(place: &Place) -> Result<Vec<PathBuf>> {
    let dir = place.tree.join("tests/machines/intel/bochs");
    let list = fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut patches = Vec::new();
    for entry in list {
        let path = entry.with_context(|| format!("reading {}", dir.display()))?.path();
        if path.extension().is_some_and(|ext| ext == "patch") {
            patches.push(path);
        }
    }
    patches.sort();
    Ok(patches)
}

fn recipe(place: &Place) -> Result<String> {
    let mut text = format!("1 {KNOWN:?} {PACKAGES:?} {OPTIONS:?}\n");
    for path in patches(place)? {
        text +=
            &fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(text)
}

fn run(work: &Work<'_>) -> Result<()> {
    let install = ["install", "-y", "--no-install-recommends"];
    work.run(packages::apt().args(install).args(PACKAGES))?;
    let source = work.cache("toolchain/bochs.source");
    remove_dir(&source)?;
    unpack(work, &source)?;
    for path in debian_patches(&source)?.iter().chain(&patches(work.place)?) {
        work.run(Command::new("patch").args(["-p1", "-i"]).arg(path).current_dir(&source))?;
    }
    let mut configure = Command::new("./configure");
    configure.args(OPTIONS).env("CFLAGS", "-O2").env("CXXFLAGS", "-O2");
    work.run(configure.current_dir(&source))?;
    work.run(Command::new("nice").args(["make", "-j2", "bochs"]).current_dir(&source))?;
    let new = work.cache("toolchain/bochs.new");
    remove_dir(&new)?;
    fs::create_dir_all(&new).with_context(|| format!("making {}", new.display()))?;
    work.run(Command::new("strip").arg("-o").arg(new.join("bochs")).arg(source.join("bochs")))?;
    replace_dir(&new, &work.cache("toolchain/bochs"))?;
    remove_dir(&source)
}

/// Downloads the source package and unpacks it to `source`.
fn unpack(work: &Work<'_>, source: &Path) -> Result<()> {
    let files = work.cache("toolchain/bochs.files");
    remove_dir(&files)?;
    fs::create_dir_all(&files).with_context(|| format!("making {}", files.display()))?;
    if let Err(error) = from_index(work, &files) {
        work.note("the mirror's source index is unusable, taking known files");
        archive::from_pool(work, KNOWN, &files)
            .with_context(|| format!("and before that: {error:#}"))?;
    }
    fs::create_dir_all(source).with_context(|| format!("making {}", source.display()))?;
    let tar = |part: &str| {
        let mut tar = Command::new("tar");
        tar.args(["-x", "-f"]).arg(find(&files, part)?);
        Ok::<_, anyhow::Error>(tar)
    };
    work.run(tar(".orig.tar")?.args(["--strip-components=1", "-C"]).arg(source))?;
    work.run(tar(".debian.tar")?.arg("-C").arg(source))?;
    remove_dir(&files)
}

/// Downloads the two archives of the source package as the mirror's index has them. (Its description,
/// the third file, isn't needed, and not everywhere to be had.)
fn from_index(work: &Work<'_>, files: &Path) -> Result<()> {
    let archive = Archive::new(work, "toolchain/bochs.apt", "deb-src")?;
    work.run(archive.apt().args(["update", "--error-on=any"]))?;
    for part in ["--tar-only", "--diff-only"] {
        let mut source = archive.apt();
        source.args(["source", "--download-only", part, "bochs"]);
        work.run(source.current_dir(files))?;
    }
    Ok(())
}

/// The file in `dir` whose name has `part`.
fn find(dir: &Path, part: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry.with_context(|| format!("reading {}", dir.display()))?;
        if entry.file_name().to_string_lossy().contains(part) {
            return Ok(entry.path());
        }
    }
    bail!("{} has no file *{part}*", dir.display())
}

/// Debian's own patches, in their order.
fn debian_patches(source: &Path) -> Result<Vec<PathBuf>> {
    let dir = source.join("debian/patches");
    let series = dir.join("series");
    let text =
        fs::read_to_string(&series).with_context(|| format!("reading {}", series.display()))?;
    let names =
        text.lines().map(str::trim).filter(|name| !name.is_empty() && !name.starts_with('#'));
    Ok(names.map(|name| dir.join(name)).collect())
}
