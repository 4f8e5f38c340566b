// SPDX-License-Identifier: GPL-2.0
//! MONITOR and MWAIT: to wait for nothing at all is allowed.

use crate::{emulate, outcome::Next, settings::Quirk, state::Cx, vendor::Vendor};
use kernel::error::Result;
use kvm_emulate::Exception;
use kvm_policy::{
    feature::Feature as F,
    msr_file::{Stored, MISC_ENABLE_MWAIT},
};
use x86_defs::Vector;

/// Goes past the instruction, which a guest has always had, unless userspace wants it
/// to be there only with what CPUID or IA32_MISC_ENABLE say.
///
/// # Errors
///
/// Those of [`emulate::skip`].
pub fn handle<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    let settings = &cx.vm.arch().settings;
    let is_there = if settings.has_quirk(Quirk::MwaitNeverFaults) {
        true
    } else if settings.has_quirk(Quirk::MiscEnableNoMwait) {
        cx.state.cpuid.has(F::MWAIT)
    } else {
        cx.state.msrs.get(Stored::MiscEnable) & MISC_ENABLE_MWAIT != 0
    };
    if is_there {
        return emulate::skip(cx);
    }
    cx.state.events.raise(Exception::new(Vector::Ud));
    Ok(Next::Resume)
}
