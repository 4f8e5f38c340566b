// SPDX-License-Identifier: GPL-2.0
//! HLT.

use crate::{
    emulate,
    outcome::Next,
    state::{Activity, Cx},
    userspace,
    vendor::Vendor,
};
use kernel::error::Result;
use kvm_uapi::run::reason;

/// The guest executed HLT: it sleeps here if the kernel has its local APIC, and
/// in userspace otherwise.
///
/// # Errors
///
/// Those of [`emulate::skip`].
pub fn handle<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    if emulate::skip(cx)? == Next::ToUser {
        return Ok(Next::ToUser);
    }
    halted(cx)
}

/// What HLT does once RIP is past it.
///
/// # Errors
///
/// As [`userspace::exit`].
pub fn halted<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    cx.vcpu.stats().arch.halt_exits.add(1);
    if cx.state.apic.is_some() {
        cx.state.activity = Activity::Halted;
        return Ok(Next::Resume);
    }
    userspace::exit(cx, reason::KVM_EXIT_HLT)
}
