// SPDX-License-Identifier: GPL-2.0
//! What userspace has to do with a guest's MSRs: which ones the guest may access
//! (`KVM_X86_SET_MSR_FILTER`), and which refused accesses userspace wants to see
//! (`KVM_CAP_X86_USER_SPACE_MSR`).

use crate::{
    control::Control,
    outcome::Next,
    request, speculation,
    state::Cx,
    userspace::{self, Completion},
    vendor::{Vendor, X86},
};
use kernel::prelude::*;
use kvm_core::{vcpu::Vcpu, vm::Vm};
use kvm_policy::{
    msr::Refusal,
    msr_filter::{from_compat, parse, MsrFilter, WORDS},
};
use kvm_sys::{rcu_cell::Unpublished, user};
use kvm_uapi::run::{self, reason};
use x86_defs::msr;

/// The words of a bitmap.
pub(crate) struct Bitmap(KVec<u64>);

impl AsRef<[u64]> for Bitmap {
    fn as_ref(&self) -> &[u64] {
        &self.0
    }
}

/// A VM's filter.
pub(crate) type Filter = MsrFilter<Bitmap>;

/// What userspace can want to see, as `KVM_MSR_EXIT_REASON_*`.
pub(crate) mod seen {
    /// Accesses that the register doesn't allow.
    pub(crate) const INVALID: u32 = 1 << 0;
    /// Accesses to registers that there aren't.
    pub(crate) const UNKNOWN: u32 = 1 << 1;
    /// Accesses that the filter denies.
    pub(crate) const FILTERED: u32 = 1 << 2;
    /// All of them.
    pub(crate) const ALL: u32 = INVALID | UNKNOWN | FILTERED;
}

/// Sets the filter described at `arg`.
///
/// # Errors
///
/// `EFAULT`; `EINVAL` for one that can't be; `ENOMEM`.
pub(crate) fn set<V: Vendor>(vm: &Vm<X86<V>>, arg: usize) -> Result<u32> {
    set_to(vm, &user::read(arg)?)
}

/// As [`set`], for the structure of a 32-bit program.
///
/// # Errors
///
/// As [`set`].
pub(crate) fn set_compat<V: Vendor>(vm: &Vm<X86<V>>, arg: usize) -> Result<u32> {
    set_to(vm, &from_compat(&user::read(arg)?))
}

fn set_to<V: Vendor>(vm: &Vm<X86<V>>, words: &[u64; WORDS]) -> Result<u32> {
    let (default, ranges) = parse(words).map_err(|_| EINVAL)?;
    let mut filter = Filter::new(default);
    for (number, range) in ranges.into_iter().enumerate() {
        if let Some(range) = range {
            let words = user::read_words(range.bitmap as usize, range.words())?;
            filter.add(number, range, Bitmap(words));
        }
    }
    let new = Unpublished::new(filter)?;
    vm.arch().msr_filter.lock().publish(new);
    vm.arch().settings.set_filters_msrs();
    for vcpu in vm.vcpus().iter() {
        vcpu.request(request::MSR_FILTER);
    }
    Ok(0)
}

/// A vCPU is new.
pub(crate) fn vcpu_added<V: Vendor>(vm: &Vm<X86<V>>, vcpu: &Vcpu<X86<V>>) {
    if vm.arch().settings.filters_msrs() {
        vcpu.requests.set(request::MSR_FILTER);
    }
}

/// The filter is another one, or what the guest has of [`speculation`]: it accesses by itself
/// only what it may.
pub(crate) fn changed<V: Vendor>(cx: &mut Cx<'_, V>) {
    let vm = cx.vm;
    let state = &mut *cx.state;
    let [spec_ctrl, pred_cmd, flush_cmd] = [msr::SPEC_CTRL, msr::PRED_CMD, msr::FLUSH_CMD]
        .map(|index| [false, true].map(|is_write| speculation::passes(state, index, is_write)));
    let passes = |index, is_write| {
        let [read, write] = match index {
            msr::SPEC_CTRL => spec_ctrl,
            msr::PRED_CMD => pred_cmd,
            msr::FLUSH_CMD => flush_cmd,
            _ => [true; 2],
        };
        let passes = if is_write { write } else { read };
        passes && allows(&vm, index, is_write)
    };
    state.control.pass_msrs(&passes);
}

/// Whether the filter lets an access of the guest through.
#[inline]
pub(crate) fn allows<V: Vendor>(vm: &Vm<X86<V>>, index: u32, is_write: bool) -> bool {
    let arch = vm.arch();
    if !arch.settings.filters_msrs() {
        return true;
    }
    arch.msr_filter.read().is_none_or(|filter| filter.allows(index, is_write))
}

/// Asks userspace about a refused access, if it wants to be asked. `written`: the
/// value, if it is a write.
pub(crate) fn ask<V: Vendor>(
    cx: &mut Cx<'_, V>,
    index: u32,
    written: Option<u64>,
    refusal: Refusal,
) -> Option<Result<Next>> {
    let why = match refusal {
        Refusal::Invalid => seen::INVALID,
        Refusal::Unknown => seen::UNKNOWN,
        Refusal::Filtered => seen::FILTERED,
    };
    if cx.vm.arch().settings.seen_msrs() & why == 0 {
        return None;
    }
    let exit =
        if written.is_some() { reason::KVM_EXIT_X86_WRMSR } else { reason::KVM_EXIT_X86_RDMSR };
    let access = run::Msr { error: 0, pad: [0; 7], reason: why, index, data: written.unwrap_or(0) };
    cx.state.completion =
        Completion::Msr { is_read: written.is_none(), rip: cx.state.control.rip() };
    Some(userspace::exit_with(cx, exit, access))
}
