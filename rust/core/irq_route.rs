// SPDX-License-Identifier: GPL-2.0
//! Interrupt routes: from a GSI to where it is delivered, and back from a pin to
//! those who want to hear that its interrupt was served.
//!
//! A GSI is looked up in an RCU read section, in any context, by indexing. Setting
//! routes makes a new table; when the ioctl returns, nothing is delivered by the
//! old one any more.

use crate::{
    arch::Arch,
    irqfd::Irqfds,
    vm::Vm,
    wiring::{Delivery, Pin, Route, Source, Wiring},
};
use core::{mem::size_of, ops::Range};
use kernel::{
    error::Result,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};
use kvm_event::routes::{self, Entry, Refused, MAX_ROUTES};
use kvm_sys::{
    eventfd::EventFd,
    rcu_cell::{wait_for_readers, RcuCell, Unpublished},
    trace::{kvm_ack_irq, kvm_set_irq},
    user,
};
use kvm_uapi::irq::{IrqLevel, Msi, RoutingEntry, KVM_IRQ_ROUTING_MSI, KVM_MSI_VALID_DEVID};

/// All routes of a VM.
type Table<A> = routes::Table<Route<A>, KVVec<u16>, KVVec<Entry<Route<A>>>>;

/// Somebody who wants to hear that the interrupt of a GSI was served.
pub(crate) struct Resampler {
    gsi: u32,
    event: EventFd,
    /// Whether it still wants to.
    listens: Atomic<bool>,
}

impl Resampler {
    /// One for an eventfd of the current process.
    ///
    /// # Errors
    ///
    /// `EBADF` or `EINVAL` if it isn't one; `ENOMEM`.
    pub(crate) fn new(gsi: u32, fd: u32) -> Result<Arc<Self>> {
        let event = EventFd::from_fd(fd as i32)?;
        Ok(Arc::new(Self { gsi, event, listens: Atomic::new(true) }, GFP_KERNEL_ACCOUNT)?)
    }
}

type Resamplers = KVVec<Arc<Resampler>>;

/// The interrupt lines of a VM.
#[pin_data]
pub struct Irq<A: Arch> {
    #[pin]
    routes: RcuCell<Table<A>>,
    #[pin]
    resamplers: RcuCell<Resamplers>,
    /// Eventfds that raise interrupts.
    pub(crate) irqfds: Arc<Irqfds<A>>,
}

impl<A: Arch> Irq<A> {
    /// No routes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            routes <- RcuCell::new(),
            resamplers <- RcuCell::new(),
            irqfds: Irqfds::new()?,
        })
    }

    /// Shows those who want to hear that the interrupt of a GSI was served, until
    /// `show` answers with `true`; whether it did.
    fn any_resampler(&self, gsi: u32, mut show: impl FnMut(&EventFd) -> bool) -> bool {
        self.resamplers.read().is_some_and(|all| {
            let concerned = |one: &&Arc<Resampler>| one.gsi == gsi && one.listens.load(Relaxed);
            all.iter().filter(concerned).any(|one| show(&one.event))
        })
    }
}

impl<A: Arch> Vm<A> {
    /// Drives the line or sends the message that is routed from a GSI; where there
    /// is none, nothing happens. `report` if userspace wants the outcome. From any
    /// context.
    #[inline]
    pub fn set_irq(&self, source: Source, gsi: u32, level: bool, report: bool) -> Delivery {
        kvm_set_irq(|| (gsi, level.into(), 0));
        let Some(table) = self.irq().routes.read() else { return Delivery::IGNORED };
        table.routes(gsi).fold(Delivery::IGNORED, |all, route| {
            all.and(A::Wiring::deliver(self, route, source, level, report))
        })
    }

    /// Raises and lowers a line for userspace, or sends a message. From any
    /// context.
    #[inline]
    pub(crate) fn pulse_irq(&self, gsi: u32) {
        kvm_set_irq(|| (gsi, 1, 0));
        let Some(table) = self.irq().routes.read() else { return };
        for route in table.routes(gsi) {
            let _ = A::Wiring::deliver(self, route, Source::USER, true, false);
        }
        for route in table.routes(gsi).filter(|route| A::Wiring::route_pin(route).is_some()) {
            let _ = A::Wiring::deliver(self, route, Source::USER, false, false);
        }
    }

    /// The interrupt of a pin was served: lowers the resamplers' line and tells
    /// them, and the architecture. From any context; but since that may deliver
    /// interrupts, without holding a lock that delivery takes.
    pub fn notify_acked(&self, pin: Pin) {
        kvm_ack_irq(|| (pin.chip.into(), pin.pin.into()));
        let gsi = self.irq().routes.read().and_then(|table| table.gsi_of(pin));
        let Some(gsi) = gsi else { return };
        if self.irq().any_resampler(gsi, |_| true) {
            // Once, before any of them is told: one may raise it again at once.
            let _ = self.set_irq(Source::RESAMPLE, gsi, false, false);
            self.irq().any_resampler(gsi, |event| {
                event.signal();
                false
            });
        }
        A::Wiring::acked(self, gsi);
    }

    /// Whether an irqfd wants to hear that the interrupt of a pin was served.
    pub fn has_resampler(&self, pin: Pin) -> bool {
        let gsi = self.irq().routes.read().and_then(|table| table.gsi_of(pin));
        gsi.is_some_and(|gsi| self.irq().any_resampler(gsi, |_| true))
    }

    /// Shows the routes of some GSIs. `show` must not sleep.
    pub fn for_each_route(&self, gsis: Range<u32>, mut show: impl FnMut(u32, &Route<A>)) {
        let Some(table) = self.irq().routes.read() else { return };
        for gsi in gsis.start..gsis.end.min(MAX_ROUTES) {
            table.routes(gsi).for_each(|route| show(gsi, route));
        }
    }

    /// Replaces all routes. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` if routes contradict each other, or one can't be; `ENOMEM`.
    pub fn set_routes(&self, entries: &[RoutingEntry]) -> Result {
        self.replace_routes(entries.len(), entries.iter().map(|entry| Ok(*entry)))
    }

    fn replace_routes(
        &self,
        count: usize,
        entries: impl Iterator<Item = Result<RoutingEntry>>,
    ) -> Result {
        let mut parsed = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        for entry in entries {
            parsed.push(self.parse(&entry?)?, GFP_KERNEL_ACCOUNT)?;
        }
        let heads = KVVec::zeroed(routes::heads_needed(&parsed), GFP_KERNEL_ACCOUNT)?;
        let table = Table::<A>::new(heads, parsed).map_err(|_: Refused| EINVAL)?;
        let table = Unpublished::new(table)?;
        drop(self.irq().routes.lock().publish_and_wait(table));
        A::Wiring::routes_changed(self);
        Ok(())
    }

    fn parse(&self, entry: &RoutingEntry) -> Result<Entry<Route<A>>> {
        let flags = if entry.type_ == KVM_IRQ_ROUTING_MSI { KVM_MSI_VALID_DEVID } else { 0 };
        if entry.gsi >= MAX_ROUTES || entry.flags & !flags != 0 {
            return Err(EINVAL);
        }
        let route = A::Wiring::parse_route(self, entry)?;
        Ok(Entry::new(entry.gsi, A::Wiring::route_pin(&route), route))
    }

    /// `KVM_IRQ_LINE`, or, with `report`, `KVM_IRQ_LINE_STATUS`, with the structure
    /// at `arg`.
    ///
    /// # Errors
    ///
    /// `EFAULT`; `ENXIO` without an in-kernel interrupt controller.
    pub fn irq_line(&self, arg: usize, report: bool) -> Result<u32> {
        let mut line: IrqLevel = user::read(arg)?;
        if !A::Wiring::has_irqchip(self) {
            return Err(ENXIO);
        }
        let gsi = line.__bindgen_anon_1;
        let Delivery(status) = self.set_irq(Source::USER, gsi, line.level != 0, report);
        if report {
            line.__bindgen_anon_1 = status as u32;
            user::write(arg, &line)?;
        }
        Ok(0)
    }

    /// `KVM_SIGNAL_MSI` with the structure at `arg`. The number of vCPUs that got
    /// it.
    ///
    /// # Errors
    ///
    /// `EFAULT`; `EINVAL` without an in-kernel interrupt controller, for flags that
    /// there aren't, or for an address that can't be; `EPERM` if nobody got it.
    pub fn signal_msi(&self, arg: usize) -> Result<u32> {
        let msi: Msi = user::read(arg)?;
        if !A::Wiring::has_irqchip(self) || msi.flags & !KVM_MSI_VALID_DEVID != 0 {
            return Err(EINVAL);
        }
        let pair = |a: u32, b: u32| {
            let ([a, b, c, d], [e, f, g, h]) = (a.to_ne_bytes(), b.to_ne_bytes());
            u64::from_ne_bytes([a, b, c, d, e, f, g, h])
        };
        let entry = RoutingEntry {
            gsi: 0,
            type_: KVM_IRQ_ROUTING_MSI,
            flags: msi.flags,
            pad: 0,
            u: [pair(msi.address_lo, msi.address_hi), pair(msi.data, msi.devid), 0, 0],
        };
        let route = A::Wiring::parse_route(self, &entry)?;
        let Delivery(status) = A::Wiring::deliver(self, &route, Source::USER, true, false);
        u32::try_from(status).map_err(|_| EPERM)
    }

    /// Tells an eventfd from now on when the interrupt of its GSI was served.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn add_resampler(&self, new: Arc<Resampler>) -> Result {
        {
            let mut writer = self.irq().resamplers.lock();
            let mut all = listening(writer.get())?;
            all.push(new, GFP_KERNEL_ACCOUNT)?;
            writer.publish(Unpublished::new(all)?);
        }
        A::Wiring::routes_changed(self);
        Ok(())
    }

    /// Tells it no more, not even a little later. The line that it may have raised
    /// stays so only if others share it.
    pub(crate) fn remove_resampler(&self, gone: &Resampler) {
        {
            let mut writer = self.irq().resamplers.lock();
            gone.listens.store(false, Relaxed);
            match listening(writer.get()).and_then(Unpublished::new) {
                Ok(rest) => drop(writer.publish_and_wait(rest)),
                // It stays in the list, as one that doesn't listen, until the next
                // change.
                Err(_) => wait_for_readers(),
            }
        }
        if !self.irq().any_resampler(gone.gsi, |_| true) {
            let _ = self.set_irq(Source::RESAMPLE, gone.gsi, false, false);
        }
        A::Wiring::routes_changed(self);
    }
}

/// A copy of a list without those who don't listen, with room for one more.
fn listening(all: Option<&Resamplers>) -> Result<Resamplers> {
    let all = all.map_or(&[][..], |all| all);
    let mut copy = KVVec::with_capacity(all.len().saturating_add(1), GFP_KERNEL_ACCOUNT)?;
    for one in all.iter().filter(|one| one.listens.load(Relaxed)) {
        copy.push(one.clone(), GFP_KERNEL_ACCOUNT)?;
    }
    Ok(copy)
}

/// `KVM_SET_GSI_ROUTING` with the list at `arg`.
///
/// # Errors
///
/// `EFAULT`; `EINVAL` without an in-kernel interrupt controller, for too many
/// routes, for flags; those of [`Vm::set_routes`].
pub(crate) fn set<A: Arch>(vm: &Vm<A>, arg: usize) -> Result<u32> {
    let [count, flags]: [u32; 2] = user::read(arg)?;
    if !A::Wiring::has_irqchip(vm) || count > MAX_ROUTES || flags != 0 {
        return Err(EINVAL);
    }
    let start = arg.wrapping_add(size_of::<[u32; 2]>());
    let entry = |index: usize| {
        user::read(start.wrapping_add(index.wrapping_mul(size_of::<RoutingEntry>())))
    };
    vm.replace_routes(count as usize, (0..count as usize).map(entry))?;
    Ok(0)
}
