// SPDX-License-Identifier: GPL-2.0
//! How devices, interrupts and counters of a VM are connected: what an
//! architecture provides for [`crate::io_bus`], [`crate::irq_route`],
//! [`crate::irqfd`], [`crate::device`] and [`crate::stats`].

use crate::{
    arch::Arch, coalesced, device, device::AttrDevice, ioeventfd, irq_route, irqfd, stats, vm::Vm,
};
use kernel::{error::Result, prelude::*, sync::ArcBorrow};
use kvm_event::stats::Statistics;
use kvm_sys::irq::IrqOff;
use kvm_uapi::{
    ioctl::{
        x86::{KVM_REGISTER_COALESCED_MMIO, KVM_UNREGISTER_COALESCED_MMIO},
        KVM_CREATE_DEVICE, KVM_GET_STATS_FD, KVM_IOEVENTFD, KVM_IRQFD, KVM_SET_GSI_ROUTING,
    },
    irq::RoutingEntry,
};

pub use kvm_event::routes::Pin;

/// The wiring of an architecture.
type Of<A> = <A as Arch>::Wiring;
/// Its interrupt routes.
pub(crate) type Route<A> = <Of<A> as Wiring<A>>::Route;
/// Its devices on a bus.
pub(crate) type Device<A> = <Of<A> as Wiring<A>>::Device;
/// Its devices with attributes.
pub(crate) type Attr<A> = <Of<A> as Wiring<A>>::AttrDevice;
/// What its VMs count.
pub(crate) type OfVm<A> = <Of<A> as Wiring<A>>::VmStats;
/// What its vCPUs count.
pub(crate) type OfVcpu<A> = <Of<A> as Wiring<A>>::VcpuStats;

/// Offset, in pages, of the ring of coalesced writes in a vCPU's mapping.
pub(crate) const fn coalesced_page<A: Arch>() -> Option<u32> {
    <Of<A> as Wiring<A>>::COALESCED_PAGE
}

/// Copies the number of mappings by size to where they are shown.
pub(crate) fn show_mappings<A: Arch>(stats: &OfVm<A>, mappings: [u64; 3]) {
    <Of<A> as Wiring<A>>::show_mappings(stats, mappings);
}

/// Whether VMs can have an in-kernel interrupt controller.
pub(crate) const fn has_irqchips<A: Arch>() -> bool {
    <Of<A> as Wiring<A>>::IRQCHIPS
}

/// Who drives an interrupt line. A line is asserted while any source asserts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source(pub u8);

impl Source {
    /// Userspace, by ioctl or irqfd.
    pub const USER: Self = Self(0);
    /// The irqfds that want to hear when the interrupt is served.
    pub const RESAMPLE: Self = Self(1);
    /// The 8254.
    pub const PIT: Self = Self(2);
}

/// What became of an interrupt, as `KVM_IRQ_LINE_STATUS` reports it: negative if
/// it was ignored (masked, or leads nowhere), zero if it was pending already,
/// otherwise the number of vCPUs that got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Delivery(pub i32);

impl Delivery {
    /// Nobody got it.
    pub const IGNORED: Self = Self(-1);
    /// It was pending already.
    pub const COALESCED: Self = Self(0);

    /// The outcome of an interrupt that goes to several places.
    pub fn and(self, other: Self) -> Self {
        match (self.0, other.0) {
            (_, ..0) => self,
            (..0, _) => other,
            (one, two) => Self(one.saturating_add(two)),
        }
    }
}

/// An architecture's interrupt routes, in-kernel devices and counters.
///
/// Delivery may be called in any context, interrupts off and other locks held, so
/// it takes spinlocks only, with interrupts off, and none of those that are held
/// where [`Vm::notify_acked`] is called.
pub trait Wiring<A: Arch>: 'static {
    /// A route of a GSI in the form in which it is delivered, parsed once.
    type Route: Copy + Send + Sync + 'static;

    /// An in-kernel device on an I/O bus: which one, its state being the VM's.
    type Device: Copy + PartialEq + Send + Sync + 'static;

    /// A device of `KVM_CREATE_DEVICE`.
    type AttrDevice: AttrDevice<A>;

    /// A VM's counters besides those that all architectures have.
    type VmStats: Statistics;

    /// A vCPU's counters, likewise.
    type VcpuStats: Statistics;

    /// Offset, in pages, of the ring of coalesced writes in a vCPU's mapping;
    /// `None` if there is no such ring.
    const COALESCED_PAGE: Option<u32>;

    /// Whether VMs can have an in-kernel interrupt controller.
    const IRQCHIPS: bool = false;

    /// Copies the number of mappings of 4 KiB, 2 MiB and 1 GiB into the VM's
    /// counters, before they are shown.
    fn show_mappings(_stats: &Self::VmStats, _mappings: [u64; 3]) {}

    /// Whether the VM has an in-kernel interrupt controller. Without one there are
    /// no irqfds, no routes and no lines.
    fn has_irqchip(_vm: &Vm<A>) -> bool {
        false
    }

    /// Whether irqfds may ask to hear when their interrupt is served: whether all
    /// chips are in the kernel.
    fn may_resample(_vm: &Vm<A>) -> bool {
        false
    }

    /// Parses a route. GSI and flags were checked.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such type, chip, pin, adapter, …
    fn parse_route(_vm: &Vm<A>, _entry: &RoutingEntry) -> Result<Self::Route> {
        Err(EINVAL)
    }

    /// The pin that a route leads to, if it leads to one.
    fn route_pin(_route: &Self::Route) -> Option<Pin> {
        None
    }

    /// Delivers what a source drives on a route; a message is sent when the level
    /// is high. `report` if userspace wants the outcome.
    fn deliver(
        vm: &Vm<A>,
        route: &Self::Route,
        source: Source,
        level: bool,
        report: bool,
    ) -> Delivery;

    /// There are other routes, or others want to hear of served interrupts. May
    /// sleep.
    fn routes_changed(_vm: &Vm<A>) {}

    /// An interrupt of this GSI was served. Called as [`Vm::notify_acked`] is.
    fn acked(_vm: &Vm<A>, _gsi: u32) {}

    /// A guest's write to a device; whether the device takes it. `address` is that
    /// on the bus. No lock is held.
    fn device_write(vm: &Vm<A>, device: Self::Device, address: u64, data: &[u8]) -> bool;

    /// A guest's read from a device; whether the device answers. As above. `off`: interrupts are
    /// known to be off, and spin locks may be taken.
    fn device_read(
        vm: &Vm<A>,
        device: Self::Device,
        address: u64,
        data: &mut [u8],
        off: Option<&IrqOff>,
    ) -> bool;
}

/// The ioctls of a VM that concern its wiring; `None` for all others.
pub(crate) fn vm_ioctl<A: Arch>(
    vm: ArcBorrow<'_, Vm<A>>,
    request: u32,
    arg: usize,
) -> Option<Result<u32>> {
    Some(match request {
        KVM_IOEVENTFD => ioeventfd::set(&vm, arg),
        KVM_IRQFD => irqfd::set(vm, arg),
        KVM_SET_GSI_ROUTING => irq_route::set(&vm, arg),
        KVM_REGISTER_COALESCED_MMIO if coalesced_page::<A>().is_some() => {
            coalesced::register(&vm, arg)
        }
        KVM_UNREGISTER_COALESCED_MMIO if coalesced_page::<A>().is_some() => {
            coalesced::unregister(&vm, arg)
        }
        KVM_CREATE_DEVICE => device::create(vm, arg),
        KVM_GET_STATS_FD => stats::open_vm(&vm),
        _ => return None,
    })
}
