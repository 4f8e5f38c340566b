// SPDX-License-Identifier: GPL-2.0
//! kvm-amd.ko: AMD SVM with nested paging.
//!
//! - [`params`]: the module's parameters.
//! - [`setup`]: from the processor's capabilities to a decision to load.
//! - `control`: the control block; `exit`: from an exit code to its handler.
//! - `global`, `cpu`: what all vCPUs and what each CPU has.
#![deny(unsafe_code)]

use global::Global;
use kernel::prelude::*;
use kvm_core::provider::Provider;
use kvm_sys::module_cell::Filled;
use kvm_x86::{
    host::{self, Host},
    vendor::X86,
};

mod control;
mod cpu;
mod exit;
mod global;
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
    // Dropped in this order: the provider first.
    #[pin]
    provider: Provider<X86<setup::Svm>>,
    _host: Filled<Host>,
    _global: Filled<Global>,
}

impl kernel::InPlaceModule for KvmAmd {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _global: global::install(setup::check()?)?,
            _host: host::install::<setup::Svm>()?,
            provider <- Provider::new(),
        })
    }
}
