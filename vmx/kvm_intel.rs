// SPDX-License-Identifier: GPL-2.0
//! kvm-intel.ko: Intel VMX with extended page tables.
//!
//! - [`params`]: the module's parameters.
//! - [`setup`]: from the processor's capabilities to a decision to load.
//! - `control`: a vCPU's control structure as common code sees it; `fields`, `segments`:
//!   what is in it; `exit`: from an exit reason to its handler; `refusal`: what is said when there
//!   was no entry.
//! - `global`: what all vCPUs share; `host_state`: what an exit loads; `msr_bitmap`: MSRs that
//!   don't exit; `l1d`: caches that are flushed; `nmi`: which guest handles an NMI; `shared`, `vpid`: what else a vCPU has.
#![deny(unsafe_code)]

use global::{Global, OnCrash};
use kernel::prelude::*;
use kvm_core::provider::Provider;
use kvm_sys::{module_cell::Filled, x86::host_state::CrashCallback};
use kvm_x86::{
    host::{self, Host},
    vendor::X86,
};

mod control;
mod exit;
mod fields;
mod global;
mod host_state;
mod l1d;
mod msr_bitmap;
mod nmi;
mod params;
mod refusal;
mod segments;
mod setup;
mod shared;
mod vpid;

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
    // Before what it uses.
    _on_crash: CrashCallback<OnCrash>,
    _host: Filled<Host>,
    _l1d: l1d::Decided,
    _global: Filled<Global>,
}

impl kernel::InPlaceModule for KvmIntel {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _global: {
                let (caps, config) = setup::check()?;
                global::install(caps, config, setup::is_nested())?
            },
            _l1d: l1d::Decided::new(),
            _host: host::install::<setup::Vmx>()?,
            _on_crash: CrashCallback::new(),
            provider <- Provider::new(),
        })
    }
}
