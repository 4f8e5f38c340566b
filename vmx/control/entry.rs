// SPDX-License-Identifier: GPL-2.0
//! Right before an entry and right after the exit.

use super::{VmxControl, NO_DEADLINE, RSP, TPR};
use crate::fields::Fields;
use kvm_sys::{irq::IrqOff, x86::tsc::rdtsc};
use kvm_x86::control::Gprs;
use vmx_arch::{
    caps::EptCaps,
    control::Primary,
    event::Event,
    exit::{Exit, Reason},
    field::Slot,
};
use vmx_hw::{flush_ept, flush_vpid, Loaded};

impl VmxControl {
    /// What the processor is to forget before the entry.
    #[inline]
    pub(super) fn flush(&mut self, off: &IrqOff) {
        if self.flush {
            // Translations that combine both tables are among them.
            flush_ept(off.pinned(), self.ept_pointer);
        } else if let (true, Some(vpid)) = (self.flush_guest, &self.vpid) {
            if self.global.caps.ept.contains(EptCaps::INVVPID_SINGLE) {
                flush_vpid(off.pinned(), vpid.number());
            } else {
                flush_ept(off.pinned(), self.ept_pointer);
            }
        }
        self.flush = false;
        self.flush_guest = false;
    }

    /// Lets the timer count down to the deadline from here, or what it can where there is none: an
    /// exit for nothing, if the guest never has another for that long.
    #[inline]
    pub(super) fn start_timer(&mut self) {
        self.counts_down = self.deadline != NO_DEADLINE;
        let left = if self.counts_down { self.deadline.saturating_sub(rdtsc()) } else { u64::MAX };
        self.fields.set(Slot::TimerValue, self.global.config.timer.counts(left).into());
    }

    /// After an exit that left `vectoring`: what isn't in a field.
    #[inline]
    pub(super) fn exited(&mut self, gprs: &mut Gprs, vectoring: Event, off: &IrqOff) {
        self.vectoring = vectoring;
        gprs[RSP] = self.fields.get(Slot::Rsp);
        if self.rare {
            self.after_rare_exit(off);
        }
        if self.global.config.has_primary(Primary::TPR_SHADOW) {
            self.tpr = self.virtual_apic.bytes().get(TPR).copied().unwrap_or(0);
        }
    }
}

/// Takes what the exit says and most handlers need; the event whose delivery it interrupted.
#[inline]
pub(super) fn take_exit(fields: &Fields, loaded: &Loaded<'_>, reason: Option<Reason>) -> Event {
    fields.exited();
    let note = |slot: Slot| fields.note(slot, loaded.read(slot.field()));
    [Slot::Rip, Slot::Rflags, Slot::Rsp].into_iter().for_each(note);
    let Some(reason) = reason.filter(|reason| !reason.is_failed_entry()) else {
        // The processor may have left what was to be delivered.
        fields.forget(Slot::EntryInfo);
        return Event::NONE;
    };
    // An exit leaves nothing of that.
    fields.note(Slot::EntryInfo, 0);
    if reason.is_instruction() {
        // What going on behind it takes.
        [Slot::InstructionLength, Slot::Interruptibility].into_iter().for_each(note);
        match reason.exit() {
            Exit::Io | Exit::ApicAccess => note(Slot::Qualification),
            Exit::EptMisconfiguration => note(Slot::GuestPhysical),
            _ => {}
        }
    }
    Event::from_bits(loaded.read(Slot::VectoringInfo.field()))
}
