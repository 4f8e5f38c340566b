// SPDX-License-Identifier: GPL-2.0
//! Events that an entry delivers, and whose delivery an exit interrupted (APM vol. 2, 15.20 and 15.7.2).

use super::{Soft, SvmControl};
use kvm_x86::inject::Injected;
use svm_arch::event::{Event, Kind};

impl SvmControl {
    /// What the processor is told so that it delivers `event`.
    pub(super) fn delivery_of(&mut self, event: Injected) -> Event {
        // Chosen before and not delivered yet: RIP is past the instruction.
        if let Some(soft) = self.soft.take() {
            self.vmcb.save.rip = soft.rip;
        }
        match event {
            Injected::Interrupt(vector) => Event::new(Kind::Interrupt, vector),
            Injected::Nmi => Event::new(Kind::Nmi, 2),
            Injected::Exception { vector, code: Some(code) } => {
                Event::with_error_code(vector, code)
            }
            Injected::Exception { vector, code: None } => Event::new(Kind::Exception, vector),
            Injected::Software { vector, is_exception, length } => {
                // The processor pushes RIP as it is: it has to be past the
                // instruction, and back again if the delivery is interrupted.
                let rip = self.vmcb.save.rip;
                self.soft = Some(Soft { rip, length });
                self.vmcb.save.rip = rip.wrapping_add(length.into());
                let kind = if is_exception { Kind::Exception } else { Kind::SoftwareInterrupt };
                Event::new(kind, vector)
            }
        }
    }

    /// What was being delivered as the guest exited.
    pub(super) fn undelivered(&mut self) -> Option<Injected> {
        let soft = self.soft.take();
        let info = self.vmcb.control.exit_int_info;
        let (kind, vector) = info.get()?;
        let event = match kind {
            Kind::Interrupt => Injected::Interrupt(vector),
            Kind::Nmi => Injected::Nmi,
            Kind::SoftwareInterrupt => return self.soft_again(soft, vector, false),
            // INT3 and INTO.
            Kind::Exception if vector == 3 || vector == 4 => {
                return self.soft_again(soft, vector, true)
            }
            Kind::Exception => Injected::Exception { vector, code: info.error_code() },
        };
        Some(event)
    }

    /// The delivery of a software event was interrupted. If the guest's own
    /// instruction raised it, RIP still points there, and it will do so again.
    fn soft_again(
        &mut self,
        soft: Option<Soft>,
        vector: u8,
        is_exception: bool,
    ) -> Option<Injected> {
        let Soft { rip, length } = soft?;
        self.vmcb.save.rip = rip;
        Some(Injected::Software { vector, is_exception, length })
    }
}
