// SPDX-License-Identifier: GPL-2.0
//! Files: licence line, names, length, and no file that no crate reaches.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::finding::Finding;
use crate::layers::Layers;
use crate::tree::{Source, Tree};

const LICENCE: &str = "SPDX-License-Identifier: ";
const MAX_LINES: usize = 800;
/// Kinds of file that carry a licence line.
const LICENSED: [&str; 8] = ["rs", "c", "h", "S", "sh", "toml", "mk", "awk"];
/// Names that say nothing.
const EMPTY_NAMES: [&str; 4] = ["utils", "common", "misc", "helper"];

/// Checks every file of the project.
pub(crate) fn check(tree: &Tree, layers: &Layers, findings: &mut Vec<Finding>) -> Result<()> {
    for source in &tree.sources {
        check_licence(source, findings);
        check_name(source, findings);
        if source.has_extension("rs") {
            check_rust(source, findings);
        }
    }
    check_orphans(tree, layers, findings);
    Ok(())
}

fn check_licence(source: &Source, findings: &mut Vec<Finding>) {
    let is_build_file = source
        .path
        .file_name()
        .is_some_and(|name| ["Kbuild", "Kconfig", "Makefile"].iter().any(|build| name == *build));
    if !is_build_file && !LICENSED.iter().any(|kind| source.has_extension(kind)) {
        return;
    }
    // A script's first line names its interpreter.
    if !source.text.lines().take(2).any(|line| line.contains(LICENCE)) {
        let what = "no SPDX-License-Identifier at the top";
        findings.push(Finding::new(&source.path, 1, "spdx", what));
    }
}

fn check_name(source: &Source, findings: &mut Vec<Finding>) {
    let stem = source.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) {
        let what = format!("'{stem}' says nothing about what is inside");
        findings.push(Finding::new(&source.path, 0, "name", what));
    }
}

fn check_rust(source: &Source, findings: &mut Vec<Finding>) {
    let lines = source.text.lines().count();
    if lines > MAX_LINES {
        let what = format!("{lines} lines; a file holds one concept in at most {MAX_LINES}");
        findings.push(Finding::new(&source.path, 0, "length", what));
    }
    if !source.text.lines().take(4).any(|line| line.starts_with("//!")) {
        let what = "no '//!' head that says what the file is for";
        findings.push(Finding::new(&source.path, 1, "head", what));
    }
}

/// A Rust file in a module crate's directory that no `mod` line leads to.
fn check_orphans(tree: &Tree, layers: &Layers, findings: &mut Vec<Finding>) {
    let mut reached = BTreeSet::new();
    for krate in layers.crates.values() {
        reach(tree, &krate.path, krate.dir(), &mut reached);
    }
    for source in tree.sources.iter().filter(|source| source.has_extension("rs")) {
        let in_modules = !source.path.starts_with("tests");
        if in_modules && !reached.contains(&source.path) {
            findings.push(Finding::new(&source.path, 0, "orphan", "no crate reaches this file"));
        }
    }
}

/// Adds `path` and the files of its `mod name;` lines, which lie in `dir`.
fn reach(tree: &Tree, path: &Path, dir: &Path, reached: &mut BTreeSet<PathBuf>) {
    let Some(source) = tree.source(path) else { return };
    if !reached.insert(path.to_owned()) {
        return;
    }
    for line in source.text.lines() {
        let line = line.trim();
        let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) else {
            continue;
        };
        let flat = dir.join(format!("{name}.rs"));
        let below = dir.join(name);
        reach(tree, &flat, &below, reached);
        reach(tree, &below.join("mod.rs"), &below, reached);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let sources = files
            .iter()
            .map(|(path, text)| Source { path: path.into(), text: (*text).into() })
            .collect();
        Tree { root: PathBuf::new(), sources }
    }

    #[test]
    fn modules_are_followed() {
        let tree = tree(&[
            ("a/root.rs", "mod x;\npub mod y;\n"),
            ("a/x.rs", "pub(crate) mod z;\n"),
            ("a/x/z.rs", ""),
            ("a/y/mod.rs", ""),
            ("a/lost.rs", ""),
        ]);
        let mut reached = BTreeSet::new();
        reach(&tree, Path::new("a/root.rs"), Path::new("a"), &mut reached);
        let expected: BTreeSet<PathBuf> =
            ["a/root.rs", "a/x.rs", "a/x/z.rs", "a/y/mod.rs"].map(PathBuf::from).into();
        assert_eq!(reached, expected);
    }

    #[test]
    fn a_missing_licence_line_is_found() {
        let mut findings = Vec::new();
        let tree =
            tree(&[("a.sh", "#!/bin/sh\n# SPDX-License-Identifier: GPL-2.0\n"), ("b.rs", "")]);
        for source in &tree.sources {
            check_licence(source, &mut findings);
        }
        assert_eq!(findings.len(), 1);
    }
}
