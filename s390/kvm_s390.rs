// SPDX-License-Identifier: GPL-2.0
//! kvm-s390.ko: IBM Z interpretive execution (SIE).
#![deny(unsafe_code)]

use kernel::{prelude::*, sync::Arc};
use kvm_core::{
    arch::Arch,
    device::NoDevice,
    mmu::NoTables,
    provider::Provider,
    statistics,
    vm::Vm,
    wiring::{Delivery, Source, Wiring},
};
use kvm_sys::kick::Kick;

module! {
    type: KvmS390,
    name: "kvm_s390",
    authors: ["The KVM in Rust developers"],
    description: "KVM support for IBM Z with interpretive execution (SIE)",
    license: "GPL",
    // Opening the static device node loads the module.
    alias: ["char-major-10-232", "devname:kvm"],
}

struct Sie;

impl Arch for Sie {
    type Module = KvmS390;
    type Tables = NoTables;
    type Wiring = Self;
    const COMPAT: bool = false;
    // kvm_run.
    const VCPU_MMAP_PAGES: u32 = 1;
    const VCPU_OWN_PAGES: u32 = 1;
    // What an extended system control area has room for.
    const MAX_VCPUS: u32 = 248;
    const MAX_VCPU_ID: u32 = 248;
    const UNKNOWN_VCPU_IOCTL: Error = ENOTTY;

    type Vm = ();
    type Vcpu = ();
    type VcpuShared = ();

    fn new_vm(_kind: usize) -> impl PinInit<(), Error> {
        Ok(())
    }

    fn new_vcpu_shared(
        _vm: &Vm<Self>,
        _id: u32,
        _index: u32,
        _kick: Arc<Kick>,
    ) -> impl PinInit<(), Error> {
        Ok(())
    }

    fn new_vcpu(_vm: &Vm<Self>, _id: u32, _index: u32) -> impl Init<(), Error> {
        Ok(())
    }

    fn has_vm_type(kind: usize) -> bool {
        kind == 0
    }

    // SIE needs no enabling: the instruction is there or it isn't.
    fn enable_cpu() -> Result {
        Ok(())
    }

    fn disable_cpu() {}
}

/// There are no interrupt routes yet.
#[derive(Clone, Copy)]
enum Route {}

/// There are no in-kernel devices on a bus.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Device {}

statistics! {
    /// Nothing is counted yet.
    struct NoStats {}
}

impl Wiring<Self> for Sie {
    type Route = Route;
    type Device = Device;
    type AttrDevice = NoDevice;
    type VmStats = NoStats;
    type VcpuStats = NoStats;
    const COALESCED_PAGE: Option<u32> = None;

    fn deliver(
        _vm: &Vm<Self>,
        route: &Route,
        _source: Source,
        _level: bool,
        _report: bool,
    ) -> Delivery {
        match *route {}
    }

    fn device_write(_vm: &Vm<Self>, device: Device, _address: u64, _data: &[u8]) -> bool {
        match device {}
    }

    fn device_read(_vm: &Vm<Self>, device: Device, _address: u64, _data: &mut [u8]) -> bool {
        match device {}
    }
}

#[pin_data]
struct KvmS390 {
    #[pin]
    provider: Provider<Sie>,
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
