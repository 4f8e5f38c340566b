// SPDX-License-Identifier: GPL-2.0
//! Loading modules.

use std::ffi::CString;
use std::fs::File;

use anyhow::{Context, Result};
use nix::kmod::{ModuleInitFlags, finit_module};
use proto::Load;

/// Loads `modules` in order.
pub(crate) fn load(modules: &[Load]) -> Result<()> {
    for module in modules {
        let file = File::open(&module.path).with_context(|| format!("opening {}", module.path))?;
        let params = CString::new(module.params.as_str()).context("module parameters")?;
        finit_module(&file, &params, ModuleInitFlags::empty())
            .with_context(|| format!("loading {}", module.path))?;
    }
    Ok(())
}
