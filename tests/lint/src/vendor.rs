// SPDX-License-Identifier: GPL-2.0
//! Vendored crates are the published ones, file by file.
//!
//! The workspace takes the same versions from the registry, so cargo knows where the published copies
//! lie, and has checked their sums.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use walkdir::WalkDir;

use crate::finding::Finding;
use crate::tree::Tree;

const DIR: &str = "rust/vendor";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
}

/// Compares each crate below `rust/vendor` with its published copy.
pub(crate) fn check(tree: &Tree, findings: &mut Vec<Finding>) -> Result<()> {
    let published = published(&tree.root)?;
    let dir = tree.root.join(DIR);
    for entry in fs::read_dir(&dir).with_context(|| format!("reading {DIR}"))? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        match published.get(&name) {
            Some(original) => compare(&entry.path(), original, &tree.root, findings)?,
            None => findings.push(Finding::new(
                Path::new(DIR).join(&name),
                0,
                "vendor",
                "the workspace doesn't use this crate, so nothing vouches for the copy",
            )),
        }
    }
    Ok(())
}

/// Directories of the registry packages that the workspace uses, by name.
fn published(root: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--locked", "--quiet"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    Ok(metadata
        .packages
        .into_iter()
        .filter_map(|package| Some((package.name, package.manifest_path.parent()?.to_owned())))
        .collect())
}

fn compare(copy: &Path, original: &Path, root: &Path, findings: &mut Vec<Finding>) -> Result<()> {
    for entry in WalkDir::new(copy) {
        let entry = entry?;
        if !entry.file_type().is_file() {
            continue;
        }
        let twin = original.join(entry.path().strip_prefix(copy)?);
        if fs::read(entry.path())? != fs::read(&twin).unwrap_or_default() {
            let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
            findings.push(Finding::new(path, 0, "vendor", "differs from the published crate"));
        }
    }
    Ok(())
}
