// SPDX-License-Identifier: GPL-2.0
//! Interpretive execution (SIE) of IBM Z.

use crate::bindings as own;

/// Whether the machine has the interpretive-execution facility with format-2
/// state descriptions, the only ones in use since z/Architecture.
pub fn has_sie() -> bool {
    // SAFETY: `sclp` is filled at boot and never changes afterwards.
    unsafe { (*core::ptr::addr_of!(own::sclp)).has_sief2() != 0 }
}
