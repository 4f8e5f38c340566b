// SPDX-License-Identifier: GPL-2.0
//! Task priorities without exits, for guests that a VMM patches
//! (`KVM_SET_VAPIC_ADDR`, `KVM_TPR_ACCESS_REPORTING`).
//!
//! The VMM has every access to the TPR reported, replaces the instruction by one
//! that uses a word in guest memory, and names that word here. It is brought up to
//! date before an entry, and its TPR is taken in after an exit.

use crate::{control::Control, outcome::Next, state::Cx, userspace, vendor::Vendor};
use kernel::{error::Result, prelude::*};
use kvm_core::memory::{GuestRecord, Kind};
use kvm_irqchip::lapic::Changed;
use kvm_paging::addr::Gpa;
use kvm_sys::user;
use kvm_uapi::{
    run::{self, reason},
    x86::{TprAccessCtl, VapicAddr},
};

/// Bytes of the word.
const LEN: usize = 4;

/// What a vCPU keeps of it.
#[derive(Default)]
pub(crate) struct Vapic {
    word: Option<GuestRecord>,
    reports: bool,
    /// An access that is to be reported when the instruction is done: by a write?
    access: Option<bool>,
}

/// `KVM_SET_VAPIC_ADDR`.
///
/// # Errors
///
/// `EINVAL` without a local APIC in the kernel or for a word outside of memory;
/// `EFAULT`.
pub(crate) fn set_address<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let VapicAddr { vapic_addr } = user::read(arg)?;
    if cx.state.apic.is_none() {
        return Err(EINVAL);
    }
    let at = Gpa::new(vapic_addr);
    let word = match vapic_addr {
        0 => None,
        _ if cx.vm.memory().kind(at) == Kind::Device => return Err(EINVAL),
        _ => Some(GuestRecord::new(at, LEN)),
    };
    cx.state.link.vapic.word = word;
    Ok(0)
}

/// `KVM_TPR_ACCESS_REPORTING`.
///
/// # Errors
///
/// `EINVAL` for flags; `EFAULT`.
pub(crate) fn set_reporting<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let control: TprAccessCtl = user::read(arg)?;
    if control.flags != 0 {
        return Err(EINVAL);
    }
    cx.state.link.vapic.reports = control.enabled != 0;
    user::write(arg, &control).map(|()| 0)
}

/// The guest accessed its TPR.
pub(super) fn accessed(vapic: &mut Vapic, is_write: bool) {
    if vapic.reports {
        vapic.access = Some(is_write);
    }
}

/// Whether an access waits for its report.
#[inline]
pub(crate) fn is_reported<V: Vendor>(cx: &Cx<'_, V>) -> bool {
    cx.state.link.vapic.access.is_some()
}

/// Reports it, with the address of the next instruction.
///
/// # Errors
///
/// As [`userspace::exit`].
pub(crate) fn report<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    let is_write = cx.state.link.vapic.access.take().unwrap_or(false);
    let rip = cx.state.control.rip();
    let access = run::TprAccess { rip, is_write: is_write.into(), pad: 0 };
    userspace::exit_with(cx, reason::KVM_EXIT_TPR_ACCESS, access)
}

/// Before an entry: what the guest sees of its local APIC.
#[inline]
pub(crate) fn publish<V: Vendor>(cx: &mut Cx<'_, V>) {
    let state = &mut *cx.state;
    if let (Some(word), Some(apic)) = (&mut state.link.vapic.word, &state.apic) {
        // A word that is gone is the VMM's mistake and nobody else's.
        let _ = word.write(&cx.vm.memory().guest(), 0, &apic.vapic_word().to_le_bytes());
    }
}

/// After an exit: the task priority that the guest set.
#[inline]
pub(crate) fn look<V: Vendor>(cx: &mut Cx<'_, V>) {
    let state = &mut *cx.state;
    let (Some(word), Some(apic)) = (&mut state.link.vapic.word, &mut state.apic) else { return };
    let mut tpr = [0];
    if word.read(&cx.vm.memory().guest(), 0, &mut tpr).is_ok() {
        let [tpr] = tpr;
        state.events.check |= apic.set_tpr(tpr).contains(Changed::RECHECK);
    }
}
