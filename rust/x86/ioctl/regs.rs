// SPDX-License-Identifier: GPL-2.0
//! `KVM_GET_REGS` and `KVM_SET_REGS`.

use crate::{control::Control, state::Cx, vendor::Vendor};
use kernel::prelude::*;
use kvm_sys::user;
use kvm_uapi::x86::Regs;
use x86_defs::Rflags;

/// The general registers, as userspace has them.
pub(crate) fn snapshot<V: Vendor>(cx: &Cx<'_, V>) -> Regs {
    let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] =
        cx.state.gprs;
    let control = &cx.state.control;
    let rip = control.rip();
    let rflags = control.rflags().bits();
    #[rustfmt::skip]
    let regs = Regs {
        rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp,
        r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags,
    };
    regs
}

/// Sets them. What waits for delivery because of the old ones is forgotten.
pub(crate) fn restore<V: Vendor>(cx: &mut Cx<'_, V>, regs: &Regs) {
    cx.state.gprs = [
        regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi, regs.r8,
        regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
    ];
    let state = &mut *cx.state;
    state.control.set_rip(regs.rip);
    state.control.set_rflags(Rflags::from_bits_retain(regs.rflags) | Rflags::FIXED);
    state.events.exception = None;
    state.events.check = true;
}

pub(crate) fn get<V: Vendor>(cx: &Cx<'_, V>, arg: usize) -> Result<u32> {
    user::write(arg, &snapshot(cx)).map(|()| 0)
}

pub(crate) fn set<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let regs: Regs = user::read(arg)?;
    restore(cx, &regs);
    Ok(0)
}
