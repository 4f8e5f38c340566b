// SPDX-License-Identifier: GPL-2.0
//! A set of CPUs that can be a `static`.

use kernel::{
    bindings,
    cpu::CpuId,
    sync::atomic::{Atomic, Relaxed},
};

/// Number of CPUs that are online.
pub fn online() -> u32 {
    // SAFETY: No preconditions.
    unsafe { kvm_helper_num_online_cpus() }
}

extern "C" {
    fn kvm_helper_num_online_cpus() -> kernel::ffi::c_uint;
}

const CPUS: usize = bindings::NR_CPUS as usize;

/// A set of CPUs, empty at first.
///
/// Each CPU is meant to change only its own membership, from a context that
/// can't migrate, so no order between CPUs is promised.
pub struct CpuSet {
    member: [Atomic<bool>; CPUS],
}

impl CpuSet {
    /// The empty set.
    #[expect(clippy::new_without_default, reason = "meant for statics")]
    pub const fn new() -> Self {
        Self { member: [const { Atomic::new(false) }; CPUS] }
    }

    /// Adds the current CPU; whether it was missing.
    pub fn add_this_cpu(&self) -> bool {
        self.exchange(true) == Some(false)
    }

    /// Removes the current CPU; whether it was there.
    pub fn remove_this_cpu(&self) -> bool {
        self.exchange(false) == Some(true)
    }

    /// `None` can't happen: CPU numbers are below `NR_CPUS`.
    fn exchange(&self, member: bool) -> Option<bool> {
        let cpu = CpuId::current().as_u32() as usize;
        self.member.get(cpu).map(|flag| flag.xchg(member, Relaxed))
    }
}
