// SPDX-License-Identifier: GPL-2.0
//! `KVM_SET_GUEST_DEBUG`.

use crate::{debug::Debug, state::Cx};
use core::mem::size_of;
use kernel::prelude::*;
use kvm_sys::{s390, user};
use kvm_uapi::s390::{GuestDebug, HwBreakpoint};
use s390_arch::sie::CpuFlags;

const ENABLE: u32 = 1;
const SINGLE_STEP: u32 = 2;
const POINTS: u32 = 0x1_0000;

/// What `KVM_CAP_SET_GUEST_DEBUG2` says.
pub(crate) fn flags() -> u32 {
    if s390::records_for_host() {
        ENABLE | SINGLE_STEP | POINTS
    } else {
        0
    }
}

/// Sets what a debugger wants, in the place of what it wanted before.
pub(super) fn set(cx: &mut Cx<'_>, arg: usize) -> Result<u32> {
    let wanted: GuestDebug = user::read(arg)?;
    cx.state.debug = None;
    cx.state.set_flags(CpuFlags::EVENTS, false);
    if wanted.control & !flags() != 0 || flags() == 0 {
        return Err(EINVAL);
    }
    if wanted.control & ENABLE == 0 {
        return Ok(0);
    }
    let debug = Debug::new(wanted.control & SINGLE_STEP != 0);
    let mut debug = KBox::new(debug, GFP_KERNEL_ACCOUNT)?;
    if wanted.control & POINTS != 0 {
        add_points(cx, &mut debug, &wanted)?;
    }
    cx.state.debug = Some(debug);
    cx.state.set_flags(CpuFlags::EVENTS, true);
    Ok(0)
}

fn add_points(cx: &Cx<'_>, debug: &mut Debug, wanted: &GuestDebug) -> Result {
    /// Most points.
    const MOST: usize = 50;
    // The number is a signed one.
    let count = wanted.arch.nr_hw_bp as i32;
    if count <= 0 || wanted.arch.hw_bp == 0 {
        return Ok(());
    }
    let count = count as usize;
    if count > MOST {
        return Err(EINVAL);
    }
    for number in 0..count {
        let offset = number.wrapping_mul(size_of::<HwBreakpoint>());
        let point = user::read((wanted.arch.hw_bp as usize).wrapping_add(offset))?;
        debug.add(cx, &point)?;
    }
    Ok(())
}
