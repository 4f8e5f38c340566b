// SPDX-License-Identifier: GPL-2.0
//! CPU resets (Principles of Operation, "Resets"). Each does what the one before
//! it does, and more.

use crate::{
    pfault::Pfault,
    run,
    state::{set_prefix, Cx},
    sync,
    vm::Choice,
};
use kernel::prelude::*;
use kvm_sys::s390::registers::Registers;
use kvm_uapi::s390::run as offset;
use s390_arch::psw::{Mask, Psw};

/// Control register 0 after an initial reset.
const CR0: u64 = 0xe0;
/// Control register 14 after an initial reset.
const CR14: u64 = 0xc200_0000;

/// CPU reset: what waits is forgotten.
pub(super) fn normal(cx: &mut Cx<'_>) -> Result<u32> {
    let page = sync::page(cx)?;
    let mut psw = sync::psw(page);
    psw.mask &= !Mask::RUNTIME_INSTRUMENTATION;
    sync::set_psw(page, psw);
    cx.state.pfault = Pfault::OFF;
    cx.vcpu.shared().pages().forget();
    cx.state.waits = false;
    if !cx.vm.arch().choices.has(Choice::UserCpuState) {
        run::stop(cx);
    }
    cx.vcpu.shared().with_local(|local| local.clear());
    cx.vcpu.shared().tell();
    sync::publish_special(cx)?;
    Ok(0)
}

/// Initial CPU reset: PSW, prefix, control registers, timers as well.
pub(super) fn initial(cx: &mut Cx<'_>) -> Result<u32> {
    let _ = normal(cx)?;
    let page = sync::page(cx)?;
    sync::set_psw(page, Psw::default());
    page.write::<u32, { offset::FPC }>(0);
    set_prefix(cx, 0);
    let block = &mut *cx.state.block;
    block.cpu_timer = 0;
    block.clock_comparator = 0;
    block.control = [CR0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, CR14, 0];
    block.tod_programmable = 0;
    block.set_program_parameter(0);
    block.breaking_event = 1;
    sync::publish_special(cx)?;
    Ok(0)
}

/// Clear reset: all registers as well.
pub(super) fn clear(cx: &mut Cx<'_>) -> Result<u32> {
    let _ = initial(cx)?;
    let page = sync::page(cx)?;
    page.write::<_, { offset::GPRS }>([0_u64; 16]);
    sync::set_registers(page, &Registers::default());
    Ok(0)
}
