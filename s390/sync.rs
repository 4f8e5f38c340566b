// SPDX-License-Identifier: GPL-2.0
//! The registers in `kvm_run`.
//!
//! PSW, general, access and floating-point registers live there outside of
//! `KVM_RUN`. The others are the block's; userspace says which it changed.

use crate::{
    sie::Sie,
    state::{set_prefix, Cx},
};
use kernel::prelude::*;
use kvm_core::vcpu::Vcpu;
use kvm_sys::{s390::registers::Registers, shared_page::SharedPage};
use kvm_uapi::{
    run::offset,
    s390::{run, sync},
};
use s390_arch::psw::Psw;

/// The sets that there are on this machine.
pub(crate) const VALID: u64 = sync::PREFIX
    | sync::GPRS
    | sync::ACRS
    | sync::CRS
    | sync::ARCH0
    | sync::PFAULT
    | sync::FPRS
    | sync::DIAG318;

/// `kvm_run`.
pub(crate) fn page<'a>(cx: &Cx<'a>) -> Result<&'a SharedPage> {
    cx.vcpu.page(0).ok_or(EFAULT)
}

/// Says in a new `kvm_run` what there is.
pub(crate) fn prepare(vcpu: &Vcpu<Sie>) {
    if let Some(page) = vcpu.page(0) {
        page.write::<u64, { offset::VALID_REGS }>(VALID);
    }
}

/// Takes in what userspace set.
///
/// # Errors
///
/// `EINVAL` for sets that have no meaning.
pub(crate) fn accept(cx: &mut Cx<'_>) -> Result {
    let page = page(cx)?;
    let valid = page.read::<u64, { offset::VALID_REGS }>();
    let dirty = page.read::<u64, { offset::DIRTY_REGS }>();
    if (valid | dirty) & !sync::KNOWN != 0 {
        return Err(EINVAL);
    }
    if dirty & sync::PREFIX != 0 {
        set_prefix(cx, page.read::<u64, { run::PREFIX }>() as u32);
    }
    let state = &mut *cx.state;
    if dirty & sync::CRS != 0 {
        state.block.control = page.read::<[u64; 16], { run::CRS }>();
        state.flush();
    }
    if dirty & sync::ARCH0 != 0 {
        let block = &mut *state.block;
        block.cpu_timer = page.read::<u64, { run::CPUTM }>();
        block.clock_comparator = page.read::<u64, { run::CKC }>();
        block.tod_programmable = page.read::<u64, { run::TODPR }>() as u32;
        block.set_program_parameter(page.read::<u64, { run::PP }>());
        block.breaking_event = page.read::<u64, { run::GBEA }>();
    }
    if dirty & sync::PFAULT != 0 {
        state.pfault.token = page.read::<u64, { run::PFT }>();
        state.pfault.select = page.read::<u64, { run::PFS }>();
        state.pfault.compare = page.read::<u64, { run::PFC }>();
    }
    if dirty & sync::DIAG318 != 0 {
        state.diag318 = page.read::<u64, { run::DIAG318 }>();
        state.block.environment = (state.diag318 >> 56) as u8;
    }
    state.block.psw = psw(page);
    state.gprs = gprs(page);
    state.registers = registers(page);
    page.write::<u64, { offset::DIRTY_REGS }>(0);
    Ok(())
}

/// Shows userspace all of them.
pub(crate) fn publish(cx: &Cx<'_>) -> Result {
    let page = page(cx)?;
    set_psw(page, cx.state.block.psw);
    page.write::<_, { run::GPRS }>(cx.state.gprs);
    set_registers(page, &cx.state.registers);
    publish_special(cx)
}

/// Shows userspace those that are the block's.
pub(crate) fn publish_special(cx: &Cx<'_>) -> Result {
    let page = page(cx)?;
    let state = &*cx.state;
    let block = &*state.block;
    page.write::<u64, { run::PREFIX }>(block.prefix().into());
    page.write::<_, { run::CRS }>(block.control);
    page.write::<_, { run::CPUTM }>(block.cpu_timer);
    page.write::<_, { run::CKC }>(block.clock_comparator);
    page.write::<u64, { run::TODPR }>(block.tod_programmable.into());
    page.write::<_, { run::PP }>(block.program_parameter());
    page.write::<_, { run::GBEA }>(block.breaking_event);
    page.write::<_, { run::PFT }>(state.pfault.token);
    page.write::<_, { run::PFS }>(state.pfault.select);
    page.write::<_, { run::PFC }>(state.pfault.compare);
    page.write::<_, { run::DIAG318 }>(state.diag318);
    Ok(())
}

/// The PSW outside of `KVM_RUN`.
pub(crate) fn psw(page: &SharedPage) -> Psw {
    Psw {
        mask: page.read::<u64, { run::PSW_MASK }>(),
        address: page.read::<u64, { run::PSW_ADDR }>(),
    }
}

/// Sets it.
pub(crate) fn set_psw(page: &SharedPage, psw: Psw) {
    page.write::<_, { run::PSW_MASK }>(psw.mask);
    page.write::<_, { run::PSW_ADDR }>(psw.address);
}

/// The general registers outside of `KVM_RUN`.
pub(crate) fn gprs(page: &SharedPage) -> [u64; 16] {
    page.read::<_, { run::GPRS }>()
}

/// The floating-point and access registers outside of `KVM_RUN`.
pub(crate) fn registers(page: &SharedPage) -> Registers {
    Registers {
        fprs: page.read::<_, { run::FPRS }>(),
        acrs: page.read::<_, { run::ACRS }>(),
        fpc: page.read::<_, { run::FPC }>(),
    }
}

/// Sets them.
pub(crate) fn set_registers(page: &SharedPage, registers: &Registers) {
    page.write::<_, { run::FPRS }>(registers.fprs);
    page.write::<_, { run::ACRS }>(registers.acrs);
    page.write::<_, { run::FPC }>(registers.fpc);
}
