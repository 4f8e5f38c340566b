// SPDX-License-Identifier: GPL-2.0
//! RSM.

use crate::{mailbox, outcome::Next, smm, state::Cx, vendor::Vendor};
use kernel::error::Result;
use kvm_emulate::Exception;
use x86_defs::Vector;

/// Leaves system-management mode; elsewhere there is no such instruction.
///
/// # Errors
///
/// None: it has the form of all handlers.
pub fn rsm<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    if !cx.state.smm.is_active() {
        cx.state.events.raise(Exception::new(Vector::Ud));
        return Ok(Next::Resume);
    }
    smm::leave(cx);
    cx.state.debug.executed();
    // INIT may have waited for this.
    mailbox::start(cx);
    Ok(Next::Resume)
}
