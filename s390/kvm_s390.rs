// SPDX-License-Identifier: GPL-2.0
//! kvm-s390.ko: IBM Z interpretive execution (SIE).
//!
//! Reading order: [`run`] is one `KVM_RUN`; [`exit`] says what each interception
//! does; [`deliver`] how an interruption reaches the guest; [`state`] and
//! [`shared`] who may touch what.
#![deny(unsafe_code)]

use kernel::prelude::*;
use kvm_core::provider::Provider;

mod adapter;
mod capability;
mod crypto;
mod debug;
mod deliver;
mod exit;
mod first_sie;
mod flic;
mod floating;
mod guest;
mod inject;
mod ioctl;
mod key;
mod pfault;
mod run;
mod sca;
mod shared;
mod sie;
mod state;
mod sync;
mod vm;
mod wiring;

module! {
    type: KvmS390,
    name: "kvm_s390",
    authors: ["The KVM in Rust developers"],
    description: "KVM support for IBM Z with interpretive execution (SIE)",
    license: "GPL",
    // Opening the static device node loads the module.
    alias: ["char-major-10-232", "devname:kvm"],
}

#[pin_data]
struct KvmS390 {
    #[pin]
    provider: Provider<sie::Sie>,
}

impl kernel::InPlaceModule for KvmS390 {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _: { check()? },
            provider <- Provider::new(),
        })
    }
}

/// Refuses a machine that can't run guests, and tells the operator why.
///
/// # Errors
///
/// `EOPNOTSUPP`.
fn check() -> Result {
    if kvm_sys::s390::has_sie() {
        return Ok(());
    }
    pr_err!("the machine has no interpretive execution (SIE)\n");
    Err(EOPNOTSUPP)
}
