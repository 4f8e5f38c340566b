// SPDX-License-Identifier: GPL-2.0
//! VMCALL and VMMCALL.

use crate::{emulate, hypercall, outcome::Next, state::Cx, vendor::Vendor};
use kernel::error::Result;

/// Carries out the hypercall.
///
/// # Errors
///
/// Those of [`emulate::skip`].
pub fn handle<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    hypercall::call(cx);
    emulate::skip(cx)
}
