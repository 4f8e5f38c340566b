// SPDX-License-Identifier: GPL-2.0
//! Machine checks: `KVM_X86_SETUP_MCE` and `KVM_X86_SET_MCE`.

use crate::{control::Control, state::Cx, vendor::Vendor};
use kernel::prelude::*;
use kvm_emulate::Exception;
use kvm_policy::mce::{Injected, MachineError, CAP_COMMON};
use kvm_sys::user;
use kvm_uapi::x86::X86Mce;
use x86_defs::{Cr4, Vector};

/// Sets MCG_CAP.
///
/// # Errors
///
/// `EINVAL` for what isn't supported; `EFAULT`.
pub(crate) fn setup<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    cx.state.mce.setup(user::read(arg)?, CAP_COMMON).map_err(|_| EINVAL)?;
    Ok(0)
}

/// Injects an error.
///
/// # Errors
///
/// `EINVAL` for a bank that isn't there or an error that isn't valid; `EFAULT`.
pub(crate) fn set<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let mce: X86Mce = user::read(arg)?;
    let error = MachineError {
        status: mce.status,
        addr: mce.addr,
        misc: mce.misc,
        mcg_status: mce.mcg_status,
        bank: mce.bank,
    };
    let state = &mut *cx.state;
    let enabled = state.control.cr4().contains(Cr4::MCE);
    match state.mce.inject(&error, enabled).map_err(|_| EINVAL)? {
        Injected::Exception => state.events.raise(Exception::new(Vector::Mc)),
        Injected::TripleFault => state.events.triple_fault = true,
        // No guest has the interrupt for corrected errors.
        Injected::Cmci | Injected::Nothing => {}
    }
    state.events.check = true;
    Ok(0)
}
