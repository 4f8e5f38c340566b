// SPDX-License-Identifier: GPL-2.0
//! `KVM_GET_ONE_REG` and `KVM_SET_ONE_REG`.

use crate::state::Cx;
use kernel::prelude::*;
use kvm_sys::user;
use kvm_uapi::vcpu::OneReg;

/// s390, 32 bits.
const U32: u64 = 0x5020_0000_0000_0000;
/// s390, 64 bits.
const U64: u64 = 0x5030_0000_0000_0000;

const TOD_PROGRAMMABLE: u64 = U32 | 1;
const EPOCH: u64 = U64 | 2;
const CPU_TIMER: u64 = U64 | 3;
const CLOCK_COMPARATOR: u64 = U64 | 4;
const PFAULT_TOKEN: u64 = U64 | 5;
const PFAULT_COMPARE: u64 = U64 | 6;
const PFAULT_SELECT: u64 = U64 | 7;
const PROGRAM_PARAMETER: u64 = U64 | 8;
const BREAKING_EVENT: u64 = U64 | 9;

pub(super) fn get(cx: &Cx<'_>, arg: usize) -> Result<u32> {
    let OneReg { id, addr } = user::read(arg)?;
    let (state, block) = (&*cx.state, &*cx.state.block);
    let value = match id {
        TOD_PROGRAMMABLE => return user::write(addr as usize, &block.tod_programmable).map(|()| 0),
        EPOCH => block.epoch,
        CPU_TIMER => block.cpu_timer,
        CLOCK_COMPARATOR => block.clock_comparator,
        PFAULT_TOKEN => state.pfault.token,
        PFAULT_COMPARE => state.pfault.compare,
        PFAULT_SELECT => state.pfault.select,
        PROGRAM_PARAMETER => block.program_parameter(),
        BREAKING_EVENT => block.breaking_event,
        _ => return Err(EINVAL),
    };
    user::write(addr as usize, &value).map(|()| 0)
}

pub(super) fn set(cx: &mut Cx<'_>, arg: usize) -> Result<u32> {
    let OneReg { id, addr } = user::read(arg)?;
    if id == TOD_PROGRAMMABLE {
        cx.state.block.tod_programmable = user::read(addr as usize)?;
        return Ok(0);
    }
    if !(EPOCH..=BREAKING_EVENT).contains(&id) {
        return Err(EINVAL);
    }
    let value: u64 = user::read(addr as usize)?;
    let state = &mut *cx.state;
    let block = &mut *state.block;
    match id {
        EPOCH => block.epoch = value,
        CPU_TIMER => block.cpu_timer = value,
        CLOCK_COMPARATOR => block.clock_comparator = value,
        PFAULT_TOKEN => state.pfault.token = value,
        PFAULT_COMPARE => state.pfault.compare = value,
        PFAULT_SELECT => state.pfault.select = value,
        PROGRAM_PARAMETER => block.set_program_parameter(value),
        _ => block.breaking_event = value,
    }
    Ok(0)
}
