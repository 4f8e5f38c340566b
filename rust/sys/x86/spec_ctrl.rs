// SPDX-License-Identifier: GPL-2.0
//! Speculation: what a guest may have, and what keeps guests apart.
//!
//! SPEC_CTRL itself is switched by the code that enters the guest, as no branch
//! may come between. Here is the rest.

use super::{has_feature, msr};
use crate::{bindings as own, irq::IrqOff, preempt::Pinned};

const MSR_FLUSH_CMD: u32 = 0x10b;
const FLUSH_L1D: u64 = 1;

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

/// A guest writes FLUSH_CMD: this CPU's L1 data cache is written back and emptied, if the
/// processor has that.
pub fn flush_l1d() {
    if has_l1d_flush() {
        // SAFETY: The cache's contents are the same wherever they are.
        unsafe { msr::write_msr(MSR_FLUSH_CMD, FLUSH_L1D) };
    }
}

/// Whether the processor has FLUSH_CMD.
pub fn has_l1d_flush() -> bool {
    has_feature(own::X86_FEATURE_FLUSH_L1D)
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

/// Whether the processor itself switches SPEC_CTRL around guests of SVM.
pub fn is_switched_by_svm() -> bool {
    has_feature(own::X86_FEATURE_V_SPEC_CTRL)
}

/// Whether the kernel runs with IBRS and userspace without.
pub fn kernel_has_ibrs() -> bool {
    has_feature(own::X86_FEATURE_KERNEL_IBRS)
}

/// What the kernel knows of the processor's controls, by whatever bits of CPUID it has them.
#[derive(Clone, Copy, Debug)]
pub struct Controls {
    /// IBPB.
    pub ibpb: bool,
    /// IBPB clears predicted returns, too.
    pub ibpb_returns: bool,
    /// IBRS.
    pub ibrs: bool,
    /// STIBP.
    pub stibp: bool,
    /// SSBD, in SPEC_CTRL.
    pub ssbd: bool,
    /// SSBD, in VIRT_SPEC_CTRL, which [`set_guest_ssbd`] sees to.
    pub virtual_ssbd: bool,
}

impl Controls {
    /// Those of this host.
    pub fn of_host() -> Self {
        let has = has_feature;
        // SAFETY: The helper reads `boot_cpu_data`.
        let by_intel = unsafe { kvm_helper_ibpb_clears_returns() };
        Self {
            ibpb: has(own::X86_FEATURE_IBPB),
            ibpb_returns: by_intel || has(own::X86_FEATURE_AMD_IBPB_RET),
            ibrs: has(own::X86_FEATURE_IBRS),
            stibp: has(own::X86_FEATURE_STIBP),
            ssbd: has(own::X86_FEATURE_SPEC_CTRL_SSBD) || has(own::X86_FEATURE_AMD_SSBD),
            virtual_ssbd: needs_virtual_ssbd(),
        }
    }
}

extern "C" {
    fn kvm_helper_vcpu_ibpb();
    fn kvm_helper_ibpb();
    fn kvm_helper_ibpb_clears_returns() -> bool;
    fn kvm_helper_guest_ran();
    fn kvm_helper_clear_divider();
}
