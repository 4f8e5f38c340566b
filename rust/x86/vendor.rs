// SPDX-License-Identifier: GPL-2.0
//! What a vendor module provides, and the core's [`Arch`] made of it.

use core::marker::PhantomData;
use kernel::{
    error::{Error, Result},
    module::ModuleMetadata,
    prelude::*,
    sync::Arc,
};
use kvm_core::{
    arch::Arch,
    mmu::{Paging, TwoLevel},
    vm::Vm,
};
use kvm_sys::{kick::Kick, x86::Extension};

/// One vendor's virtualization extension.
pub trait Vendor: Paging {
    /// The vendor module.
    type Module: ModuleMetadata;
    /// The extension as the kernel knows it.
    const EXTENSION: Extension;

    /// Whether the processor itself has the extension, whatever firmware did.
    fn is_present() -> bool;
}

/// The core's view of an x86 processor.
pub struct X86<V>(PhantomData<V>);

impl<V: Vendor> Arch for X86<V> {
    type Module = V::Module;
    type Tables = TwoLevel<V>;
    type Wiring = Self;
    const COMPAT: bool = true;
    // kvm_run, port I/O data, coalesced I/O ring.
    const VCPU_MMAP_PAGES: u32 = 3;
    // The ring belongs to the VM.
    const VCPU_OWN_PAGES: u32 = 2;
    const MAX_VCPUS: u32 = 1024;
    // Ids carry topology, which leaves gaps.
    const MAX_VCPU_ID: u32 = 4096;
    const UNKNOWN_VCPU_IOCTL: Error = EINVAL;

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

    fn new_vcpu(_vm: &Vm<Self>, _id: u32, _index: u32) -> Result {
        Ok(())
    }

    fn has_vm_type(kind: usize) -> bool {
        // KVM_X86_DEFAULT_VM
        kind == 0
    }

    fn enable_cpu() -> Result {
        V::EXTENSION.enable_on_this_cpu()
    }

    fn disable_cpu() {
        V::EXTENSION.disable_on_this_cpu();
    }
}
