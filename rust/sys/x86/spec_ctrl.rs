// SPDX-License-Identifier: GPL-2.0
//! Speculation: what a guest may have, and what keeps guests apart.
//!
//! SPEC_CTRL itself is switched by the code that enters the guest, as no branch
//! may come between. Here is the rest.

use super::{has_feature, msr};
use crate::{bindings as own, irq::IrqOff, preempt::Pinned};

const MSR_SPEC_CTRL: u32 = 0x48;
const IBRS: u64 = 1 << 0;
const STIBP: u64 = 1 << 1;
const SSBD: u64 = 1 << 2;

/// Another vCPU than the last one enters a guest on this CPU: what the last one
/// trained the branch predictors to must not steer it. Only where the kernel
/// wants it so.
#[inline]
pub fn vcpu_switched(_cpu: Pinned<'_>) {
    // SAFETY: No preconditions.
    unsafe { kvm_helper_vcpu_ibpb() };
}

/// A guest writes PRED_CMD with IBPB.
pub fn predictor_barrier() {
    // SAFETY: No preconditions.
    unsafe { kvm_helper_ibpb() };
}

/// A guest ran on this CPU: userspace must not meet its predictions. With
/// interrupts off since it ran.
#[inline]
pub fn guest_ran(_off: &IrqOff) {
    // SAFETY: No preconditions.
    unsafe { kvm_helper_guest_ran() };
}

/// The last division leaves nothing for the guest in the divider, on processors
/// that would show it.
#[inline]
pub fn clear_divider(_off: &IrqOff) {
    // SAFETY: Divides 0 by 1.
    unsafe { kvm_helper_clear_divider() };
}

/// Whether the guest's SSBD, by VIRT_SPEC_CTRL, goes another way than by
/// SPEC_CTRL: only then [`set_guest_ssbd`] does anything.
pub fn needs_virtual_ssbd() -> bool {
    has_feature(own::X86_FEATURE_LS_CFG_SSBD) || has_feature(own::X86_FEATURE_VIRT_SSBD)
}

/// Loads the guest's VIRT_SPEC_CTRL.
#[inline]
pub fn set_guest_ssbd(_off: &IrqOff, virt_spec_ctrl: u64) {
    // SAFETY: Interrupts are off; `restore_host_ssbd` undoes it.
    unsafe { own::x86_virt_spec_ctrl(virt_spec_ctrl, true) };
}

/// Undoes [`set_guest_ssbd`] of the same value.
#[inline]
pub fn restore_host_ssbd(_off: &IrqOff, virt_spec_ctrl: u64) {
    // SAFETY: Interrupts are off.
    unsafe { own::x86_virt_spec_ctrl(virt_spec_ctrl, false) };
}

/// Bits of SPEC_CTRL that a guest can have on this processor; 0 if it doesn't have
/// the register.
pub fn guest_spec_ctrl_bits() -> u64 {
    let has = has_feature;
    let mut bits = 0;
    if has(own::X86_FEATURE_SPEC_CTRL) || has(own::X86_FEATURE_AMD_IBRS) {
        bits |= IBRS;
    }
    if has(own::X86_FEATURE_INTEL_STIBP) || has(own::X86_FEATURE_AMD_STIBP) {
        bits |= STIBP;
    }
    if has(own::X86_FEATURE_SPEC_CTRL_SSBD) || has(own::X86_FEATURE_AMD_SSBD) {
        bits |= SSBD;
    }
    bits
}

/// Whether the processor takes a value for SPEC_CTRL: the only way to know what it
/// has beyond [`guest_spec_ctrl_bits`]. It is tried on this CPU.
pub fn is_valid_spec_ctrl(off: &IrqOff, value: u64) -> bool {
    let Some(saved) = msr::rdmsr(MSR_SPEC_CTRL) else { return value == 0 };
    let _: &IrqOff = off;
    // SAFETY: For a moment the kernel speculates differently; then it is as it was.
    unsafe {
        let valid = msr::wrmsr(MSR_SPEC_CTRL, value).is_ok();
        let _ = msr::wrmsr(MSR_SPEC_CTRL, saved);
        valid
    }
}

extern "C" {
    fn kvm_helper_vcpu_ibpb();
    fn kvm_helper_ibpb();
    fn kvm_helper_guest_ran();
    fn kvm_helper_clear_divider();
}
