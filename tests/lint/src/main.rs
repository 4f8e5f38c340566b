// SPDX-License-Identifier: GPL-2.0
//! The house rules that neither rustc nor clippy checks.
//!
//! `lint [TREE]` prints `path:line: rule: what` for each violation and exits with 1 if there is one.
//!
//! - [`layers`]: crates import what `tests/layers.toml` allows, in Kbuild and in Cargo manifests.
//! - [`fences`]: unsafe code only in fenced crates, each piece with a SAFETY comment.
//! - [`flags`]: no flag type with a text parser in a module.
//! - [`files`]: licence line, names, length, and no file that no crate reaches.
//! - [`vendor`]: vendored crates are the published ones.

mod fences;
mod files;
mod finding;
mod flags;
mod layers;
mod tree;
mod vendor;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use finding::Finding;
use tree::Tree;

fn main() -> ExitCode {
    let root = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    match lint(root) {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            for finding in &findings {
                eprintln!("{finding}");
            }
            eprintln!("lint: {} violations", findings.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("lint: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn lint(root: PathBuf) -> Result<Vec<Finding>> {
    let tree = Tree::read(root)?;
    let layers = layers::Layers::read(&tree)?;
    let mut findings = Vec::new();
    layers.check(&tree, &mut findings)?;
    fences::check(&tree, &layers, &mut findings)?;
    files::check(&tree, &layers, &mut findings)?;
    flags::check(&tree, &mut findings);
    vendor::check(&tree, &mut findings)?;
    Ok(findings)
}
