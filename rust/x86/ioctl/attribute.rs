// SPDX-License-Identifier: GPL-2.0
//! Attributes of a vCPU (`Documentation/virt/kvm/devices/vcpu.rst`): the offset of
//! its TSC.

use crate::{state::Cx, tsc, vendor::Vendor};
use kernel::prelude::*;
use kvm_sys::user;
use kvm_uapi::vcpu::DeviceAttr;

/// The address that belongs to the attribute at `arg`.
///
/// # Errors
///
/// `EFAULT`; `ENXIO` for attributes that there aren't.
fn address(arg: usize) -> Result<usize> {
    const TSC_CTRL: u32 = 0;
    const TSC_OFFSET: u64 = 0;
    let which: DeviceAttr = user::read(arg)?;
    if (which.group, which.attr) != (TSC_CTRL, TSC_OFFSET) {
        return Err(ENXIO);
    }
    Ok(which.addr as usize)
}

pub(crate) fn has(arg: usize) -> Result<u32> {
    address(arg).map(|_| 0)
}

pub(crate) fn get<V: Vendor>(cx: &Cx<'_, V>, arg: usize) -> Result<u32> {
    user::write(address(arg)?, &cx.state.tsc.offset).map(|()| 0)
}

pub(crate) fn set<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let offset: u64 = user::read(address(arg)?)?;
    tsc::set_offset(cx, offset);
    Ok(0)
}
