// SPDX-License-Identifier: GPL-2.0
//! Capability numbers, the arguments of `KVM_CHECK_EXTENSION` and
//! `KVM_ENABLE_CAP`.

macro_rules! capabilities {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
        $($(#[$doc])* pub const $name: u32 = $value;)*

        /// Calls `$callback!` with the names of all capabilities of this module.
        #[macro_export]
        macro_rules! for_each_capability {
            ($callback:ident) => { $callback! { $($name)* } };
        }
    };
}

capabilities! {
    /// Guest memory comes from the VMM's address space.
    KVM_CAP_USER_MEMORY = 3;
    /// `KVM_GET_SUPPORTED_CPUID` and `KVM_SET_CPUID2`.
    KVM_CAP_EXT_CPUID = 7;
    /// Recommended number of vCPUs.
    KVM_CAP_NR_VCPUS = 9;
    /// Memory slots of each address space.
    KVM_CAP_NR_MEMSLOTS = 10;
    /// Guest mappings follow changes of the VMM's (MMU notifiers).
    KVM_CAP_SYNC_MMU = 16;
    /// Slots can be deleted.
    KVM_CAP_DESTROY_MEMORY_REGION_WORKS = 21;
    /// Slots may touch each other.
    KVM_CAP_JOIN_MEMORY_REGIONS_WORKS = 30;
    /// `KVM_GET_DEBUGREGS`, `KVM_SET_DEBUGREGS`.
    KVM_CAP_DEBUGREGS = 50;
    /// `KVM_GET_XSAVE`, `KVM_SET_XSAVE`.
    KVM_CAP_XSAVE = 55;
    /// `KVM_GET_XCRS`, `KVM_SET_XCRS`.
    KVM_CAP_XCRS = 56;
    /// Largest number of vCPUs of one VM.
    KVM_CAP_MAX_VCPUS = 66;
    /// Slots may be read-only for the guest.
    KVM_CAP_READONLY_MEM = 81;
    /// `KVM_CHECK_EXTENSION` works on a VM fd.
    KVM_CAP_CHECK_EXTENSION_VM = 105;
    /// Largest vCPU id plus one.
    KVM_CAP_MAX_VCPU_ID = 128;
    /// `kvm_run.immediate_exit` is looked at.
    KVM_CAP_IMMEDIATE_EXIT = 136;
    /// The dirty log is cleared by an ioctl of its own; a mask of what can be
    /// enabled.
    KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 = 168;
    /// `KVM_GET_XSAVE2`; the size of its area.
    KVM_CAP_XSAVE2 = 208;
    /// Attributes of /dev/kvm.
    KVM_CAP_SYS_ATTRIBUTES = 209;
    /// `KVM_SET_USER_MEMORY_REGION2`.
    KVM_CAP_USER_MEMORY2 = 231;
    /// Guest memory can be mapped in advance.
    KVM_CAP_PRE_FAULT_MEMORY = 236;
}
