// SPDX-License-Identifier: GPL-2.0
//! QEMU for emulated s390x machines, in the root.

use anyhow::Result;

use super::packages;
use crate::step::{Place, Step, Work};

/// The release's own would take another version of what all of QEMU shares.
const SUITE: &str = "trixie-backports";
const PACKAGE: &str = "qemu-system-s390x";

/// Installs it.
pub(super) fn step() -> Step {
    Step {
        name: "qemu-s390x",
        about: "installing QEMU for s390x",
        needs: &["packages"],
        heavy: true,
        recipe,
        run,
    }
}

fn recipe(_place: &Place) -> Result<String> {
    Ok(format!("1 {PACKAGE} {SUITE}"))
}

fn run(work: &Work<'_>) -> Result<()> {
    let mut install = packages::apt();
    install.args(["install", "-y", "--no-install-recommends", "-t", SUITE, PACKAGE]);
    work.run(&mut install)
}
