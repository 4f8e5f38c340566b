// SPDX-License-Identifier: GPL-2.0
//! Ends of interrupts without an exit (`MSR_KVM_PV_EOI_EN`).
//!
//! The guest's word is set before an entry when its next EOI concerns nobody else,
//! and looked at after the exit ([`PvEoi`]).

use super::eoi;
use crate::{state::Cx, vendor::Vendor};
use kernel::{error::Result, prelude::*};
use kvm_core::memory::{GuestRecord, Kind, Wait};
use kvm_irqchip::lapic::{PvEoi, PvEoiExit};
use kvm_paging::addr::Gpa;

/// The MSR and the guest's word.
pub(crate) struct Word {
    state: PvEoi,
    record: GuestRecord,
}

impl Default for Word {
    fn default() -> Self {
        Self { state: PvEoi::default(), record: GuestRecord::new(Gpa::new(0), 1) }
    }
}

impl Word {
    /// Whether the guest may have ended an interrupt with it.
    #[inline]
    pub(super) fn is_armed(&self) -> bool {
        self.state.is_armed()
    }

    /// The MSR.
    pub(crate) fn msr(&self) -> u64 {
        self.state.msr()
    }
}

/// Writes the MSR.
///
/// # Errors
///
/// `EINVAL` without a local APIC in the kernel, for a word that isn't aligned, or
/// that isn't in memory.
pub(crate) fn set<V: Vendor>(cx: &mut Cx<'_, V>, value: u64) -> Result {
    let state = PvEoi::new(value).filter(|_| cx.state.apic.is_some()).ok_or(EINVAL)?;
    let record = match state.address() {
        Some(address) if cx.vm.memory().kind(Gpa::new(address)) == Kind::Device => {
            return Err(EINVAL);
        }
        address => GuestRecord::new(Gpa::new(address.unwrap_or(0)), 1),
    };
    cx.state.link.pv_eoi = Word { state, record };
    Ok(())
}

/// Before an entry: sets the word if the guest may end its interrupt with it.
#[inline]
pub(super) fn arm<V: Vendor>(cx: &mut Cx<'_, V>, wait: Wait) {
    let Word { state, record } = &mut cx.state.link.pv_eoi;
    let Some(apic) = &cx.state.apic else { return };
    if state.enter(apic) {
        let (memory, index) = (cx.vm.memory(), cx.vcpu.index());
        let written = match wait {
            Wait::Allowed => record.write(&memory.guest().by(index), 0, &[1]),
            // Without looking for its slot, which may have to let another one go.
            Wait::Never => memory.guest_atomic().by(index).write(record.gpa(), &[1]),
        };
        if written.is_err() {
            state.disarm();
        }
    }
}

/// After an exit: takes in what the guest did with the word.
pub(super) fn take_in<V: Vendor>(cx: &mut Cx<'_, V>) {
    let Word { state, record } = &mut cx.state.link.pv_eoi;
    let Some(apic) = &mut cx.state.apic else { return };
    let guest = cx.vm.memory().guest().by(cx.vcpu.index());
    let mut word = [0];
    let read = record.read(&guest, 0, &mut word);
    let [word] = word;
    match state.exit(apic, read.ok().map(|()| word)) {
        PvEoiExit::None => {}
        PvEoiExit::Clear => {
            // Where it can't be written any more, the guest can't read it either.
            let _ = record.write(&guest, 0, &[0]);
        }
        PvEoiExit::Ended(ended) => {
            drop(guest);
            cx.state.events.check = true;
            eoi::ended(cx, &ended);
        }
    }
}
