// SPDX-License-Identifier: GPL-2.0
//! Compares `kvm_uapi` with the kernel's headers; a difference fails the build.
//!
//! Numbers, sizes and offsets are compared for everything that the list macros
//! of `kvm_uapi` name. Nothing here produces code.

use crate::bindings;
use core::mem::{align_of, offset_of, size_of};
use kernel::macros::paste;
use static_assertions::const_assert_eq;

const_assert_eq!(kvm_uapi::KVM_API_VERSION, bindings::KVM_API_VERSION);
const_assert_eq!(kvm_uapi::KVM_MINOR, bindings::KVM_MINOR);

macro_rules! same_ioctls {
    ($module:path; $($name:ident)*) => { paste! {
        const _: () = {
            use $module as ours;
            $(assert!(ours::$name == bindings::[<ABI_ $name>], stringify!($name));)*
        };
    } };
}
kvm_uapi::for_each_ioctl!(same_ioctls, kvm_uapi::ioctl);
#[cfg(CONFIG_X86_64)]
kvm_uapi::for_each_x86_ioctl!(same_ioctls, kvm_uapi::ioctl::x86);
#[cfg(CONFIG_S390)]
kvm_uapi::for_each_s390_ioctl!(same_ioctls, kvm_uapi::ioctl::s390);

macro_rules! same_capabilities {
    ($($name:ident)*) => {
        $(const_assert_eq!(kvm_uapi::cap::$name, bindings::$name);)*
    };
}
kvm_uapi::for_each_capability!(same_capabilities);

const_assert_eq!(
    kvm_uapi::memory::GUEST_MEMFD_FLAG_MMAP,
    bindings::ABI_GUEST_MEMFD_FLAG_MMAP as u64
);
const_assert_eq!(
    kvm_uapi::memory::GUEST_MEMFD_FLAG_INIT_SHARED,
    bindings::ABI_GUEST_MEMFD_FLAG_INIT_SHARED as u64
);

macro_rules! same_irq_constants {
    ($($name:ident)*) => { paste! {
        $(const_assert_eq!(kvm_uapi::irq::$name, bindings::[<ABI_ $name>]);)*
    } };
}
kvm_uapi::for_each_irq_constant!(same_irq_constants);
const_assert_eq!(kvm_uapi::vcpu::KVM_CREATE_DEVICE_TEST, bindings::ABI_KVM_CREATE_DEVICE_TEST);
const_assert_eq!(kvm_uapi::irq::IOEVENTFD_FLAGS, bindings::ABI_KVM_IOEVENTFD_VALID_FLAG_MASK);

macro_rules! same_exit_reasons {
    ($($name:ident)*) => {
        $(const_assert_eq!(kvm_uapi::run::reason::$name, bindings::$name);)*
    };
}
kvm_uapi::for_each_exit_reason!(same_exit_reasons);

macro_rules! same_run_offsets {
    ($($field:ident = $offset:ident;)*) => { $(
        const_assert_eq!(offset_of!(bindings::kvm_run, $field), kvm_uapi::run::offset::$offset);
    )* };
}
same_run_offsets! {
    request_interrupt_window = REQUEST_INTERRUPT_WINDOW;
    immediate_exit__unsafe = IMMEDIATE_EXIT;
    exit_reason = EXIT_REASON;
    ready_for_interrupt_injection = READY_FOR_INTERRUPT_INJECTION;
    if_flag = IF_FLAG;
    flags = FLAGS;
    cr8 = CR8;
    apic_base = APIC_BASE;
    kvm_valid_regs = VALID_REGS;
    kvm_dirty_regs = DIRTY_REGS;
    s = SYNC_REGS;
    __bindgen_anon_1 = EXIT;
}

#[cfg(CONFIG_S390)]
const _: () = {
    use kvm_uapi::s390::run;
    assert!(offset_of!(bindings::kvm_run, psw_mask) == run::PSW_MASK);
    assert!(offset_of!(bindings::kvm_run, psw_addr) == run::PSW_ADDR);
    assert!(size_of::<bindings::kvm_fpu>() == size_of::<kvm_uapi::s390::Fpu>());
    assert!(offset_of!(bindings::kvm_fpu, fprs) == 8);
};

#[cfg(CONFIG_S390)]
macro_rules! same_sync_regs {
    ($($field:ident = $offset:ident;)*) => { $(
        const_assert_eq!(
            offset_of!(bindings::kvm_sync_regs, $field),
            kvm_uapi::s390::run::$offset.wrapping_sub(offset_of!(bindings::kvm_run, s))
        );
    )* };
}
#[cfg(CONFIG_S390)]
kvm_uapi::for_each_s390_sync_reg!(same_sync_regs);

// A list of variable length after a structure has no size, so it counts in
// neither.
macro_rules! same_structs {
    ($module:ident $(($ours:ident, $theirs:ident, { $($field:ident)* }))*) => { $(
        const _: () = {
            use bindings::$theirs as Theirs;
            use kvm_uapi::$module::$ours as Ours;
            assert!(size_of::<Ours>() == size_of::<Theirs>(), stringify!($theirs));
            assert!(align_of::<Ours>() == align_of::<Theirs>(), stringify!($theirs));
            $(assert!(
                offset_of!(Ours, $field) == offset_of!(Theirs, $field),
                concat!(stringify!($theirs), ".", stringify!($field))
            );)*
        };
    )* };
}
kvm_uapi::for_each_memory_struct!(same_structs, memory);
kvm_uapi::for_each_irq_struct!(same_structs, irq);
kvm_uapi::for_each_vcpu_struct!(same_structs, vcpu);
#[cfg(CONFIG_X86_64)]
kvm_uapi::for_each_x86_struct!(same_structs, x86);
#[cfg(CONFIG_S390)]
kvm_uapi::for_each_s390_struct!(same_structs, s390);
