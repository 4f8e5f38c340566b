// SPDX-License-Identifier: GPL-2.0
//! `KVM_GET_MSRS` and `KVM_SET_MSRS` of a vCPU.

use crate::{msr, state::Cx, vendor::Vendor};
use kernel::prelude::*;
use kvm_sys::user;
use kvm_uapi::x86::{MsrEntry, Msrs};

/// Most registers of one call.
const MAX: u32 = 256;

fn count(arg: usize) -> Result<u32> {
    let head: Msrs = user::read(arg)?;
    if head.nmsrs >= MAX {
        return Err(E2BIG);
    }
    Ok(head.nmsrs)
}

fn entry_at(arg: usize, index: u32) -> usize {
    arg.wrapping_add(size_of::<Msrs>())
        .wrapping_add((index as usize).wrapping_mul(size_of::<MsrEntry>()))
}

/// Reads registers up to the first one that isn't there; how many.
pub(crate) fn get<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let count = count(arg)?;
    for index in 0..count {
        let at = entry_at(arg, index);
        let mut entry: MsrEntry = user::read(at)?;
        let Some(data) = msr::get(cx.state, entry.index) else { return Ok(index) };
        entry.data = data;
        user::write(at, &entry)?;
    }
    Ok(count)
}

/// Sets registers up to the first one that is refused; how many.
pub(crate) fn set<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let count = count(arg)?;
    for index in 0..count {
        let entry: MsrEntry = user::read(entry_at(arg, index))?;
        if msr::set(cx, entry.index, entry.data, true).is_err() {
            return Ok(index);
        }
    }
    Ok(count)
}
