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
    ($($name:ident)*) => { paste! {
        $(const_assert_eq!(kvm_uapi::ioctl::$name, bindings::[<ABI_ $name>]);)*
    } };
}
kvm_uapi::for_each_ioctl!(same_ioctls);

macro_rules! same_capabilities {
    ($($name:ident)*) => {
        $(const_assert_eq!(kvm_uapi::cap::$name, bindings::$name);)*
    };
}
kvm_uapi::for_each_capability!(same_capabilities);

macro_rules! same_structs {
    ($(($ours:ident, $theirs:ident, { $($field:ident)* }))*) => { $(
        const_assert_eq!(size_of::<kvm_uapi::memory::$ours>(), size_of::<bindings::$theirs>());
        const_assert_eq!(align_of::<kvm_uapi::memory::$ours>(), align_of::<bindings::$theirs>());
        $(const_assert_eq!(
            offset_of!(kvm_uapi::memory::$ours, $field),
            offset_of!(bindings::$theirs, $field)
        );)*
    )* };
}
kvm_uapi::for_each_memory_struct!(same_structs);
