// SPDX-License-Identifier: GPL-2.0
//! Triggers a kernel warning when loaded.
//!
//! Shows that a run whose kernel log holds a warning fails, whatever the
//! program inside says.

use kernel::prelude::*;

module! {
    type: Warn,
    name: "kvm_test_warn",
    authors: ["The KVM in Rust developers"],
    description: "Test: triggers a kernel warning when loaded",
    license: "GPL",
}

struct Warn;

impl kernel::Module for Warn {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        kernel::warn_on!(true);
        Ok(Self)
    }
}
