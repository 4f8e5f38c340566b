// SPDX-License-Identifier: GPL-2.0
//! The files of the project.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use walkdir::{DirEntry, WalkDir};

/// Directories that hold nothing of ours.
const SKIPPED: [&str; 4] = [".git", "build", "target", "vendor"];

/// A text file.
pub(crate) struct Source {
    /// Path below the tree's root.
    pub(crate) path: PathBuf,
    /// Its text.
    pub(crate) text: String,
}

impl Source {
    /// Whether the name ends in `.extension`.
    pub(crate) fn has_extension(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|have| have == extension)
    }
}

/// All text files of the project, without vendored ones.
pub(crate) struct Tree {
    /// Where it lies.
    pub(crate) root: PathBuf,
    /// The files, in order of path.
    pub(crate) sources: Vec<Source>,
}

impl Tree {
    /// Reads every file below `root`.
    pub(crate) fn read(root: PathBuf) -> Result<Self> {
        let mut sources = Vec::new();
        let keep = |entry: &DirEntry| {
            !SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) || entry.depth() == 0
        };
        for entry in WalkDir::new(&root).sort_by_file_name().into_iter().filter_entry(keep) {
            let entry = entry.context("walking the tree")?;
            if !entry.file_type().is_file() {
                continue;
            }
            // What isn't text is no source.
            if let Ok(text) = fs::read_to_string(entry.path()) {
                let path = entry.path().strip_prefix(&root)?.to_owned();
                sources.push(Source { path, text });
            }
        }
        Ok(Self { root, sources })
    }

    /// The file at `path` below the root.
    pub(crate) fn source(&self, path: impl AsRef<Path>) -> Option<&Source> {
        self.sources.iter().find(|source| source.path == path.as_ref())
    }
}
