// SPDX-License-Identifier: GPL-2.0
//! Events for the host that got a guest out and were consumed by that: on VMX the
//! processor acknowledges them with the exit, and the kernel is to handle them now.
//!
//! C: `arch/x86/entry/common.c`.

use crate::irq::IrqOff;
use kernel::ffi::c_uint;

/// Handles the interrupt with this vector.
#[inline]
pub fn take_interrupt(_off: &IrqOff, vector: u8) {
    // SAFETY: Interrupts are off, as when the processor had delivered it; its vector
    // came from the interrupt controller.
    unsafe { kvm_helper_take_interrupt(vector.into()) };
}

/// Handles an NMI; NMIs are blocked until it is handled. May be called between guest
/// and host, where nothing may be traced.
pub fn take_nmi(_off: &IrqOff) {
    // SAFETY: As above.
    unsafe { kvm_helper_take_nmi() };
}

/// Handles a machine check.
pub fn take_machine_check(_off: &IrqOff) {
    // SAFETY: As above.
    unsafe { kvm_helper_take_machine_check() };
}

extern "C" {
    fn kvm_helper_take_interrupt(vector: c_uint);
    fn kvm_helper_take_nmi();
    fn kvm_helper_take_machine_check();
}
