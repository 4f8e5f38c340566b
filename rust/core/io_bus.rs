// SPDX-License-Identifier: GPL-2.0
//! The I/O buses of a VM: which accesses of a guest the kernel serves itself.
//!
//! A bus has eventfds that writes signal, coalesced zones, and the architecture's
//! devices. They are asked in this order. The exit path looks an access up in an
//! RCU read section; changes make a new table, one at a time per bus.

use crate::{
    arch::Arch,
    coalesced::Ring,
    vm::Vm,
    wiring::{self, Wiring},
};
use kernel::{error::Result, prelude::*, sync::Arc};
use kvm_event::{
    matching::{self, Key, Keyed},
    ranges::{self, Ranged},
};
use kvm_sys::{
    eventfd::EventFd,
    irq::IrqOff,
    rcu_cell::{RcuCell, Unpublished, Writer},
};

/// What an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Guest physical memory.
    Mmio,
    /// I/O ports.
    Pio,
    /// Subchannels of virtio-ccw.
    CcwNotify,
}

/// An eventfd and the writes that signal it.
#[derive(Clone)]
pub(crate) struct Signal {
    /// The writes.
    pub(crate) key: Key,
    /// The eventfd.
    pub(crate) event: Arc<EventFd>,
}

impl Keyed for Signal {
    fn key(&self) -> &Key {
        &self.key
    }
}

/// Who serves a range of addresses.
enum Handler<A: Arch> {
    /// Writes are put into the VM's ring.
    Coalesced,
    /// A device of the architecture.
    Device(wiring::Device<A>),
}

impl<A: Arch> Clone for Handler<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A: Arch> Copy for Handler<A> {}

/// All there is on a bus, in the order in which it is searched.
struct Table<A: Arch> {
    signals: KVVec<Signal>,
    handlers: KVVec<Ranged<Handler<A>>>,
}

/// Most coalesced zones and devices of one bus. (Eventfds are limited by how many
/// files a process may have.)
const MAX_HANDLERS: usize = 1000;

impl<A: Arch> Table<A> {
    /// A copy, with room for one more, without the handlers that don't stay.
    fn copy(old: Option<&Self>, stays: impl Fn(&Ranged<Handler<A>>) -> bool) -> Result<Self> {
        let (signals, handlers) = old.map_or((&[][..], &[][..]), |o| (&o.signals, &o.handlers));
        let mut new = Self {
            signals: KVVec::with_capacity(signals.len().saturating_add(1), GFP_KERNEL_ACCOUNT)?,
            handlers: KVVec::with_capacity(handlers.len().saturating_add(1), GFP_KERNEL_ACCOUNT)?,
        };
        new.signals.extend_from_slice(signals, GFP_KERNEL_ACCOUNT)?;
        for handler in handlers.iter().filter(|handler| stays(handler)) {
            new.handlers.push(*handler, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(new)
    }
}

/// A bus.
#[pin_data]
struct Bus<A: Arch> {
    #[pin]
    table: RcuCell<Table<A>>,
}

impl<A: Arch> Bus<A> {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self { table <- RcuCell::new() })
    }

    /// The `skip`th of those that an access concerns.
    #[inline]
    fn handler(&self, address: u64, length: usize, skip: usize) -> Option<Handler<A>> {
        let table = self.table.read()?;
        let handler = ranges::find(&table.handlers, address, length as u64).nth(skip).copied();
        handler
    }

    fn add_handler(&self, start: u64, length: u64, handler: Handler<A>) -> Result {
        let mut writer = self.table.lock();
        let mut new = Table::copy(writer.get(), |_| true)?;
        if new.handlers.len() >= MAX_HANDLERS {
            return Err(ENOSPC);
        }
        let handler = Ranged::new(start, length, handler);
        let place = ranges::position(&new.handlers, &handler);
        new.handlers.insert_within_capacity(place, handler).map_err(|_| ENOMEM)?;
        ranges::settle(&mut new.handlers);
        writer.publish(Unpublished::new(new)?);
        Ok(())
    }

    /// Takes those away for which `goes` holds; nobody is asked any more when this
    /// returns.
    fn remove_handlers(&self, goes: impl Fn(&Ranged<Handler<A>>) -> bool) -> Result {
        let mut writer = self.table.lock();
        if !writer.get().is_some_and(|table| table.handlers.iter().any(&goes)) {
            return Ok(());
        }
        let mut new = Table::copy(writer.get(), |handler| !goes(handler))?;
        ranges::settle(&mut new.handlers);
        drop(writer.publish_and_wait(Unpublished::new(new)?));
        Ok(())
    }
}

/// The buses of a VM.
#[pin_data]
pub struct Io<A: Arch> {
    #[pin]
    mmio: Bus<A>,
    #[pin]
    pio: Bus<A>,
    #[pin]
    ccw: Bus<A>,
    #[pin]
    ring: Ring,
}

impl<A: Arch> Io<A> {
    /// Buses with nothing on them.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            mmio <- Bus::new(),
            pio <- Bus::new(),
            ccw <- Bus::new(),
            ring <- Ring::new(wiring::coalesced_page::<A>().is_some()),
        })
    }

    fn bus(&self, space: Space) -> &Bus<A> {
        match space {
            Space::Mmio => &self.mmio,
            Space::Pio => &self.pio,
            Space::CcwNotify => &self.ccw,
        }
    }

    /// A guest's write of 1 to 8 bytes; whether it was served. `vm` is the VM that
    /// this belongs to.
    #[inline]
    pub fn write(&self, vm: &Vm<A>, space: Space, address: u64, data: &[u8]) -> bool {
        let bus = self.bus(space);
        match bus.table.read() {
            None => return false,
            Some(table) => {
                if let Some(signal) = matching::find(&table.signals, address, data) {
                    signal.event.signal();
                    return true;
                }
                if table.handlers.is_empty() {
                    return false;
                }
            }
        }
        (0..).map_while(|skip| bus.handler(address, data.len(), skip)).any(
            |handler| match handler {
                Handler::Coalesced => self.ring.add(address, data, space == Space::Pio),
                Handler::Device(device) => A::Wiring::device_write(vm, device, address, data),
            },
        )
    }

    /// A guest's read of 1 to 8 bytes; whether `data` has the answer.
    #[inline]
    pub fn read(&self, vm: &Vm<A>, space: Space, address: u64, data: &mut [u8]) -> bool {
        let (bus, length) = (self.bus(space), data.len());
        (0..).map_while(|skip| bus.handler(address, length, skip)).any(|handler| match handler {
            Handler::Coalesced => false,
            Handler::Device(device) => A::Wiring::device_read(vm, device, address, data, None),
        })
    }

    /// The same in any context in which interrupts are off and spin locks may be taken.
    #[inline]
    pub fn read_at_once(
        &self,
        vm: &Vm<A>,
        space: Space,
        address: u64,
        data: &mut [u8],
        off: &IrqOff,
    ) -> bool {
        let Some(table) = self.bus(space).table.read_in(off) else { return false };
        ranges::find(&table.handlers, address, data.len() as u64).any(|handler| match handler {
            Handler::Coalesced => false,
            Handler::Device(device) => {
                A::Wiring::device_read(vm, *device, address, data, Some(off))
            }
        })
    }

    /// A guest's access to an address without memory, of which nothing else is
    /// known yet; whether it was a write that an eventfd takes whatever its length.
    /// Such an address has nothing to read.
    #[inline]
    pub fn fast_mmio(&self, address: u64) -> bool {
        self.mmio.table.read().is_some_and(|table| {
            matching::find_any_length(&table.signals, address)
                .map(|signal| signal.event.signal())
                .is_some()
        })
    }

    /// A guest's write of `size` bytes, 1 to 8; whether an eventfd took it. From any context in
    /// which interrupts are off and spin locks may be taken.
    #[inline]
    pub fn signal(&self, space: Space, address: u64, value: u64, size: u8, off: &IrqOff) -> bool {
        let bytes = value.to_le_bytes();
        let Some(data) = bytes.get(..size.into()) else { return false };
        self.bus(space).table.read_in(off).is_some_and(|table| {
            let signal = matching::find(&table.signals, address, data);
            signal.map(|signal| signal.event.signal()).is_some()
        })
    }

    /// A guest's write of unknown length: signals the eventfd that takes it whatever its
    /// length, if there is one and `first` gives something, which comes back. `first` doesn't
    /// sleep.
    #[inline]
    pub fn signal_any_length<R>(
        &self,
        address: u64,
        first: impl FnOnce() -> Option<R>,
        off: &IrqOff,
    ) -> Option<R> {
        let table = self.mmio.table.read_in(off)?;
        let signal = matching::find_any_length(&table.signals, address)?;
        first().inspect(|_| signal.event.signal())
    }

    /// Whether an eventfd or a device of the architecture is at an address: what serves an
    /// access by itself.
    #[inline]
    pub fn is_served_at_once(&self, space: Space, address: u64, off: &IrqOff) -> bool {
        self.bus(space).table.read_in(off).is_some_and(|table| {
            matching::is_any_at(&table.signals, address)
                || ranges::find(&table.handlers, address, 1)
                    .any(|handler| matches!(handler, Handler::Device(_)))
        })
    }

    /// Puts a device of the architecture on a bus. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the bus is full; `ENOMEM`.
    pub fn add_device(
        &self,
        space: Space,
        start: u64,
        length: u64,
        device: wiring::Device<A>,
    ) -> Result {
        self.bus(space).add_handler(start, length, Handler::Device(device))
    }

    /// Takes a device off a bus; a vCPU may be in it yet. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; the device stays.
    pub fn remove_device(&self, space: Space, device: wiring::Device<A>) -> Result {
        self.bus(space).remove_handlers(
            |handler| matches!(handler.device, Handler::Device(other) if other == device),
        )
    }

    /// The ring of coalesced writes.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Puts a coalesced zone on a bus.
    pub(crate) fn add_zone(&self, space: Space, start: u64, length: u64) -> Result {
        self.bus(space).add_handler(start, length, Handler::Coalesced)
    }

    /// Takes the zones off a bus that have all of these addresses.
    pub(crate) fn remove_zones(&self, space: Space, start: u64, length: u64) -> Result {
        self.bus(space).remove_handlers(|handler| {
            matches!(handler.device, Handler::Coalesced) && handler.covers(start, length)
        })
    }

    /// Puts an eventfd on a bus.
    ///
    /// # Errors
    ///
    /// `EEXIST` if another one takes some of the same writes; `ENOMEM`.
    pub(crate) fn add_signal(&self, space: Space, signal: Signal) -> Result {
        let mut writer = self.bus(space).table.lock();
        let mut new = Table::copy(writer.get(), |_| true)?;
        if matching::conflicts(&new.signals, &signal.key) {
            return Err(EEXIST);
        }
        let place = matching::position(&new.signals, &signal.key);
        new.signals.insert_within_capacity(place, signal).map_err(|_| ENOMEM)?;
        writer.publish(Unpublished::new(new)?);
        Ok(())
    }

    /// Takes an eventfd off a bus; it isn't signalled any more when this returns.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such entry; `ENOMEM`, and it stays.
    pub(crate) fn remove_signal(&self, space: Space, key: &Key, event: &EventFd) -> Result {
        let mut writer = self.bus(space).table.lock();
        let place = find_signal(&writer, key, event).ok_or(ENOENT)?;
        let mut new = Table::copy(writer.get(), |_| true)?;
        new.signals.remove(place).map_err(|_| ENOENT)?;
        drop(writer.publish_and_wait(Unpublished::new(new)?));
        Ok(())
    }
}

fn find_signal<A: Arch>(
    writer: &Writer<'_, Table<A>>,
    key: &Key,
    event: &EventFd,
) -> Option<usize> {
    let signals = &writer.get()?.signals;
    let place = matching::position(signals, key);
    let found = signals.get(place)?;
    (found.key == *key && *found.event == *event).then_some(place)
}
