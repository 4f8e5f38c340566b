// SPDX-License-Identifier: GPL-2.0
//! Task priorities that a 32-bit guest keeps in memory: its VMM replaces the
//! instructions that access the register by ones that access a word of memory,
//! and enter the hypervisor only to let an interrupt through
//! (`KVM_TPR_ACCESS_REPORTING`, `KVM_SET_VAPIC_ADDR`). Where the processor serves accesses by
//! itself ([`super::page`]) there is nothing to be won by that, and nothing to report.

use crate::{control::Control, outcome::Next, request, state::Cx, userspace, vendor::Vendor};
use kernel::{error::Result, prelude::*};
use kvm_core::memory::{GuestRecord, Kind};
use kvm_irqchip::lapic::Changed;
use kvm_paging::addr::Gpa;
use kvm_sys::user;
use kvm_uapi::{
    run::{self, reason},
    x86::{TprAccessCtl, VapicAddr},
};

/// A vCPU's side.
#[derive(Default)]
pub(super) struct Vapic {
    /// The guest's word, if it has one.
    word: Option<GuestRecord>,
    /// Userspace is to be told of each access to the register.
    reports: bool,
    /// The access that userspace is to be told of: RIP, and whether it is a write.
    access: Option<(u64, bool)>,
}

impl Vapic {
    /// Whether the guest keeps its priority in memory.
    #[inline]
    pub(super) fn is_used(&self) -> bool {
        self.word.is_some()
    }
}

/// The guest accessed the register.
pub(super) fn accessed<V: Vendor>(cx: &mut Cx<'_, V>, is_write: bool) {
    let rip = cx.state.control.rip();
    let vapic = &mut cx.state.link.vapic;
    if vapic.reports {
        vapic.access = Some((rip, is_write));
        cx.vcpu.requests.set(request::TPR_EXIT);
    }
}

/// Tells userspace of an access.
///
/// # Errors
///
/// As [`userspace::exit`].
pub(crate) fn exit<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    let Some((rip, is_write)) = cx.state.link.vapic.access.take() else { return Ok(Next::Resume) };
    let access = run::TprAccess { rip, is_write: is_write.into(), pad: 0 };
    userspace::exit_with(cx, reason::KVM_EXIT_TPR_ACCESS, access)
}

/// After an exit: takes in the priority that the guest left in its word.
pub(super) fn take_in<V: Vendor>(cx: &mut Cx<'_, V>) {
    let (Some(word), Some(apic)) = (&mut cx.state.link.vapic.word, &mut cx.state.apic) else {
        return;
    };
    let mut priority = [0];
    if word.read(&cx.vm.memory().guest(), 0, &mut priority).is_ok() {
        let [priority] = priority;
        cx.state.events.check |= apic.set_tpr(priority).contains(Changed::RECHECK);
    }
}

/// Before an entry: shows the guest what waits.
pub(super) fn show<V: Vendor>(cx: &mut Cx<'_, V>) {
    if let (Some(word), Some(apic)) = (&mut cx.state.link.vapic.word, &cx.state.apic) {
        let now = apic.vapic_word().to_le_bytes();
        // The guest does without what isn't there.
        let _ = word.write(&cx.vm.memory().guest().by(cx.vcpu.index()), 0, &now);
    }
}

/// `KVM_TPR_ACCESS_REPORTING` with the structure at `arg`.
///
/// # Errors
///
/// `EFAULT`; `EINVAL` for flags, or if userspace has the local APIC.
pub(crate) fn set_reports<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let control: TprAccessCtl = user::read(arg)?;
    if cx.state.apic.is_none() || control.flags != 0 {
        return Err(EINVAL);
    }
    cx.state.link.vapic.reports = control.enabled != 0;
    user::write(arg, &control).map(|()| 0)
}

/// `KVM_SET_VAPIC_ADDR` with the structure at `arg`; the address 0 stands for none.
///
/// # Errors
///
/// `EFAULT`; `EINVAL` if there is no memory, or if userspace has the local APIC.
pub(crate) fn set_address<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    if cx.state.apic.is_none() {
        return Err(EINVAL);
    }
    let VapicAddr { vapic_addr } = user::read(arg)?;
    let address = Gpa::new(vapic_addr);
    if vapic_addr != 0 && cx.vm.memory().kind(address) == Kind::Device {
        return Err(EINVAL);
    }
    cx.state.link.vapic.word = (vapic_addr != 0).then(|| GuestRecord::new(address, 4));
    cx.state.events.check = true;
    Ok(0)
}
