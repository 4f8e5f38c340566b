// SPDX-License-Identifier: GPL-2.0
//! What a vCPU's thread reaches whatever it is doing.

use kvm_sys::x86::user_segments::UserSegments;

/// The part of a vCPU that the scheduler's hooks need.
pub(crate) struct VmxShared {
    /// Segments of user mode.
    pub(crate) segments: UserSegments,
}

impl Default for VmxShared {
    fn default() -> Self {
        Self { segments: UserSegments::new() }
    }
}
