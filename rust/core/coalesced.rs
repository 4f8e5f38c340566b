// SPDX-License-Identifier: GPL-2.0
//! Coalesced writes: those that have no effect before the next exit are left in a
//! ring that userspace reads then (`KVM_CAP_COALESCED_MMIO`,
//! `KVM_CAP_COALESCED_PIO`).

use crate::{arch::Arch, io_bus::Space, vm::Vm};
use kernel::{
    error::Result,
    new_spinlock,
    prelude::*,
    sync::{
        barrier::{self, smp_mb},
        SpinLock,
    },
};
use kvm_event::ring::{self, FIRST, LAST};
use kvm_sys::{shared_page::SharedPage, user};
use kvm_uapi::memory::CoalescedMmioZone;

/// The ring of a VM, on a page that all its vCPUs' files show.
#[pin_data]
pub struct Ring {
    /// Orders those that add.
    #[pin]
    adding: SpinLock<()>,
    page: Option<SharedPage>,
}

impl Ring {
    /// An empty ring, or none.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(wanted: bool) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            adding <- new_spinlock!((), "kvm_ring"),
            page: if wanted { Some(SharedPage::new()?) } else { None },
        })
    }

    /// The page, if the architecture has such a ring.
    pub fn page(&self) -> Option<&SharedPage> {
        self.page.as_ref()
    }

    /// Adds a write; `false` if the ring is full, or userspace has spoilt it.
    pub(crate) fn add(&self, address: u64, data: &[u8], is_port: bool) -> bool {
        let (Some(page), Some(entry)) = (&self.page, ring::entry(address, data, is_port)) else {
            return false;
        };
        let _adding = self.adding.lock();
        let Some(place) = ring::next(page.read::<u32, FIRST>(), page.read::<u32, LAST>()) else {
            return false;
        };
        page.write_bytes(place.offset, &entry);
        // Userspace sees the entry before it is told of it.
        smp_mb(barrier::Write);
        page.write::<u32, LAST>(place.last);
        true
    }
}

fn zone(arg: usize) -> Result<(Space, CoalescedMmioZone)> {
    let zone: CoalescedMmioZone = user::read(arg)?;
    let space = match zone.__bindgen_anon_1 {
        0 => Space::Mmio,
        1 => Space::Pio,
        _ => return Err(EINVAL),
    };
    Ok((space, zone))
}

/// `KVM_REGISTER_COALESCED_MMIO` with the structure at `arg`.
///
/// # Errors
///
/// `EFAULT`; `EINVAL` for what is neither memory nor ports; `ENOSPC` if the bus is
/// full; `ENOMEM`.
pub(crate) fn register<A: Arch>(vm: &Vm<A>, arg: usize) -> Result<u32> {
    let (space, zone) = zone(arg)?;
    vm.io().add_zone(space, zone.addr, zone.size.into())?;
    Ok(0)
}

/// `KVM_UNREGISTER_COALESCED_MMIO`: takes away each zone that has all addresses of
/// this one. That there is none isn't an error.
///
/// # Errors
///
/// `EFAULT`; `EINVAL` for what is neither memory nor ports; `ENOMEM`.
pub(crate) fn unregister<A: Arch>(vm: &Vm<A>, arg: usize) -> Result<u32> {
    let (space, zone) = zone(arg)?;
    vm.io().remove_zones(space, zone.addr, zone.size.into())?;
    Ok(0)
}
