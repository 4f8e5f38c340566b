// SPDX-License-Identifier: GPL-2.0
//! The newer Rust that the s390 kernel needs, beside the root's own: packages from backports,
//! unpacked but not installed, with wrappers that find their libraries.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::{replace_dir, unpack};
use crate::step::{Place, Step, Work};

const VERSION: &str = "1.96";

/// Makes `toolchain/rust-1.96`.
pub(super) fn step() -> Step {
    Step {
        name: "rust-s390",
        about: "fetching the Rust compiler for the s390 kernel",
        needs: &["packages"],
        heavy: false,
        recipe,
        run,
    }
}

fn recipe(_place: &Place) -> Result<String> {
    Ok(format!("1 {VERSION}"))
}

fn run(work: &Work<'_>) -> Result<()> {
    let new = work.cache("toolchain/rust.new");
    let packages = [
        "rustc/trixie-backports",
        "libstd-rust-dev/trixie-backports",
        "rust-src/trixie-backports",
        "rust-clippy/trixie-backports",
        "rustfmt/trixie-backports",
        "libstd-rust-1.96/trixie-backports",
        "libllvm22",
    ];
    unpack(work, &packages, &new)?;
    let last = work.cache("toolchain").join(format!("rust-{VERSION}"));
    for tool in ["rustc", "rustdoc", "rustfmt", "clippy-driver"] {
        wrapper(&new.join("bin"), tool)?;
    }
    replace_dir(&new, &last)
}

/// A script that runs `tool` with its own libraries, wherever the directory is moved.
fn wrapper(dir: &Path, tool: &str) -> Result<()> {
    fs::create_dir_all(dir).context("making the wrappers' directory")?;
    let path = dir.join(tool);
    let text = format!(
        "#!/bin/sh\n\
         # Rust of its own beside the system's, see the harness's setup step rust-s390.\n\
         top=$(dirname \"$(dirname \"$(readlink -f \"$0\")\")\")\n\
         export LD_LIBRARY_PATH=\"$top/usr/lib/x86_64-linux-gnu:$top/usr/lib\"\n\
         exec \"$top/usr/bin/{tool}\" \"$@\"\n"
    );
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&path, mode).with_context(|| format!("changing {}", path.display()))
}
