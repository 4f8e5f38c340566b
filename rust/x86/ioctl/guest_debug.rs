// SPDX-License-Identifier: GPL-2.0
//! A debugger outside: `KVM_SET_GUEST_DEBUG`.

use crate::{debug::want, inject::Injected, state::Cx, vendor::Vendor};
use kernel::prelude::*;
use kvm_emulate::Exception;
use kvm_sys::user;
use kvm_uapi::x86::GuestDebug;
use x86_defs::Vector;

/// Takes what the debugger wants.
///
/// # Errors
///
/// `EBUSY` for an exception to inject while there is one; `EFAULT`.
pub(crate) fn set<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let wanted: GuestDebug = user::read(arg)?;
    let state = &mut *cx.state;
    if wanted.control & (want::INJECT_DB | want::INJECT_BP) != 0 {
        let is_injecting = matches!(state.events.injected, Some(Injected::Exception { .. }));
        if state.events.exception.is_some() || is_injecting {
            return Err(EBUSY);
        }
        let is_db = wanted.control & want::INJECT_DB != 0;
        state.events.raise(Exception::new(if is_db { Vector::Db } else { Vector::Bp }));
    }
    let [a, b, c, d, _, _, _, dr7] = wanted.arch.debugreg;
    state.debug.set_wants(&mut state.control, wanted.control, [a, b, c, d], dr7);
    state.events.check = true;
    Ok(0)
}
