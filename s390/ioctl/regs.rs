// SPDX-License-Identifier: GPL-2.0
//! `KVM_GET_REGS` and the like. Outside of `KVM_RUN` most registers are in
//! `kvm_run`.

use crate::{state::Cx, sync};
use kernel::prelude::*;
use kvm_sys::user;
use kvm_uapi::s390::{run, Fpu, Regs, Sregs};

pub(super) fn get(cx: &Cx<'_>, arg: usize) -> Result<u32> {
    let gprs = sync::gprs(sync::page(cx)?);
    user::write(arg, &Regs { gprs }).map(|()| 0)
}

pub(super) fn set(cx: &Cx<'_>, arg: usize) -> Result<u32> {
    let Regs { gprs } = user::read(arg)?;
    sync::page(cx)?.write::<_, { run::GPRS }>(gprs);
    Ok(0)
}

pub(super) fn get_special(cx: &Cx<'_>, arg: usize) -> Result<u32> {
    let registers = sync::registers(sync::page(cx)?);
    let special = Sregs { acrs: registers.acrs, crs: cx.state.block.control };
    user::write(arg, &special).map(|()| 0)
}

pub(super) fn set_special(cx: &mut Cx<'_>, arg: usize) -> Result<u32> {
    let Sregs { acrs, crs } = user::read(arg)?;
    sync::page(cx)?.write::<_, { run::ACRS }>(acrs);
    cx.state.block.control = crs;
    cx.state.flush();
    Ok(0)
}

pub(super) fn get_fpu(cx: &Cx<'_>, arg: usize) -> Result<u32> {
    let registers = sync::registers(sync::page(cx)?);
    let mut fpu: Fpu = [0; 17];
    let [control, fprs @ ..] = &mut fpu;
    *control = u64::from(registers.fpc) << 32;
    *fprs = registers.fprs;
    user::write(arg, &fpu).map(|()| 0)
}

pub(super) fn set_fpu(cx: &Cx<'_>, arg: usize) -> Result<u32> {
    let [control, fprs @ ..]: Fpu = user::read(arg)?;
    let page = sync::page(cx)?;
    page.write::<_, { run::FPC }>((control >> 32) as u32);
    page.write::<_, { run::FPRS }>(fprs);
    Ok(0)
}
