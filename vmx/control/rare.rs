// SPDX-License-Identifier: GPL-2.0
//! What few entries and exits have to do: one flag tells them from the others.

use super::VmxControl;
use kvm_emulate::Shadow;
use kvm_sys::{irq::IrqOff, x86::debugreg};
use kvm_x86::{control::Control, inject::interrupts_open};
use vmx_arch::event::Interruptibility;

impl VmxControl {
    /// Notes whether an entry and an exit have more to do than mostly.
    pub(super) fn note_rare(&mut self) {
        self.rare = self.owns_debug || self.debugged || self.soft_nmi.is_blocked();
    }

    /// Before an entry.
    #[cold]
    pub(super) fn before_rare_entry(&mut self, off: &IrqOff) {
        if self.debugged {
            // Stepping over what blocks for an instruction isn't the guest's own.
            self.set_shadow(Shadow::None);
        }
        if self.owns_debug {
            debugreg::load_dr6(off, self.dr6);
        }
        if self.soft_nmi.is_blocked() {
            self.soft_nmi.enter();
        }
    }

    /// After an exit, whose registers are known.
    #[cold]
    pub(super) fn after_rare_exit(&mut self, off: &IrqOff) {
        if self.owns_debug {
            self.dr6 = debugreg::take_dr6(off);
        }
        if self.soft_nmi.is_blocked() {
            // Delivery has blocked the host's NMIs, which the guest's IRET wouldn't change.
            self.set_blocked(Interruptibility::NMI, false);
            self.soft_nmi.exited(interrupts_open(self));
            self.note_rare();
        }
    }
}
