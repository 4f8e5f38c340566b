// SPDX-License-Identifier: GPL-2.0
//! The VMX instructions. One that faults, because the kernel turned VMX off on its way
//! down, does nothing, and neither does one that fails; reads give 0 then.
//!
//! What the processor keeps of a VMCS is no memory that a program knows, so accesses to its
//! fields are none to memory (`nomem`); they stay in order among themselves all the same.

use core::arch::asm;
use kvm_sys::{on_fault, x86::EX_TYPE_DEFAULT};
use vmx_arch::field::Field;

/// VMREAD.
///
/// # Safety
///
/// A VMCS is current that the caller may read.
#[inline(always)]
pub(crate) unsafe fn vmread(field: Field) -> u64 {
    let mut value = 0_u64;
    // SAFETY: Reads a field; a fault is caught.
    unsafe {
        asm!(
            "2: vmread {value}, {field}",
            "3:",
            on_fault!(),
            kind = const EX_TYPE_DEFAULT,
            value = inout(reg) value,
            field = in(reg) u64::from(field.encoding()),
            options(nomem, nostack),
        );
    }
    value
}

/// VMREAD; `None` if the processor doesn't have the field.
///
/// # Safety
///
/// As for [`vmread`].
pub(crate) unsafe fn try_vmread(field: Field) -> Option<u64> {
    let mut value = 0_u64;
    let failed: u8;
    // SAFETY: As above.
    unsafe {
        asm!(
            "mov {failed}, 1",
            "2: vmread {value}, {field}",
            "setbe {failed}",
            "3:",
            on_fault!(),
            kind = const EX_TYPE_DEFAULT,
            value = inout(reg) value,
            field = in(reg) u64::from(field.encoding()),
            failed = out(reg_byte) failed,
            options(nostack),
        );
    }
    (failed == 0).then_some(value)
}

/// VMWRITE.
///
/// # Safety
///
/// A VMCS is current that the caller may change.
#[inline(always)]
pub(crate) unsafe fn vmwrite(field: Field, value: u64) {
    // SAFETY: Changes a field; a fault is caught.
    unsafe {
        asm!(
            "2: vmwrite {field}, {value}",
            "3:",
            on_fault!(),
            kind = const EX_TYPE_DEFAULT,
            field = in(reg) u64::from(field.encoding()),
            value = in(reg) value,
            options(nomem, nostack),
        );
    }
}

/// An instruction with one address of an address.
macro_rules! by_address {
    ($(#[$doc:meta])* $name:ident, $insn:literal) => {
        $(#[$doc])*
        #[inline]
        pub(crate) unsafe fn $name(physical: u64) {
            // SAFETY: By the contract; a fault is caught.
            unsafe {
                asm!(
                    concat!("2: ", $insn, " qword ptr [{}]"),
                    "3:",
                    on_fault!(),
                    in(reg) &physical,
                    kind = const EX_TYPE_DEFAULT,
                    options(nostack),
                );
            }
        }
    };
}

by_address! {
    /// VMPTRLD: makes a VMCS current on this CPU.
    ///
    /// # Safety
    ///
    /// There is a VMCS that is active on no other CPU, and stays until [`vmclear`].
    vmptrld, "vmptrld"
}

by_address! {
    /// VMCLEAR: writes a VMCS back; it is active and current no longer.
    ///
    /// # Safety
    ///
    /// There is memory for a VMCS, which isn't active on another CPU.
    vmclear, "vmclear"
}

/// INVEPT of one context, or INVVPID: type 1.
macro_rules! invalidate {
    ($(#[$doc:meta])* $name:ident, $insn:literal) => {
        $(#[$doc])*
        #[inline]
        pub(crate) fn $name(context: u64) {
            let descriptor = [context, 0];
            // SAFETY: Forgetting translations changes nothing else; a fault is caught.
            unsafe {
                asm!(
                    concat!("2: ", $insn, " {kind_of}, xmmword ptr [{descriptor}]"),
                    "3:",
                    on_fault!(),
                    kind = const EX_TYPE_DEFAULT,
                    kind_of = in(reg) 1_u64,
                    descriptor = in(reg) &descriptor,
                    options(nostack),
                );
            }
        }
    };
}

invalidate! {
    /// Forgets what this CPU knows by an EPT pointer.
    invept, "invept"
}

invalidate! {
    /// Forgets what this CPU knows by a virtual-processor identifier, which isn't 0.
    invvpid, "invvpid"
}
