// SPDX-License-Identifier: GPL-2.0
//! Debian's own QEMU for s390x with its libraries, for guests inside the `z` machine.
//!
//! Not all mirrors have these packages. Without them the cases that need QEMU are skipped.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use object::read::elf::{Dyn, ElfFile64, FileHeader};
use object::{BigEndian, elf};

use super::{archive, remove_dir, replace_dir, s390x, unpack_all};
use crate::step::{Place, Step, Work};

/// The program, in the result and in the machine.
pub(crate) const PROGRAM: &str = "usr/bin/qemu-system-s390x";
/// Its firmware, likewise.
const FIRMWARE: &str = "usr/share/qemu/s390-ccw.img";
/// Where programs for s390x look for what starts them.
const INTERPRETER: &str = "lib/ld64.so.1";

/// Where libraries are: in the packages, and those of the cross compiler.
const IN_PACKAGES: &str = "usr/lib/s390x-linux-gnu";
const OF_COMPILER: &str = "/usr/s390x-linux-gnu/lib";

/// Makes `toolchain/z-qemu`.
pub(super) fn step() -> Step {
    Step {
        name: "z-qemu",
        about: "fetching QEMU for s390x",
        needs: &["packages"],
        heavy: false,
        recipe,
        run,
    }
}

fn list(place: &Place) -> PathBuf {
    place.tree.join("tests/machines/z/qemu.list")
}

fn recipe(place: &Place) -> Result<String> {
    let list = list(place);
    let text = fs::read_to_string(&list);
    Ok(format!("1\n{}", text.with_context(|| format!("reading {}", list.display()))?))
}

fn run(work: &Work<'_>) -> Result<()> {
    let (new, last) = (work.cache("toolchain/z-qemu.new"), work.cache("toolchain/z-qemu"));
    remove_dir(&new)?;
    fs::create_dir_all(&new).context("making a directory")?;
    if let Err(error) = fetch(work).and_then(|packages| assemble(&packages, &new)) {
        work.note(&format!("no QEMU for s390x, its cases will be skipped: {error:#}"));
        remove_dir(&new)?;
        fs::create_dir_all(&new).context("making a directory")?;
    }
    replace_dir(&new, &last)
}

/// Downloads and unpacks the packages; where they are.
fn fetch(work: &Work<'_>) -> Result<PathBuf> {
    let text = fs::read_to_string(list(work.place)).context("reading the list")?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let files: Vec<Vec<&str>> = lines.map(|line| line.split_whitespace().collect()).collect();
    let debs = work.place.cache.dir("toolchain/z-qemu.debs")?;
    if s390x::from_index(work, &debs, &names(&files)).is_err() {
        work.note("the mirror's s390x index is unusable, taking known files");
        remove_dir(&debs)?;
        fs::create_dir_all(&debs).context("making a directory")?;
        let known: Vec<(&str, &str)> =
            files.iter().filter_map(|file| Some((*file.first()?, *file.get(1)?))).collect();
        archive::from_pool(work, &known, &debs)?;
    }
    let unpacked = work.cache("toolchain/z-qemu.packages");
    unpack_all(work, &debs, &unpacked)?;
    Ok(unpacked)
}

/// The packages' names in the index.
fn names(files: &[Vec<&str>]) -> Vec<String> {
    let name = |file: &Vec<&str>| match file[..] {
        [_, _, name] => Some(name.to_owned()),
        [path, ..] => {
            let file = path.rsplit('/').next()?;
            Some(file.split('_').next()?.to_owned())
        }
        [] => None,
    };
    files.iter().filter_map(name).collect()
}

/// Copies the program, its firmware, and the libraries that it needs.
fn assemble(packages: &Path, new: &Path) -> Result<()> {
    copy(&packages.join(PROGRAM), &new.join(PROGRAM))?;
    copy(&packages.join(FIRMWARE), &new.join(FIRMWARE))?;
    copy(&Path::new(OF_COMPILER).join("ld64.so.1"), &new.join(INTERPRETER))?;
    let mut left = needed(&new.join(PROGRAM))?;
    while let Some(name) = left.pop() {
        let to = new.join("lib").join(&name);
        if to.exists() {
            continue;
        }
        let places = [packages.join(IN_PACKAGES).join(&name), Path::new(OF_COMPILER).join(&name)];
        let from = places.iter().find(|place| place.exists());
        copy(from.with_context(|| format!("no {name} in the packages"))?, &to)?;
        left.extend(needed(&to)?);
    }
    remove_dir(packages)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let dir = to.parent().context("a path without a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}

/// The libraries that a program or library names.
fn needed(file: &Path) -> Result<Vec<String>> {
    let context = || format!("reading {}", file.display());
    let data = fs::read(file).with_context(context)?;
    let elf = ElfFile64::<BigEndian>::parse(&*data).with_context(context)?;
    let (header, endian) = (elf.elf_header(), elf.endian());
    ensure!(header.e_machine(endian) == elf::EM_S390, "{} isn't for s390x", file.display());
    let sections = header.sections(endian, &*data).with_context(context)?;
    let Some((dynamic, link)) = sections.dynamic(endian, &*data).with_context(context)? else {
        return Ok(Vec::new());
    };
    let strings = sections.strings(endian, &*data, link).with_context(context)?;
    let mut names = Vec::new();
    for entry in dynamic.iter().filter(|entry| entry.tag32(endian) == Some(elf::DT_NEEDED)) {
        let name = entry.string(endian, strings).with_context(context)?;
        names.push(String::from_utf8_lossy(name).into_owned());
    }
    Ok(names)
}
