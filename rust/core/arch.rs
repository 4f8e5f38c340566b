// SPDX-License-Identifier: GPL-2.0
//! What an architecture provides.

use kernel::{
    error::{Error, Result},
    module::ModuleMetadata,
    prelude::*,
};

/// One processor type's side of KVM, implemented once in each vendor module.
pub trait Arch: 'static {
    /// The vendor module; it stays loaded while a KVM file is open.
    type Module: ModuleMetadata;

    /// Whether 32-bit processes of a 64-bit host may use KVM.
    const COMPAT: bool;

    /// Pages of a vCPU file that userspace maps: `kvm_run` and what follows it.
    const VCPU_MMAP_PAGES: u32;

    /// How many of those each vCPU has to itself; they are the first ones.
    const VCPU_OWN_PAGES: u32;

    /// Most vCPUs of a VM, at most 4096.
    const MAX_VCPUS: u32;

    /// One more than the highest vCPU id.
    const MAX_VCPU_ID: u32;

    /// What a vCPU's file answers to a KVM ioctl that it doesn't know.
    const UNKNOWN_VCPU_IOCTL: Error;

    /// Whether VMs of this type (the argument of `KVM_CREATE_VM`) can be made.
    fn has_vm_type(kind: usize) -> bool;

    /// Turns virtualization on on the current CPU; the caller can't migrate.
    ///
    /// # Errors
    ///
    /// Any; the CPU then stays, or becomes, offline for KVM.
    fn enable_cpu() -> Result;

    /// Undoes [`Self::enable_cpu`] on the current CPU.
    fn disable_cpu();

    /// Value of a capability that the core doesn't answer itself; 0 if it isn't
    /// there.
    fn check_extension(_capability: u32) -> u32 {
        0
    }

    /// An ioctl of /dev/kvm that the core doesn't know.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an unknown request, as on every architecture.
    fn system_ioctl(_request: u32, _arg: usize) -> Result<u32> {
        Err(EINVAL)
    }
}
