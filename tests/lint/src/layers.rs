// SPDX-License-Identifier: GPL-2.0
//! The layers: which crate may import which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::finding::Finding;
use crate::tree::Tree;

const RULE: &str = "layering";

/// What a crate may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// No kernel, no unsafe code, also a cargo package.
    Pure,
    /// Unsafe code with SAFETY comments.
    Fence,
    /// The kernel crate, no unsafe code.
    Safe,
}

/// One crate of the modules.
#[derive(Debug, Deserialize)]
pub(crate) struct Crate {
    /// Its root file below the tree.
    pub(crate) path: PathBuf,
    /// What it may do.
    pub(crate) kind: Kind,
    imports: BTreeSet<String>,
}

impl Crate {
    /// The directory of its files.
    pub(crate) fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// `tests/layers.toml`.
#[derive(Debug, Deserialize)]
pub(crate) struct Layers {
    /// The crates by name.
    #[serde(rename = "crate")]
    pub(crate) crates: BTreeMap<String, Crate>,
}

impl Layers {
    /// Reads the table from the tree.
    pub(crate) fn read(tree: &Tree) -> Result<Self> {
        let file = tree.source("tests/layers.toml").context("no tests/layers.toml")?;
        toml::from_str(&file.text).context("reading tests/layers.toml")
    }

    /// The crate with the most specific directory that holds `path`.
    pub(crate) fn owner(&self, path: &Path) -> Option<(&str, &Crate)> {
        self.crates
            .iter()
            .filter(|(_, krate)| path == krate.path || is_module_of(path, krate))
            .max_by_key(|(_, krate)| (path == krate.path, krate.dir().components().count()))
            .map(|(name, krate)| (name.as_str(), krate))
    }

    /// Compares the table with Kbuild and with the Cargo manifests, and looks for circles.
    pub(crate) fn check(&self, tree: &Tree, findings: &mut Vec<Finding>) -> Result<()> {
        let kbuild = tree.source("Kbuild").context("no Kbuild")?;
        let built = kbuild_crates(&kbuild.text)?;
        for (name, imports) in &built {
            match self.crates.get(name) {
                Some(krate) => compare(name, &krate.imports, imports, "Kbuild", findings),
                None if self.is_vendored(name) => {}
                None => findings.push(Finding::new(
                    "Kbuild",
                    0,
                    RULE,
                    format!("crate {name} is not in tests/layers.toml"),
                )),
            }
        }
        for (name, krate) in &self.crates {
            if !built.contains_key(name) {
                let what = format!("Kbuild doesn't build crate {name}");
                findings.push(Finding::new("tests/layers.toml", 0, RULE, what));
            }
            if krate.kind == Kind::Pure {
                let manifest = krate.dir().join("Cargo.toml");
                let imports = manifest_imports(tree, &manifest)?;
                compare(name, &krate.imports, &imports, &manifest.to_string_lossy(), findings);
            }
        }
        self.check_circles(findings);
        Ok(())
    }

    fn is_vendored(&self, name: &str) -> bool {
        self.crates.values().any(|krate| krate.imports.contains(name))
    }

    /// Follows the imports of each crate; meeting it again is a circle.
    fn check_circles(&self, findings: &mut Vec<Finding>) {
        for start in self.crates.keys() {
            let mut seen = BTreeSet::new();
            let mut next: Vec<&String> = self.crates[start].imports.iter().collect();
            while let Some(name) = next.pop() {
                if name == start {
                    let what = format!("crate {start} imports itself by a detour");
                    findings.push(Finding::new("tests/layers.toml", 0, RULE, what));
                    break;
                }
                if seen.insert(name) {
                    next.extend(self.crates.get(name).into_iter().flat_map(|c| &c.imports));
                }
            }
        }
    }
}

/// Whether `path` lies in the crate's directory, and isn't the root of a single-file neighbour.
fn is_module_of(path: &Path, krate: &Crate) -> bool {
    path.starts_with(krate.dir())
}

fn compare(
    name: &str,
    allowed: &BTreeSet<String>,
    imports: &BTreeSet<String>,
    place: &str,
    findings: &mut Vec<Finding>,
) {
    for extra in imports.difference(allowed) {
        let what = format!("{name} may not import {extra}; see tests/layers.toml");
        findings.push(Finding::new(place, 0, RULE, what));
    }
    for missing in allowed.difference(imports) {
        let what = format!("{name} doesn't import {missing} here, tests/layers.toml says so");
        findings.push(Finding::new(place, 0, RULE, what));
    }
}

/// The `$(call crate,name,object,imports)` lines of Kbuild.
fn kbuild_crates(text: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut crates = BTreeMap::new();
    // A backslash at the end of a line goes on in the next.
    for line in text.replace("\\\n", " ").lines() {
        let Some(call) = line.strip_prefix("$(eval $(call crate,") else { continue };
        let mut words = call.trim_end_matches(')').split(',');
        let (Some(name), Some(_object)) = (words.next(), words.next()) else {
            bail!("Kbuild: can't read '{line}'");
        };
        let imports = words.next().unwrap_or("").split_whitespace().map(str::to_owned).collect();
        crates.insert(name.to_owned(), imports);
    }
    Ok(crates)
}

/// The dependencies of a Cargo manifest; those for tests don't count, nor does what the kernel passes
/// to every Rust object.
fn manifest_imports(tree: &Tree, path: &Path) -> Result<BTreeSet<String>> {
    let file = tree.source(path).with_context(|| format!("no {}", path.display()))?;
    let manifest: toml::Table =
        toml::from_str(&file.text).with_context(|| format!("reading {}", path.display()))?;
    let dependencies = manifest.get("dependencies").and_then(|table| table.as_table());
    Ok(dependencies
        .into_iter()
        .flat_map(|table| table.keys().cloned())
        .filter(|name| !name.starts_with("zerocopy"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn kbuild_lines_are_read() -> Result<()> {
        let crates = kbuild_crates(
            "# comment\n$(eval $(call crate,low,a/low))\n$(eval $(call crate,high,b/high,low \\\n\tx))\n",
        )?;
        assert_eq!(crates["low"], names(&[]));
        assert_eq!(crates["high"], names(&["low", "x"]));
        Ok(())
    }

    #[test]
    fn an_import_that_is_not_allowed_is_found() {
        let mut findings = Vec::new();
        compare("a", &names(&["b"]), &names(&["b", "c"]), "Kbuild", &mut findings);
        assert_eq!(findings.len(), 1);
        compare("a", &names(&["b"]), &names(&[]), "Kbuild", &mut findings);
        assert_eq!(findings.len(), 2);
    }

    #[test]
    fn circles_are_found() -> Result<()> {
        let layers: Layers = toml::from_str(
            "[crate.a]\npath = 'a.rs'\nkind = 'safe'\nimports = ['b']\n\
             [crate.b]\npath = 'b.rs'\nkind = 'safe'\nimports = ['a']\n",
        )?;
        let mut findings = Vec::new();
        layers.check_circles(&mut findings);
        assert_eq!(findings.len(), 2);
        Ok(())
    }
}
