// SPDX-License-Identifier: GPL-2.0
//! Events that an entry delivers, and whose delivery an exit interrupted (SDM vol. 3, 26.6 and 27.2.4).

use super::VmxControl;
use kvm_emulate::Shadow;
use kvm_x86::{
    control::Control,
    inject::{interrupts_open, Injected},
};
use vmx_arch::{
    event::{Event, Interruptibility, Kind},
    field::Slot,
};
use x86_defs::{Cr0, Dr6, Rflags, Vector};

impl VmxControl {
    /// What the processor is told so that it delivers `event`.
    pub(super) fn delivery_of(&mut self, event: Injected) -> Event {
        match event {
            Injected::Interrupt(vector) => Event::new(Kind::Interrupt, vector),
            Injected::Nmi => {
                // The processor blocks them when it delivers this one, or nobody else does.
                self.set_nmi_blocked(!self.has_virtual_nmis());
                Event::new(Kind::Nmi, Vector::Nmi as u8)
            }
            Injected::Exception { vector, .. } if is_software(vector) => {
                self.fields.set(Slot::EntryInstructionLength, 1);
                Event::new(Kind::SoftwareException, vector)
            }
            Injected::Exception { vector, code } => self.exception(vector, code),
            Injected::Software { vector, is_exception, length } => {
                self.fields.set(Slot::EntryInstructionLength, length.into());
                let kind =
                    if is_exception { Kind::SoftwareException } else { Kind::SoftwareInterrupt };
                Event::new(kind, vector)
            }
        }
    }

    /// What was being delivered as the guest exited.
    pub(super) fn undelivered(&mut self) -> Option<Injected> {
        let (kind, vector) = self.vectoring.get()?;
        let length = || self.fields.get(Slot::InstructionLength) as u8;
        Some(match kind {
            Kind::Interrupt => Injected::Interrupt(vector),
            Kind::Nmi => {
                // It will be blocked when it is delivered.
                self.set_nmi_blocked(false);
                Injected::Nmi
            }
            Kind::Exception => {
                let has_code = self.vectoring.has_error_code();
                let code = has_code.then(|| self.fields.get(Slot::VectoringErrorCode) as u32);
                Injected::Exception { vector, code }
            }
            Kind::SoftwareInterrupt => {
                Injected::Software { vector, is_exception: false, length: length() }
            }
            Kind::SoftwareException => {
                Injected::Software { vector, is_exception: true, length: length() }
            }
            // INT1 is executed again.
            Kind::PrivilegedException => return None,
        })
    }

    /// An exception of the processor, as an entry delivers it.
    fn exception(&mut self, vector: u8, code: Option<u32>) -> Event {
        let event = Event::new(Kind::Exception, vector);
        if vector == Vector::Db as u8
            && self.rflags().contains(Rflags::TF)
            && !interrupts_open(self)
            && self.shadow() != Shadow::None
        {
            // The processor insists on the step that the last instruction held back.
            self.fields.set_bits(Slot::PendingDebug, Dr6::BS.bits(), true);
        }
        // Real mode has no error codes.
        match code.filter(|_| self.cr0().contains(Cr0::PE)) {
            Some(code) => {
                // A processor never has more, and doesn't accept more.
                self.fields.set(Slot::EntryErrorCode, (code & 0xffff).into());
                event.with_error_code()
            }
            None => event,
        }
    }

    /// An IRET that had unblocked NMIs faulted: they are blocked until it is done.
    pub(crate) fn block_nmis_again(&mut self) {
        if self.has_virtual_nmis() && self.vectoring.get().is_none() {
            self.set_blocked(Interruptibility::NMI, true);
        }
    }
}

/// Whether the exception is raised by an instruction for that: INT3 or INTO.
fn is_software(vector: u8) -> bool {
    vector == Vector::Bp as u8 || vector == Vector::Of as u8
}
