// SPDX-License-Identifier: GPL-2.0
//! #UD: an instruction that the guest's processor doesn't have.

use crate::{
    control::Control, emulate, exit::smm, outcome::Next, params, state::Cx, vendor::Vendor,
};
use kernel::error::Result;
use kvm_emulate::Exception;
use x86_defs::{Rflags, Vector};

/// Bit of the parameter for the prefix.
const CLEAR_RF: u32 = 1 << 1;

/// Executes RSM and, for tests, what has a prefix that asks for it; replaces a hypercall
/// instruction of the other vendor; passes all else on to the guest.
///
/// # Errors
///
/// Those of [`emulate::instruction`].
pub fn handle<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    let forced = params::FORCE_EMULATION_PREFIX.get();
    if forced != 0 && emulate::skip_prefix(cx) {
        if forced & CLEAR_RF != 0 {
            let rflags = cx.state.control.rflags();
            cx.state.control.set_rflags(rflags.difference(Rflags::RF));
        }
        return emulate::instruction(cx);
    }
    // Where RSM has no exit of its own, it isn't there: the mode is one of ours.
    if V::HAS_SMM && cx.state.smm.is_active() && emulate::is_rsm(cx) {
        return smm::rsm(cx);
    }
    if emulate::is_foreign_hypercall(cx) {
        return emulate::instruction(cx);
    }
    cx.state.events.raise(Exception::new(Vector::Ud));
    Ok(Next::Resume)
}
