// SPDX-License-Identifier: GPL-2.0
//! A violation of a rule.

use std::fmt;
use std::path::{Path, PathBuf};

/// One violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    path: PathBuf,
    line: usize,
    rule: &'static str,
    what: String,
}

impl Finding {
    /// A violation of `rule` at a line (1 is the first; 0 is the whole file).
    pub(crate) fn new(
        path: impl AsRef<Path>,
        line: usize,
        rule: &'static str,
        what: impl Into<String>,
    ) -> Self {
        Self { path: path.as_ref().to_owned(), line, rule, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path.display(), self.line, self.rule, self.what)
    }
}
