// SPDX-License-Identifier: GPL-2.0
//! The VMX instructions, and the memory that they work on.
//!
//! - [`Vmcs`]: a vCPU's control structure. [`Loaded`]: the same while it is current on
//!   this CPU, which is what its fields can be reached through.
//! - [`VmcsCpu`]: the control structures that are active on a CPU.
//! - [`Loaded::enter`]: into the guest and out again (`enter.S`), with an [`Entering`].
//! - [`ModificationLog`]: pages that the processor found written to.
//! - [`flush_ept`], [`flush_vpid`]: translations that the CPU keeps.
#![warn(missing_docs)]

mod active;
mod insn;
mod modification_log;

pub use active::{Entering, Loaded, Vmcs, VmcsCpu};
pub use modification_log::{ModificationLog, LOG_ENTRIES};

use kvm_sys::preempt::Pinned;

/// Forgets all translations that this CPU keeps for an EPT pointer.
#[inline]
pub fn flush_ept(_cpu: Pinned<'_>, pointer: u64) {
    insn::invept(pointer);
}

/// Forgets all translations of linear addresses that this CPU keeps for a
/// virtual-processor identifier other than 0.
#[inline]
pub fn flush_vpid(_cpu: Pinned<'_>, vpid: u16) {
    insn::invvpid(vpid.into());
}

extern "C" {
    static kvm_vmx_exited: u8;
    static kvm_vmx_exited_switching: u8;
    fn kvm_vmx_enter(registers: *mut u64, entering: *mut Entering, launched: bool) -> bool;
}
