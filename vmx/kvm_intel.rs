// SPDX-License-Identifier: GPL-2.0
//! kvm-intel.ko: Intel VMX with extended page tables.
//!
//! - [`params`]: the module's parameters.
//! - [`setup`]: from the processor's capabilities to a decision to load.
#![deny(unsafe_code)]

use kernel::prelude::*;
use kvm_core::provider::Provider;
use kvm_sys::module_cell::Filled;
use kvm_x86::{
    host::{self, Host},
    vendor::X86,
};

mod control;
mod params;
mod setup;

module! {
    type: KvmIntel,
    name: "kvm_intel",
    authors: ["The KVM in Rust developers"],
    description: "KVM support for processors with Intel VT-x (VMX) and EPT",
    license: "GPL",
    // X86_FEATURE_VMX: udev loads the module where the processor has it.
    alias: ["cpu:type:x86,ven*fam*mod*:feature:*0085*"],
}

#[pin_data]
struct KvmIntel {
    #[pin]
    provider: Provider<X86<setup::Vmx>>,
    _host: Filled<Host>,
}

impl kernel::InPlaceModule for KvmIntel {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _: { setup::check()? },
            _host: host::install::<setup::Vmx>()?,
            _: { params::settle() },
            provider <- Provider::new(),
        })
    }
}
