// SPDX-License-Identifier: GPL-2.0
//! A loaded vendor module: hardware on, /dev/kvm there.

use crate::{arch::Arch, debugfs, hardware::Hardware, system::SystemDevice, uevent};
use kernel::prelude::*;
use kvm_sys::{chardev, rcu_cell};

/// What a vendor module holds while it is loaded.
///
/// The device goes first, so that no file can be opened without hardware below
/// it. Open files keep the module, and with it this, alive.
#[pin_data]
pub struct Provider<A: Arch> {
    _announcer: uevent::Announcer,
    #[pin]
    device: chardev::Registration<SystemDevice<A>>,
    _debug: debugfs::Top<A>,
    #[pin]
    hardware: Hardware<A>,
    // The code that drops old values is this module's.
    _drops: rcu_cell::DropsDone,
}

impl<A: Arch> Provider<A> {
    /// Turns the hardware on and offers /dev/kvm.
    ///
    /// # Errors
    ///
    /// Those of [`Hardware::enable`] and [`chardev::Registration::new`]; nothing
    /// is left behind.
    pub fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            hardware <- Hardware::enable(),
            _debug: debugfs::Top::new()?,
            device <- chardev::Registration::new(),
            _announcer: uevent::Announcer::new(device.node()),
            _drops: rcu_cell::DropsDone,
        })
    }
}
