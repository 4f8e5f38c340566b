// SPDX-License-Identifier: GPL-2.0
//! `KVM_GET_LAPIC` and `KVM_SET_LAPIC`.

use crate::{
    apic::{self, timer::Clock},
    mailbox,
    state::Cx,
    vendor::Vendor,
};
use kernel::{error::Result, prelude::*};
use kvm_sys::user;
use kvm_uapi::x86::LapicState;

/// Reads the registers.
///
/// # Errors
///
/// `EINVAL` if the local APIC isn't in the kernel; `EFAULT`.
pub(crate) fn get<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    mailbox::collect(cx);
    apic::refresh(cx);
    let now = Clock::of(cx.state).now();
    apic::timer::catch_up(cx, now);
    let apic = cx.state.apic.as_ref().ok_or(EINVAL)?;
    let mut image = LapicState { regs: [0; 1024] };
    apic.save(&mut image.regs, now);
    user::write(arg, &image).map(|()| 0)
}

/// Sets the registers. What others sent before is forgotten.
///
/// # Errors
///
/// `EINVAL` if the local APIC isn't in the kernel, or for an ID that it can't have;
/// `EFAULT`.
pub(crate) fn set<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    if cx.state.apic.is_none() {
        return Err(EINVAL);
    }
    let image: LapicState = user::read(arg)?;
    apic::refresh(cx);
    let now = Clock::of(cx.state).now();
    cx.vcpu.shared().mailbox().inbox().discard_vectors();
    let apic = cx.state.apic.as_mut().ok_or(EINVAL)?;
    let what = apic.load(&image.regs, now).map_err(|_| EINVAL)?;
    apic::changed(cx, what);
    apic::restore_rtc(cx);
    apic::scan(cx);
    Ok(0)
}
