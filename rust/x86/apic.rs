// SPDX-License-Identifier: GPL-2.0
//! The local APIC that the kernel has.

use crate::{state::Cx, vendor::Vendor};
use kvm_emulate::io::Fragment;

/// An access to the registers of the local APIC; the data of a read.
pub(crate) fn access<V: Vendor>(_cx: &mut Cx<'_, V>, access: &Fragment) -> u64 {
    access.data
}
