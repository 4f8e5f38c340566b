// SPDX-License-Identifier: GPL-2.0
//! Registers that travel through `kvm_run` instead of ioctls of their own
//! (`KVM_CAP_SYNC_REGS`).

use super::{events, regs, sregs};
use crate::{state::Cx, userspace::run_page, vendor::Vendor};
use kernel::prelude::*;
use kvm_sys::shared_page::SharedPage;
use kvm_uapi::{
    run::offset,
    x86::{Regs, Sregs, VcpuEvents},
};

const REGS: u64 = 1 << 0;
const SREGS: u64 = 1 << 1;
const EVENTS: u64 = 1 << 2;
/// What can be synchronized, which is the capability's value.
pub(crate) const ALL: u64 = REGS | SREGS | EVENTS;

const AT_REGS: usize = offset::SYNC_REGS;
const AT_SREGS: usize = AT_REGS + size_of::<Regs>();
const AT_EVENTS: usize = AT_SREGS + size_of::<Sregs>();

/// Takes in what userspace changed.
///
/// # Errors
///
/// `EINVAL` for unknown classes, and for values that their ioctls refuse.
pub(crate) fn accept<V: Vendor>(cx: &mut Cx<'_, V>) -> Result {
    let run = run_page(cx)?;
    let valid = run.read::<u64, { offset::VALID_REGS }>();
    let dirty = run.read::<u64, { offset::DIRTY_REGS }>();
    if (valid | dirty) & !ALL != 0 {
        return Err(EINVAL);
    }
    if dirty == 0 {
        return Ok(());
    }
    take(cx, run, dirty)
}

#[inline(never)]
fn take<V: Vendor>(cx: &mut Cx<'_, V>, run: &SharedPage, dirty: u64) -> Result {
    if dirty & REGS != 0 {
        regs::restore(cx, &run.read::<Regs, AT_REGS>());
    }
    if dirty & SREGS != 0 {
        sregs::restore(cx, &run.read::<Sregs, AT_SREGS>())?;
    }
    if dirty & EVENTS != 0 {
        events::restore(cx, &run.read::<VcpuEvents, AT_EVENTS>())?;
    }
    run.write::<u64, { offset::DIRTY_REGS }>(0);
    Ok(())
}

/// Hands out what userspace wants to see.
///
/// # Errors
///
/// None in practice: every vCPU has its page.
pub(crate) fn publish<V: Vendor>(cx: &mut Cx<'_, V>) -> Result {
    let run = run_page(cx)?;
    let valid = run.read::<u64, { offset::VALID_REGS }>();
    if valid & ALL == 0 {
        return Ok(());
    }
    give(cx, run, valid)
}

#[inline(never)]
fn give<V: Vendor>(cx: &mut Cx<'_, V>, run: &SharedPage, valid: u64) -> Result {
    if valid & REGS != 0 {
        run.write::<Regs, AT_REGS>(regs::snapshot(cx));
    }
    if valid & SREGS != 0 {
        run.write::<Sregs, AT_SREGS>(sregs::snapshot(cx));
    }
    if valid & EVENTS != 0 {
        run.write::<VcpuEvents, AT_EVENTS>(events::snapshot(cx)?);
    }
    Ok(())
}
