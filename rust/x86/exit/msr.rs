// SPDX-License-Identifier: GPL-2.0
//! RDMSR and WRMSR.

use crate::{emulate, msr, outcome::Next, state::Cx, vendor::Vendor};
use kernel::error::Result;
use kvm_emulate::Exception;
use x86_defs::Vector;

/// RDMSR of the register in ECX.
///
/// # Errors
///
/// Those of [`emulate::skip`].
pub fn read<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    let [_, rcx, ..] = cx.state.gprs;
    let Some(value) = msr::read(cx, rcx as u32) else { return refuse(cx) };
    let [rax, _, rdx, ..] = &mut cx.state.gprs;
    (*rax, *rdx) = (value & 0xffff_ffff, value >> 32);
    emulate::skip(cx)
}

/// WRMSR of the register in ECX.
///
/// # Errors
///
/// Those of [`emulate::skip`].
pub fn write<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    let [rax, rcx, rdx, ..] = cx.state.gprs;
    let value = rax & 0xffff_ffff | rdx << 32;
    if msr::write(cx, rcx as u32, value).is_err() {
        return refuse(cx);
    }
    emulate::skip(cx)
}

fn refuse<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    cx.state.events.raise(Exception::with_code(Vector::Gp, 0));
    Ok(Next::Resume)
}
