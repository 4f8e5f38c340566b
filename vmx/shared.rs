// SPDX-License-Identifier: GPL-2.0
//! What a vCPU's thread reaches whatever it is doing, or others.

use kernel::sync::{Arc, SetOnce};
use kvm_sys::x86::user_segments::UserSegments;
use vmx_hw::ModificationLog;

/// The part of a vCPU that the scheduler's hooks need, and who asks what it wrote to.
pub(crate) struct VmxShared {
    /// Segments of user mode.
    pub(crate) segments: UserSegments,
    /// The log of pages, once the guest was entered, if there is one.
    pub(crate) log: SetOnce<Arc<ModificationLog>>,
}

impl Default for VmxShared {
    fn default() -> Self {
        Self { segments: UserSegments::new(), log: SetOnce::new() }
    }
}
