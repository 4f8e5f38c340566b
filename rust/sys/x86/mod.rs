// SPDX-License-Identifier: GPL-2.0
//! x86 processors: the virtualization hardware, and the host's state around a
//! guest.
//!
//! The kernel itself turns VMX and SVM on and off (`arch/x86/virt/hw.c`), counts
//! users, and knows what to do when the machine crashes; [`Extension`] is its
//! interface.
//!
//! - [`fpu`]: the guest's floating-point and vector state; [`fpregs`]: single
//!   registers of it.
//! - [`xcr`]: XCR0, XSS, PKRU.
//! - [`msr`]: model-specific registers.
//! - [`user_return`]: those that may stay the guest's until userspace runs.
//! - [`debugreg`]: debug registers.
//! - [`spec_ctrl`]: speculation around a guest; [`l1d`]: what is in the cache then.
//! - [`host_state`], [`user_segments`], [`guest_exit`]: what VMX leaves to software.
//! - [`tsc`]: the time-stamp counter, and clocks together with it.

pub mod debugreg;
pub mod fpregs;
pub mod fpu;
pub mod guest_exit;
pub mod host_state;
pub mod l1d;
pub mod msr;
pub mod spec_ctrl;
pub mod trace;
pub mod tsc;
pub mod user_return;
pub mod user_segments;
pub mod xcr;

pub use msr::{rdmsr, wrmsr};

use crate::bindings as own;
use core::arch::x86_64::__cpuid_count;
use kernel::{
    error::{to_result, Result},
    ffi::{c_int, c_uint},
};

/// A virtualization extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// AMD SVM.
    Svm,
    /// Intel VMX.
    Vmx,
}

impl Extension {
    const fn feature(self) -> u32 {
        match self {
            Self::Svm => own::X86_FEATURE_SVM,
            Self::Vmx => own::X86_FEATURE_VMX,
        }
    }

    /// Whether the kernel found the extension usable on the boot CPU. It isn't
    /// when the processor lacks it or when firmware turned it off.
    pub fn is_usable(self) -> bool {
        has_feature(self.feature())
    }

    /// Takes a reference on the current CPU; the first one turns the extension
    /// on. The caller must stay on this CPU.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the kernel doesn't drive this extension; `EBUSY` if
    /// somebody else turned it on; `EFAULT` if the processor refused.
    pub fn enable_on_this_cpu(self) -> Result {
        // SAFETY: No preconditions; the function acts on the current CPU.
        to_result(unsafe { own::x86_virt_get_ref(self.feature() as c_int) })
    }

    /// Drops the reference of the current CPU; the last one turns the extension
    /// off. Pairs with a successful [`Self::enable_on_this_cpu`] on this CPU.
    pub fn disable_on_this_cpu(self) {
        // SAFETY: No preconditions; an unpaired call warns and does nothing.
        unsafe { own::x86_virt_put_ref(self.feature() as c_int) };
    }
}

/// Tells the kernel that virtualization is about to be turned off under guests, so that
/// instructions of it which fault are no mistake. There is no way back.
pub fn set_going_down() {
    // SAFETY: A flag of the kernel that is only ever set, and that others only read. Who
    // interrupts CPUs after this, to turn virtualization off there, orders the store for them.
    unsafe { (&raw mut own::virt_rebooting).write_volatile(true) };
}

/// Whether instructions of the extension may fault because it was turned off.
pub fn is_going_down() -> bool {
    // SAFETY: As above.
    unsafe { (&raw const own::virt_rebooting).read_volatile() }
}

/// Whether the host's paging has five levels.
pub fn host_has_la57() -> bool {
    has_feature(own::X86_FEATURE_LA57)
}

/// Whether the processor keeps its caches coherent with accesses of its own of another memory
/// type.
pub fn has_self_snoop() -> bool {
    has_feature(own::X86_FEATURE_SELFSNOOP)
}

/// Whether a guest may execute MWAIT: the processor has it, and its timer goes on
/// while it waits.
pub fn wakes_from_mwait() -> bool {
    // SAFETY: The helper reads `boot_cpu_data`.
    unsafe { kvm_helper_wakes_from_mwait() }
}

/// Bits of a physical address that the host can use: what CPUID says, less those
/// that memory encryption takes.
pub fn physical_bits() -> u32 {
    // SAFETY: The helper reads `boot_cpu_data`.
    unsafe { kvm_helper_physical_bits() }
}

/// Words of features as the kernel has them (`asm/cpufeatures.h`): what the
/// processor has, without what was turned off, and with what the kernel adds.
pub fn capabilities() -> [u32; CAPABILITY_WORDS] {
    let mut words = [0; CAPABILITY_WORDS];
    for (number, word) in (0..).zip(words.iter_mut()) {
        // SAFETY: The helper reads a word of `boot_cpu_data`, or none.
        *word = unsafe { kvm_helper_capability(number) };
    }
    words
}

/// Kind of an entry in the kernel's table of faults that are expected: go on at the given
/// address.
pub const EX_TYPE_DEFAULT: u32 = own::EX_TYPE_DEFAULT;

/// Words of [`capabilities`]; those that this kernel doesn't have are zero.
pub const CAPABILITY_WORDS: usize = 24;

fn has_feature(feature: u32) -> bool {
    // SAFETY: The helper reads a bit of `boot_cpu_data`; every X86_FEATURE number
    // is within it.
    unsafe { kvm_helper_boot_cpu_has(feature) }
}

/// CPUID of the current CPU: `[eax, ebx, ecx, edx]`.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    // SAFETY: Every 64-bit processor has CPUID; unknown leaves answer anyway.
    let regs = unsafe { __cpuid_count(leaf, subleaf) };
    [regs.eax, regs.ebx, regs.ecx, regs.edx]
}

extern "C" {
    fn kvm_helper_physical_bits() -> c_uint;
    fn kvm_helper_wakes_from_mwait() -> bool;
    fn kvm_helper_capability(word: c_uint) -> c_uint;
    fn kvm_helper_boot_cpu_has(feature: c_uint) -> bool;
}
