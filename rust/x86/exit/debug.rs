// SPDX-License-Identifier: GPL-2.0
//! #DB, #BP and accesses to debug registers.

use crate::{control::Control, emulate, outcome::Next, state::Cx, vendor::Vendor};
use kernel::error::Result;
use kvm_emulate::Exception;
use x86_defs::{Dr6, Vector};

/// A debug exception with these causes.
///
/// # Errors
///
/// As [`crate::userspace::exit`].
pub fn handle<V: Vendor>(cx: &mut Cx<'_, V>, causes: Dr6) -> Result<Next> {
    const CAUSES: u64 = 0xf | Dr6::BD.bits() | Dr6::BS.bits() | Dr6::BT.bits();
    let mut exception = Exception::new(Vector::Db);
    exception.payload = Some(causes.bits() & CAUSES);
    cx.state.events.raise(exception);
    Ok(Next::Resume)
}

/// INT3, where a debugger wants to see it.
///
/// # Errors
///
/// As [`crate::userspace::exit`].
pub fn breakpoint<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    cx.state.events.raise(Exception::new(Vector::Bp));
    Ok(Next::Resume)
}

/// The guest reads or writes a debug register.
///
/// # Errors
///
/// Those of [`emulate::instruction`].
pub fn access<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    let _ = cx.state.control.rip();
    emulate::instruction(cx)
}
