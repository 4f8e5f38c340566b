// SPDX-License-Identifier: GPL-2.0
//! CPUID.

use crate::{cpuid, emulate, outcome::Next, state::Cx, vendor::Vendor};
use kernel::error::Result;

/// Answers from the vCPU's table.
///
/// # Errors
///
/// Those of [`emulate::skip`].
pub fn handle<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    let [rax, rcx, rdx, rbx, ..] = cx.state.gprs;
    let _ = (rdx, rbx);
    let [eax, ebx, ecx, edx] = cpuid::answer(cx.state, rax as u32, rcx as u32);
    let [rax, rcx, rdx, rbx, ..] = &mut cx.state.gprs;
    (*rax, *rbx, *rcx, *rdx) = (eax.into(), ebx.into(), ecx.into(), edx.into());
    emulate::skip(cx)
}
