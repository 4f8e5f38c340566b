// SPDX-License-Identifier: GPL-2.0
//! How much of the modules is common to all processors.
//!
//! `stats [TREE]` counts the lines of Rust in the directories of [`PARTS`] that have code on them: no
//! comments, documentation and tests. Vendored crates don't count.

mod code;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use walkdir::WalkDir;

/// A part of the sources.
struct Part {
    name: &'static str,
    kind: Kind,
    directories: &'static [&'static str],
    /// Directories below those that belong to other parts.
    without: &'static [&'static str],
}

/// Whose a part is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// All modules'.
    Common,
    /// The x86 modules'.
    X86,
    /// One x86 vendor's.
    Vendor,
    /// IBM Z's.
    Z,
}

const PARTS: &[Part] = &[
    Part {
        name: "core: VMs, vCPUs, memory, kernel facilities",
        kind: Kind::Common,
        directories: &["uapi", "mmu", "rust"],
        without: &["x86", "emulate", "irqchip", "s390", "vendor"],
    },
    Part {
        name: "x86: emulator, interrupt controllers, policy, run loop",
        kind: Kind::X86,
        directories: &["rust/x86", "rust/emulate", "rust/irqchip", "rust/sys/x86"],
        without: &[],
    },
    Part { name: "svm: AMD", kind: Kind::Vendor, directories: &["svm"], without: &[] },
    Part { name: "vmx: Intel", kind: Kind::Vendor, directories: &["vmx"], without: &[] },
    Part {
        name: "s390: IBM Z",
        kind: Kind::Z,
        directories: &["s390", "rust/sys/s390"],
        without: &[],
    },
];

/// Files of host tests.
fn is_test(name: &str) -> bool {
    name == "tests.rs" || name == "fake.rs" || name.ends_with("_tests.rs")
}

/// Lines of one part.
#[derive(Clone, Copy, Default)]
struct Lines {
    code: usize,
    files: usize,
}

fn main() -> ExitCode {
    let root = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    match print(&root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stats: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(root: &Path) -> Result<()> {
    let counts = PARTS.iter().map(|part| count(root, part)).collect::<Result<Vec<_>>>()?;
    println!("{:>7} {:>6}", "lines", "files");
    for (part, lines) in PARTS.iter().zip(&counts) {
        ensure!(lines.code > 0, "nothing found of '{}' below {}", part.name, root.display());
        println!("{:>7} {:>6}  {}", lines.code, lines.files, part.name);
    }
    let sum = |kinds: &[Kind]| -> usize {
        let wanted = PARTS.iter().zip(&counts).filter(|(part, _)| kinds.contains(&part.kind));
        wanted.map(|(_, lines)| lines.code).sum()
    };
    let (common, all) =
        (sum(&[Kind::Common, Kind::X86]), sum(&[Kind::Common, Kind::X86, Kind::Vendor]));
    println!(
        "\nof {all} lines for x86 processors {} % are common to both vendors",
        share(common, all)
    );
    let (shared, z) = (sum(&[Kind::Common]), sum(&[Kind::Common, Kind::Z]));
    println!("of {z} lines for IBM Z {} % are common to all", share(shared, z));
    Ok(())
}

/// A share in percent, rounded.
fn share(part: usize, whole: usize) -> usize {
    (part * 100 + whole / 2) / whole
}

fn count(root: &Path, part: &Part) -> Result<Lines> {
    let mut lines = Lines::default();
    for directory in part.directories {
        let walk = WalkDir::new(root.join(directory)).into_iter().filter_entry(|entry| {
            let name = entry.file_name().to_string_lossy();
            entry.depth() == 0 || !part.without.contains(&name.as_ref())
        });
        for entry in walk {
            let entry = entry.with_context(|| format!("listing {directory}"))?;
            let name = entry.file_name().to_string_lossy();
            if !entry.file_type().is_file() || !name.ends_with(".rs") || is_test(&name) {
                continue;
            }
            let path = entry.path();
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            lines.code += code::lines(&text).with_context(|| path.display().to_string())?;
            lines.files += 1;
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::{PARTS, count, share};
    use std::path::Path;

    #[test]
    fn finds_every_part() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for part in PARTS {
            assert!(count(&root, part).unwrap().code > 100, "{}", part.name);
        }
    }

    #[test]
    fn shares_are_rounded() {
        assert_eq!(share(1, 3), 33);
        assert_eq!(share(2, 3), 67);
        assert_eq!(share(5, 5), 100);
    }
}
