// SPDX-License-Identifier: GPL-2.0
//! Why something can't be shown.

use std::fmt;

/// The error that makes a case count as skipped, with the reason.
#[derive(Debug)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}
