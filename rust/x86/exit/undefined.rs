// SPDX-License-Identifier: GPL-2.0
//! #UD: an instruction that the guest's processor doesn't have.

use crate::{emulate, outcome::Next, state::Cx, vendor::Vendor};
use kernel::error::Result;
use kvm_emulate::Exception;
use x86_defs::Vector;

/// Executes a hypercall instruction of the other vendor, and passes all else on
/// to the guest.
///
/// # Errors
///
/// Those of [`emulate::instruction`].
pub fn handle<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    if emulate::is_hypercall(cx) {
        return emulate::instruction(cx);
    }
    cx.state.events.raise(Exception::new(Vector::Ud));
    Ok(Next::Resume)
}
