// SPDX-License-Identifier: GPL-2.0
//! Extended control registers of a vCPU: `KVM_GET_XCRS`, `KVM_SET_XCRS`.

use crate::{registers, state::Cx, vendor::Vendor};
use kernel::prelude::*;
use kvm_sys::{user, x86::xcr};
use kvm_uapi::x86::{Xcr, Xcrs};

const XCR0: u32 = 0;

/// XCR0; none on a host without XSAVE.
pub(crate) fn get<V: Vendor>(cx: &Cx<'_, V>, arg: usize) -> Result<u32> {
    let nothing = Xcr { xcr: 0, reserved: 0, value: 0 };
    let mut all = Xcrs { nr_xcrs: 0, flags: 0, xcrs: [nothing; 16], padding: [0; 16] };
    if xcr::supported_xcr0() != 0 {
        all.nr_xcrs = 1;
        all.xcrs[0] = Xcr { xcr: XCR0, reserved: 0, value: cx.state.extended.xcr0() };
    }
    user::write(arg, &all).map(|()| 0)
}

/// Sets XCR0; others in the list are ignored.
///
/// # Errors
///
/// `EINVAL` on a host without XSAVE, for more than 16 registers or any flag, or
/// for a value that XSETBV refuses.
pub(crate) fn set<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let all: Xcrs = user::read(arg)?;
    let list = usize::try_from(all.nr_xcrs).ok().and_then(|count| all.xcrs.get(..count));
    let Some(list) = list else { return Err(EINVAL) };
    if xcr::supported_xcr0() == 0 || all.flags != 0 {
        return Err(EINVAL);
    }
    if let Some(first) = list.iter().find(|entry| entry.xcr == XCR0) {
        registers::write_xcr(cx, XCR0, first.value).map_err(|_| EINVAL)?;
    }
    Ok(0)
}
