// SPDX-License-Identifier: GPL-2.0
//! The interrupt controllers of a VM: which of them are in the kernel, and their
//! state.
//!
//! - `board`: the two 8259A and the IOAPIC under their locks.
//! - `pic`, `ioapic`, `pit`: one device each, at work.
//! - `route`: interrupt routes, and what is delivered by them.
//! - `alarm`: a host timer that a vCPU's thread serves.
//! - `abi`: the devices' states as userspace has them.
//!
//! A VM has none of them, the local APICs alone (a *split* irqchip), or all. That
//! is decided before the first vCPU and never changes.
//!
//! Locks, none of which is held while another one is taken: one for each device,
//! all of them spinlocks with interrupts off, since interrupts are delivered from
//! any context. Under them messages are left with vCPUs and host timers set, which
//! takes locks of the scheduler and of timers. Those who wait for the end of an
//! interrupt are told while none is held, because they raise and lower lines.

pub(crate) mod abi;
mod alarm;
mod board;
pub(crate) mod ioapic;
pub(crate) mod pic;
pub(crate) mod pit;
pub(crate) mod route;

pub(crate) use board::Board;

use crate::{
    apic::map::Map,
    params, request,
    vendor::{Vendor, X86},
    wiring::Device,
};
use kernel::{
    error::Result,
    prelude::*,
    sync::atomic::{Atomic, Relaxed, Release},
};
use kvm_core::{io_bus::Space, vcpu::Vcpu, vm::Vm, wiring};
use kvm_irqchip::{
    ioapic::{DEFAULT_ADDRESS, WINDOW_LENGTH},
    lapic::{DestRules, DirectedEoi, TimerConfig},
    msi::DestFormat,
};
use kvm_sys::{once_box::OnceBox, plain::Plain, rcu_cell::RcuCell};
use pit::PitDevice;

/// Which controllers are in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// None.
    None,
    /// The local APICs.
    Split,
    /// All.
    Kernel,
}

/// Chip numbers of the ABI (`KVM_IRQCHIP_*`).
pub(crate) mod chip {
    pub(crate) const PIC_FIRST: u8 = 0;
    pub(crate) const PIC_SECOND: u8 = 1;
    pub(crate) const IOAPIC: u8 = 2;
}

/// Flags of `KVM_CAP_X2APIC_API`.
pub(crate) mod x2apic_api {
    pub(crate) const USE_32BIT_IDS: u64 = 1;
    pub(crate) const DISABLE_BROADCAST_QUIRK: u64 = 1 << 1;
    pub(crate) const ENABLE_SUPPRESS_EOI_BROADCAST: u64 = 1 << 2;
    pub(crate) const DISABLE_SUPPRESS_EOI_BROADCAST: u64 = 1 << 3;
    pub(crate) const ALL: u64 = 0xf;
}

/// Length of a bus cycle that the local APICs' timers count, in ns, unless userspace
/// wants another.
pub(crate) const BUS_CYCLE_NS: u32 = 1;

/// Shortest period of a guest's timers, in ns.
fn min_period_ns() -> u64 {
    u64::from(params::MIN_TIMER_PERIOD_US.get()).saturating_mul(1000)
}

/// The interrupt controllers of a VM.
#[pin_data]
pub(crate) struct Irqchip<V: Vendor> {
    /// A [`Mode`].
    mode: Atomic<u32>,
    /// GSIs that are pins of userspace's IOAPIC.
    reserved_gsis: Atomic<u32>,
    /// Flags of `KVM_CAP_X2APIC_API`.
    x2apic_api: Atomic<u64>,
    /// Length of a bus cycle that the local APICs' timers count, in ns.
    bus_cycle_ns: Atomic<u32>,
    /// Local APICs by destination; none before the first vCPU.
    #[pin]
    pub(crate) map: RcuCell<Map>,
    board: OnceBox<Board<V>>,
    pit: OnceBox<PitDevice<V>>,
}

impl<V: Vendor> Irqchip<V> {
    /// No controllers.
    ///
    /// # Errors
    ///
    /// None.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            mode: Atomic::new(Mode::None as u32),
            reserved_gsis: Atomic::new(0),
            x2apic_api: Atomic::new(0),
            bus_cycle_ns: Atomic::new(BUS_CYCLE_NS),
            map <- RcuCell::new(),
            board: OnceBox::new(),
            pit: OnceBox::new(),
        })
    }

    /// Which controllers are in the kernel.
    #[inline]
    pub(crate) fn mode(&self) -> Mode {
        const SPLIT: u32 = Mode::Split as u32;
        const KERNEL: u32 = Mode::Kernel as u32;
        match self.mode.get_acquire() {
            SPLIT => Mode::Split,
            KERNEL => Mode::Kernel,
            _ => Mode::None,
        }
    }

    /// The 8259A and the IOAPIC, if they are in the kernel.
    #[inline]
    pub(crate) fn board(&self) -> Option<&Board<V>> {
        if self.mode() != Mode::Kernel {
            return None;
        }
        self.board.get()
    }

    /// The 8254, if the VM has one in the kernel.
    #[inline]
    pub(crate) fn pit(&self) -> Option<&PitDevice<V>> {
        self.pit.get()
    }

    /// GSIs that are pins of userspace's IOAPIC.
    pub(crate) fn reserved_gsis(&self) -> u32 {
        self.reserved_gsis.load(Relaxed)
    }

    fn has_flag(&self, flag: u64) -> bool {
        self.x2apic_api.load(Relaxed) & flag != 0
    }

    /// Whether APIC IDs have 32 bits wherever userspace sees them.
    #[inline]
    pub(crate) fn wide_ids(&self) -> bool {
        self.has_flag(x2apic_api::USE_32BIT_IDS)
    }

    /// How destinations are read.
    #[inline]
    pub(crate) fn dest_rules(&self) -> DestRules {
        DestRules {
            wide_ids: self.wide_ids(),
            no_broadcast_quirk: self.has_flag(x2apic_api::DISABLE_BROADCAST_QUIRK),
        }
    }

    /// Where the destination is in a message-signalled interrupt's address.
    #[inline]
    pub(crate) fn message_format(&self) -> DestFormat {
        if self.wide_ids() {
            DestFormat::X2Apic
        } else {
            DestFormat::Compat
        }
    }

    /// What local APICs say of suppressing EOI broadcasts. The IOAPIC in the kernel
    /// has no EOI register, so a guest couldn't do without broadcasts.
    pub(crate) fn directed_eoi(&self) -> DirectedEoi {
        if self.mode() != Mode::Split || self.has_flag(x2apic_api::DISABLE_SUPPRESS_EOI_BROADCAST) {
            DirectedEoi::Absent
        } else if self.has_flag(x2apic_api::ENABLE_SUPPRESS_EOI_BROADCAST) {
            DirectedEoi::Obeyed
        } else {
            DirectedEoi::Ignored
        }
    }

    /// The clock of the local APICs' timers.
    pub(crate) fn timer_config(&self) -> TimerConfig {
        TimerConfig {
            bus_cycle_ns: self.bus_cycle_ns.load(Relaxed),
            min_period_ns: min_period_ns(),
        }
    }

    /// Flags of `KVM_CAP_X2APIC_API` that the VM can have.
    pub(crate) fn x2apic_flags(&self) -> u64 {
        match self.mode() {
            Mode::Split => x2apic_api::ALL,
            _ => x2apic_api::ALL & !x2apic_api::ENABLE_SUPPRESS_EOI_BROADCAST,
        }
    }
}

/// Devices on the buses, with their places.
const DEVICES: [(Space, u64, u64, Device); 4] = [
    (Space::Pio, 0x20, 2, Device::Pic),
    (Space::Pio, 0xa0, 2, Device::Pic),
    (Space::Pio, 0x4d0, 2, Device::Pic),
    (Space::Mmio, DEFAULT_ADDRESS, WINDOW_LENGTH, Device::IoApic),
];

/// `KVM_CREATE_IRQCHIP`: all controllers.
///
/// # Errors
///
/// `EEXIST` if the VM has some already; `EINVAL` once there are vCPUs; `ENOMEM`.
pub(crate) fn create<V: Vendor>(vm: &Vm<X86<V>>) -> Result {
    vm.with_creation_locked(|| {
        let irqchip = vm.arch().irqchip();
        if irqchip.mode() != Mode::None {
            return Err(EEXIST);
        }
        if vm.vcpus().count() != 0 {
            return Err(EINVAL);
        }
        if irqchip.board.get().is_none() {
            irqchip.board.populate(KBox::pin_init(Board::new(), GFP_KERNEL_ACCOUNT)?);
        }
        add_devices(vm, &DEVICES)?;
        route::set_default(vm).inspect_err(|_| remove_devices(vm, &DEVICES))?;
        irqchip.mode.store(Mode::Kernel as u32, Release);
        Ok(())
    })
}

/// Puts devices on their buses, all or none.
fn add_devices<V: Vendor>(vm: &Vm<X86<V>>, devices: &[(Space, u64, u64, Device)]) -> Result {
    devices.iter().try_for_each(|(space, start, length, device)| {
        vm.io()
            .add_device(*space, *start, *length, *device)
            .inspect_err(|_| remove_devices(vm, devices))
    })
}

fn remove_devices<V: Vendor>(vm: &Vm<X86<V>>, devices: &[(Space, u64, u64, Device)]) {
    for (space, _, _, device) in devices {
        // Without memory for that they stay, and don't answer.
        let _ = vm.io().remove_device(*space, *device);
    }
}

/// `KVM_CAP_SPLIT_IRQCHIP`: local APICs, and so many GSIs for pins of userspace's
/// IOAPIC.
///
/// # Errors
///
/// `EINVAL` for too many GSIs; `EEXIST` if the VM has controllers or vCPUs already.
pub(crate) fn split<V: Vendor>(vm: &Vm<X86<V>>, gsis: u64) -> Result {
    let gsis = u32::try_from(gsis).ok().filter(|gsis| *gsis <= route::MAX_GSIS).ok_or(EINVAL)?;
    vm.with_creation_locked(|| {
        let irqchip = vm.arch().irqchip();
        if irqchip.mode() != Mode::None || vm.vcpus().count() != 0 {
            return Err(EEXIST);
        }
        irqchip.reserved_gsis.store(gsis, Relaxed);
        irqchip.mode.store(Mode::Split as u32, Release);
        Ok(())
    })
}

/// `KVM_CAP_X2APIC_API`: how wide IDs are, and what suppressing EOI broadcasts
/// does.
///
/// # Errors
///
/// `EINVAL` for flags that there aren't, that contradict each other, or that need a
/// split irqchip.
pub(crate) fn set_x2apic_api<V: Vendor>(vm: &Vm<X86<V>>, flags: u64) -> Result {
    use x2apic_api::{DISABLE_SUPPRESS_EOI_BROADCAST, ENABLE_SUPPRESS_EOI_BROADCAST};
    const BOTH: u64 = ENABLE_SUPPRESS_EOI_BROADCAST | DISABLE_SUPPRESS_EOI_BROADCAST;
    let irqchip = vm.arch().irqchip();
    if flags & !irqchip.x2apic_flags() != 0 || flags & BOTH == BOTH {
        return Err(EINVAL);
    }
    vm.with_creation_locked(|| {
        let kept = if flags & BOTH == 0 { !0 } else { !BOTH };
        let old = irqchip.x2apic_api.load(Relaxed);
        irqchip.x2apic_api.store(old & kept | flags, Relaxed);
        Ok(())
    })?;
    crate::apic::map::rebuild(vm)
}

/// `KVM_CAP_X86_APIC_BUS_CYCLES_NS`: the length of a bus cycle.
///
/// # Errors
///
/// `EINVAL` for a length with which the longest count overflows, or once there are
/// vCPUs; `ENXIO` without local APICs in the kernel.
pub(crate) fn set_bus_cycle<V: Vendor>(vm: &Vm<X86<V>>, ns: u64) -> Result {
    // The longest count is 128 times 2^32 - 1 cycles.
    const LONGEST: u64 = 0xffff_ffff << 7;
    if ns == 0 || LONGEST.checked_mul(ns).is_none() {
        return Err(EINVAL);
    }
    let ns = u32::try_from(ns).map_err(|_| EINVAL)?;
    vm.with_creation_locked(|| {
        let irqchip = vm.arch().irqchip();
        if irqchip.mode() == Mode::None {
            return Err(ENXIO);
        }
        if vm.vcpus().count() != 0 {
            return Err(EINVAL);
        }
        irqchip.bus_cycle_ns.store(ns, Relaxed);
        Ok(())
    })
}

/// A vCPU is in the VM's table now.
pub(crate) fn vcpu_added<V: Vendor>(vm: &Vm<X86<V>>, vcpu: &Vcpu<X86<V>>) {
    let irqchip = vm.arch().irqchip();
    if irqchip.mode() == Mode::None {
        return;
    }
    crate::apic::map::update(vm, vcpu);
    if vcpu.index() == 0 {
        if let Some(first) = vm.vcpus().get(0) {
            if let Some(board) = irqchip.board() {
                board.retry.set_server(first);
            }
            if let Some(pit) = irqchip.pit() {
                pit.timer.set_server(first);
            }
        }
    }
}

/// Every vCPU is to find out anew whose EOIs others wait for: it does so before it
/// takes another interrupt. From any context.
pub(crate) fn rescan<V: Vendor>(vm: &Vm<X86<V>>) {
    if vm.arch().irqchip().mode() != Mode::None {
        vm.vcpus().iter().for_each(|vcpu| vcpu.requests.set(request::SCAN_EOI));
    }
}

/// Whether a pin is that of the 8254, GSI 0.
fn is_pit_pin<V: Vendor>(vm: &Vm<X86<V>>, pin: wiring::Pin) -> bool {
    let mut found = false;
    vm.for_each_route(0..1, |_, route| found |= route::pin_of(route) == Some(pin));
    found
}

/// A pin was masked or unmasked: ticks that came while the 8254's was masked don't
/// count.
fn mask_changed<V: Vendor>(vm: &Vm<X86<V>>, pin: wiring::Pin, masked: bool) {
    if let Some(pit) = vm.arch().irqchip().pit() {
        if !masked && is_pit_pin(vm, pin) {
            pit.unmasked();
        }
    }
}
