// SPDX-License-Identifier: GPL-2.0
//! kvm.ko: carries the crates that all vendor modules share.
//!
//! Loading it does nothing by itself; /dev/kvm comes with a vendor module.

use kernel::prelude::*;

module! {
    type: Core,
    name: "kvm",
    authors: ["The KVM in Rust developers"],
    description: "Kernel-based Virtual Machine: architecture-neutral core",
    license: "GPL",
}

struct Core;

impl Drop for Core {
    fn drop(&mut self) {
        kvm_core::wait_for_the_rest();
    }
}

impl kernel::Module for Core {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}
