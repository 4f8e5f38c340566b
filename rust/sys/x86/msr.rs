// SPDX-License-Identifier: GPL-2.0
//! Model-specific registers of the current CPU.

use crate::bindings as own;
use core::arch::asm;
use kernel::{
    error::{code::EINVAL, Result},
    ffi::{c_int, c_uint},
};

/// Reads an MSR, `None` if the processor doesn't have it.
pub fn rdmsr(msr: u32) -> Option<u64> {
    let mut value = 0;
    // SAFETY: `value` is writable for the call; a fault is caught and reported.
    let failed = unsafe { kvm_helper_rdmsr_safe(msr, &mut value) };
    (failed == 0).then_some(value)
}

/// Writes an MSR.
///
/// # Errors
///
/// `EINVAL` if the processor doesn't have it or doesn't take the value; nothing
/// changes then.
///
/// # Safety
///
/// The kernel doesn't rely on what the MSR had.
pub unsafe fn wrmsr(msr: u32, value: u64) -> Result {
    // SAFETY: By the contract; a fault is caught and reported.
    match unsafe { kvm_helper_wrmsr_safe(msr, value) } {
        0 => Ok(()),
        _ => Err(EINVAL),
    }
}

/// What the kernel does when the instruction between 2 and 3 faults: it goes on
/// behind it. The operand `{kind}` says how; see `asm/extable.h`.
#[macro_export]
macro_rules! on_fault {
    () => {
        concat!(
            ".pushsection __ex_table, \"a\"\n",
            ".balign 4\n",
            ".long 2b - .\n",
            ".long 3b - .\n",
            ".long {kind}\n",
            ".popsection"
        )
    };
}

/// Reads an MSR that the processor has. Of one that it doesn't have the value is
/// 0, and the kernel's log says so once.
#[inline(always)]
pub fn read_msr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: Reading has no effect on the kernel; a fault is caught.
    unsafe {
        asm!(
            "2: rdmsr",
            "3:",
            on_fault!(),
            kind = const own::EX_TYPE_RDMSR,
            in("ecx") msr, out("eax") low, out("edx") high,
            options(nostack, preserves_flags),
        );
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes an MSR. One that the processor doesn't have stays so, and so does one
/// that doesn't take the value; the kernel's log says so once.
///
/// # Safety
///
/// The kernel doesn't rely on what the MSR had.
#[inline(always)]
pub unsafe fn write_msr(msr: u32, value: u64) {
    // SAFETY: By the contract; a fault is caught.
    unsafe {
        asm!(
            "2: wrmsr",
            "3:",
            on_fault!(),
            kind = const own::EX_TYPE_WRMSR,
            in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags),
        );
    }
}

extern "C" {
    fn kvm_helper_rdmsr_safe(msr: c_uint, value: *mut u64) -> c_int;
    fn kvm_helper_wrmsr_safe(msr: c_uint, value: u64) -> c_int;
}
