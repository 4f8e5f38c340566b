// SPDX-License-Identifier: GPL-2.0
//! The two 8259A and the IOAPIC of a VM, under their locks.

use super::alarm::Alarm;
use crate::{request, vendor::Vendor};
use kernel::{
    prelude::*,
    sync::{atomic::Atomic, new_spinlock_irq, SpinLockIrq},
};
use kvm_irqchip::{ioapic::IoApic, pic::Pic};
use kvm_sys::{plain::Plain, timer::Timer};

/// The devices.
#[pin_data]
pub(crate) struct Board<V: Vendor> {
    #[pin]
    pub(super) pic: SpinLockIrq<Pic>,
    /// The 8259A's output, for those who look without the lock.
    pub(super) pic_output: Atomic<bool>,
    #[pin]
    pub(super) ioapic: SpinLockIrq<IoApic>,
    /// Goes off when the IOAPIC may send what it held back.
    #[pin]
    pub(super) retry: Timer<Alarm<V>>,
}

impl<V: Vendor> Board<V> {
    /// The devices after power-on.
    ///
    /// # Errors
    ///
    /// None.
    pub(super) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            pic <- new_spinlock_irq!(Pic::new(), "kvm_pic"),
            pic_output: Atomic::new(false),
            ioapic <- new_spinlock_irq!(IoApic::new(), "kvm_ioapic"),
            retry <- Timer::new(Alarm::new(request::IOAPIC_RETRY)),
        })
    }

    /// Whether the 8259A has an interrupt for whoever takes its interrupts.
    #[inline]
    pub(crate) fn pic_output(&self) -> bool {
        self.pic_output.get()
    }
}
