// SPDX-License-Identifier: GPL-2.0
//! kvm-amd.ko: AMD SVM with nested paging.
//!
//! - [`params`]: the module's parameters.
//! - [`setup`]: from the processor's capabilities to a decision to load.
#![deny(unsafe_code)]

use kernel::prelude::*;
use kvm_core::provider::Provider;
use kvm_x86::vendor::X86;

mod params;
mod setup;

module! {
    type: KvmAmd,
    name: "kvm_amd",
    authors: ["The KVM in Rust developers"],
    description: "KVM support for processors with AMD-V (SVM) and nested paging",
    license: "GPL",
    // X86_FEATURE_SVM: udev loads the module where the processor has it.
    alias: ["cpu:type:x86,ven*fam*mod*:feature:*00C2*"],
}

#[pin_data]
struct KvmAmd {
    #[pin]
    provider: Provider<X86<setup::Svm>>,
}

impl kernel::InPlaceModule for KvmAmd {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _: { setup::check()? },
            _: { params::settle() },
            provider <- Provider::new(),
        })
    }
}
