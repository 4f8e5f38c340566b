// SPDX-License-Identifier: GPL-2.0
//! CPUID.

use crate::{control::Control, cpuid, emulate, outcome::Next, state::Cx, vendor::Vendor};
use kernel::error::Result;
use kvm_emulate::Exception;
use kvm_sys::x86::trace::kvm_cpuid;
use x86_defs::Vector;

/// Answers from the vCPU's table.
///
/// # Errors
///
/// Those of [`emulate::skip`].
pub fn handle<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    if !at_once(cx) {
        cx.state.events.raise(Exception::with_code(Vector::Gp, 0));
        return Ok(Next::Resume);
    }
    emulate::skip(cx)
}

/// Puts the answer into the registers, in any context; `false` if the guest may not ask.
#[inline]
pub(crate) fn at_once<V: Vendor>(cx: &mut Cx<'_, V>) -> bool {
    if cx.state.msrs.cpuid_faults() && cx.state.control.cpl() != 0 {
        return false;
    }
    let [rax, rcx, ..] = cx.state.gprs;
    let [eax, ebx, ecx, edx] = cpuid::answer(cx, rax as u32, rcx as u32);
    kvm_cpuid(|| {
        let found = cx.state.cpuid.lists(rax as u32, rcx as u32);
        let (function, index) = (rax as u32, rcx as u32);
        (function, index, eax.into(), ebx.into(), ecx.into(), edx.into(), found, !found)
    });
    let [rax, rcx, rdx, rbx, ..] = &mut cx.state.gprs;
    (*rax, *rbx, *rcx, *rdx) = (eax.into(), ebx.into(), ecx.into(), edx.into());
    true
}
