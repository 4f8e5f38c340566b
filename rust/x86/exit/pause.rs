// SPDX-License-Identifier: GPL-2.0
//! PAUSE in a loop: the guest waits for a lock.

use crate::{emulate, outcome::Next, state::Cx, vendor::Vendor};
use kernel::error::Result;

/// Lets others run: whoever has the lock may be waiting for a CPU.
///
/// # Errors
///
/// Those of [`emulate::skip`].
pub fn handle<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    if !cx.vm.vcpus().yield_to_any(cx.vcpu) {
        kvm_sys::process::cond_resched();
    }
    emulate::skip(cx)
}
