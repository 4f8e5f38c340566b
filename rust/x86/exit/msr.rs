// SPDX-License-Identifier: GPL-2.0
//! RDMSR and WRMSR.

use crate::{
    control::Gprs, emulate, msr, msr_filter, outcome::Next, state::Cx, trace, userspace,
    vendor::Vendor,
};
use kernel::error::Result;
use kvm_emulate::Exception;
use kvm_uapi::run::{self, offset};
use x86_defs::Vector;

/// RDMSR of the register in ECX.
///
/// # Errors
///
/// Those of [`emulate::skip`].
pub fn read<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    let [_, rcx, ..] = cx.state.gprs;
    match msr::read(cx, rcx as u32) {
        Ok(value) => {
            trace::msr(false, rcx as u32, value, false);
            finish_read(cx, value)
        }
        Err(refusal) => {
            trace::msr(false, rcx as u32, 0, true);
            msr_filter::ask(cx, rcx as u32, None, refusal).unwrap_or_else(|| refuse(cx))
        }
    }
}

/// WRMSR of the register in ECX.
///
/// # Errors
///
/// Those of [`emulate::skip`].
pub fn write<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    let [rax, rcx, rdx, ..] = cx.state.gprs;
    let value = rax & 0xffff_ffff | rdx << 32;
    let written = msr::write(cx, rcx as u32, value);
    trace::msr(true, rcx as u32, value, written.is_err());
    if let Err(refusal) = written {
        let asked = msr_filter::ask(cx, rcx as u32, Some(value), refusal);
        return asked.unwrap_or_else(|| refuse(cx));
    }
    emulate::skip(cx)
}

/// Userspace has answered about an access that was refused.
///
/// # Errors
///
/// Those of [`emulate::skip`].
pub(crate) fn answered<V: Vendor>(cx: &mut Cx<'_, V>, is_read: bool) -> Result<Next> {
    let answer: run::Msr = userspace::run_page(cx)?.read::<_, { offset::EXIT }>();
    if answer.error != 0 {
        return refuse(cx);
    }
    if is_read {
        return finish_read(cx, answer.data);
    }
    emulate::skip(cx)
}

/// RDMSR in any context, if the register is one that can be read so; whether it is.
#[inline]
pub(crate) fn read_at_once<V: Vendor>(cx: &mut Cx<'_, V>) -> bool {
    let [_, rcx, ..] = cx.state.gprs;
    let value = msr::read_at_once(cx, rcx as u32);
    if let Some(value) = value {
        trace::msr(false, rcx as u32, value, false);
        give(&mut cx.state.gprs, value);
    }
    value.is_some()
}

/// The same of WRMSR. Nothing is written otherwise.
#[inline]
pub(crate) fn write_at_once<V: Vendor>(cx: &mut Cx<'_, V>) -> bool {
    let [rax, rcx, rdx, ..] = cx.state.gprs;
    let value = rax & 0xffff_ffff | rdx << 32;
    let is_done = msr::write_at_once(cx, rcx as u32, value);
    if is_done {
        trace::msr(true, rcx as u32, value, false);
    }
    is_done
}

fn finish_read<V: Vendor>(cx: &mut Cx<'_, V>, value: u64) -> Result<Next> {
    give(&mut cx.state.gprs, value);
    emulate::skip(cx)
}

/// EDX and EAX get a value.
fn give([rax, _, rdx, ..]: &mut Gprs, value: u64) {
    (*rax, *rdx) = (value & 0xffff_ffff, value >> 32);
}

fn refuse<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    cx.state.events.raise(Exception::with_code(Vector::Gp, 0));
    Ok(Next::Resume)
}
