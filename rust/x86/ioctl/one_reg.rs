// SPDX-License-Identifier: GPL-2.0
//! `KVM_GET_ONE_REG`, `KVM_SET_ONE_REG` and `KVM_GET_REG_LIST`: MSRs, one at a time.
//! The registers that KVM itself defines belong to features that no guest has.

use crate::{msr, state::Cx, vendor::Vendor};
use kernel::prelude::*;
use kvm_sys::user;
use kvm_uapi::vcpu::OneReg;

/// x86, 64 bits, an MSR; its number is the lower half.
const MSR: u64 = 0x2030_0002;

/// The number of the MSR that an id names.
///
/// # Errors
///
/// `EINVAL` if it names none.
fn index_of(id: u64) -> Result<u32> {
    if id >> 32 == MSR {
        Ok(id as u32)
    } else {
        Err(EINVAL)
    }
}

/// # Errors
///
/// `EINVAL` for a register that isn't there; `EFAULT`.
pub(super) fn get<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let OneReg { id, addr } = user::read(arg)?;
    let value = msr::get(cx, index_of(id)?).map_err(|_| EINVAL)?;
    user::write(user::pointer(addr), &value).map(|()| 0)
}

/// # Errors
///
/// `EINVAL` for a register that isn't there, and for a value that it can't have; `EFAULT`.
pub(super) fn set<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let OneReg { id, addr } = user::read(arg)?;
    let index = index_of(id)?;
    let value = user::read(user::pointer(addr))?;
    msr::set(cx, index, value).map_err(|_| EINVAL)?;
    Ok(0)
}

/// The registers that aren't MSRs: there are none.
///
/// # Errors
///
/// `EFAULT`.
pub(super) fn list(arg: usize) -> Result<u32> {
    let _room: u64 = user::read(arg)?;
    user::write(arg, &0_u64).map(|()| 0)
}
