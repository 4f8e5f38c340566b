// SPDX-License-Identifier: GPL-2.0
//! Debug registers of a vCPU: `KVM_GET_DEBUGREGS`, `KVM_SET_DEBUGREGS`.

use super::events;
use crate::{state::Cx, vendor::Vendor};
use kernel::prelude::*;
use kvm_sys::user;
use kvm_uapi::x86::Debugregs;

pub(crate) fn get<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    events::settle_payload(cx);
    let debug = &cx.state.debug;
    let all = Debugregs {
        db: debug.addresses,
        dr6: debug.dr6,
        dr7: debug.dr7,
        flags: 0,
        reserved: [0; 9],
    };
    user::write(arg, &all).map(|()| 0)
}

/// Sets them.
///
/// # Errors
///
/// `EINVAL` for any flag, or an upper half of DR6 or DR7.
pub(crate) fn set<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let all: Debugregs = user::read(arg)?;
    if all.flags != 0 || all.dr6 >> 32 != 0 || all.dr7 >> 32 != 0 {
        return Err(EINVAL);
    }
    let state = &mut *cx.state;
    state.debug.addresses = all.db;
    state.debug.dr6 = all.dr6;
    state.debug.dr7 = all.dr7;
    state.debug.load(&mut state.control);
    Ok(0)
}
