// SPDX-License-Identifier: GPL-2.0
//! The system control area of a VM, and its interlock: the guest's tables keep still while
//! the host goes by them.
//!
//! A guest's IPTE is done when no CPU uses the old translation any more. The kernel, which
//! translates an operand's address and then reads or writes it, counts as one. So it holds
//! the interlock for that long, and SIE comes out for IPTE meanwhile.

use kernel::{
    new_condvar, new_mutex,
    prelude::*,
    sync::{CondVar, Mutex},
};
use kvm_sys::{process, s390};
use s390_arch::{
    sca::{Interlock, Kind},
    sie::{execution_a, execution_b2, SieBlock},
};
use s390_hw::sca::Area;

/// The area, and how many of the host's threads hold its interlock.
#[pin_data]
pub(crate) struct Sca {
    area: Area,
    kind: Kind,
    #[pin]
    holders: Mutex<u32>,
    #[pin]
    released: CondVar,
}

/// The interlock is held.
#[must_use]
pub(crate) struct Hold<'a>(&'a Sca);

impl Sca {
    /// That of a new VM.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            area: Area::new(!s390::knows_control_areas_above())?,
            kind: if s390::counts_interlock() { Kind::Counted } else { Kind::Bit },
            holders <- new_mutex!(0, "kvm_s390_interlock"),
            released <- new_condvar!("kvm_s390_interlock"),
        })
    }

    /// Names the area in the block of a CPU.
    pub(crate) fn set_up(&self, block: &mut SieBlock) {
        let physical = self.area.physical();
        block.sca_high = (physical >> 32) as u32;
        block.sca_low = physical as u32;
        if s390::has_extended_control_areas() {
            block.execution_b2 |= execution_b2::EXTENDED_SCA;
        }
        if self.kind == Kind::Counted {
            block.execution_a |= execution_a::SYSTEM_INTERLOCK;
        }
    }

    /// Keeps the guest's tables from changing. May sleep.
    pub(crate) fn hold(&self) -> Hold<'_> {
        let mut holders = self.holders.lock();
        if *holders == 0 {
            take(self.area.interlock(), self.kind);
        }
        *holders = holders.saturating_add(1);
        Hold(self)
    }

    /// Waits until nobody holds it. A signal ends that, too: the guest comes back here then.
    pub(crate) fn wait(&self) {
        let mut holders = self.holders.lock();
        while *holders != 0 {
            if self.released.wait_interruptible(&mut holders) {
                return;
            }
        }
        if self.kind == Kind::Bit {
            // Whoever has it is no thread of the host's, and is done by now, or see `take`.
            take(self.area.interlock(), self.kind);
            self.area.interlock().release(self.kind);
        }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut holders = self.0.holders.lock();
        *holders = holders.saturating_sub(1);
        if *holders == 0 {
            self.0.area.interlock().release(self.0.kind);
            self.0.released.notify_all();
        }
    }
}

/// Takes the interlock once the CPUs of the guest let it, which they do within an instruction.
///
/// Not on Hercules 3.13: where an IPTE finds the guest's table not mapped by the host, it
/// comes out and leaves the bit set (`micro-interlock-unmapped`). It does IPTE with
/// all other CPUs stopped, so a bit that stays is nobody's. Machines with counts leave none.
fn take(interlock: &Interlock, kind: Kind) {
    const PATIENCE: u32 = 1000;
    let mut tries = 0_u32;
    while !interlock.try_take(kind) {
        tries = tries.saturating_add(1);
        if tries > PATIENCE {
            if kind == Kind::Bit {
                return interlock.seize();
            }
            process::cond_resched();
        }
        core::hint::spin_loop();
    }
}
