// SPDX-License-Identifier: GPL-2.0
//! Interrupt routes of x86 VMs.

use super::{chip, ioapic, pic, Mode};
use crate::{
    apic::send,
    vendor::{Vendor, X86},
};
use kernel::{error::Result, prelude::*};
use kvm_core::{
    vm::Vm,
    wiring::{Delivery, Pin, Source},
};
use kvm_irqchip::{ioapic::PINS, message::Message, message::Trigger, msi};
use kvm_sys::x86::trace::kvm_msi_set_irq;
use kvm_uapi::irq::{RoutingEntry, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI};

/// Most GSIs of a VM.
pub(crate) const MAX_GSIS: u32 = 4096;

/// Where a GSI leads.
#[derive(Clone, Copy)]
pub enum Route {
    /// To an input of the two 8259A, 0 to 15.
    Pic(u8),
    /// To a pin of the IOAPIC, 0 to 23.
    IoApic(u8),
    /// To the write of `data` to the address `high:low`.
    Message {
        /// Bits 31:0 of the address.
        low: u32,
        /// Bits 63:32 of the address.
        high: u32,
        /// What is written.
        data: u32,
    },
}

/// The two words that a word of a route was made of.
fn halves(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
}

/// Parses a route.
///
/// # Errors
///
/// `EINVAL` for types, chips and pins that the VM doesn't have, and for addresses
/// that can't be.
pub(crate) fn parse<V: Vendor>(vm: &Vm<X86<V>>, entry: &RoutingEntry) -> Result<Route> {
    let [first, second, ..] = entry.u;
    let irqchip = vm.arch().irqchip();
    match entry.type_ {
        KVM_IRQ_ROUTING_IRQCHIP if irqchip.mode() != Mode::Split => {
            let (chip, pin) = halves(first);
            let pin = u8::try_from(pin).map_err(|_| EINVAL)?;
            match u8::try_from(chip).map_err(|_| EINVAL)? {
                chip::PIC_FIRST if pin < 8 => Ok(Route::Pic(pin)),
                chip::PIC_SECOND if pin < 8 => Ok(Route::Pic(pin | 8)),
                chip::IOAPIC if usize::from(pin) < PINS => Ok(Route::IoApic(pin)),
                _ => Err(EINVAL),
            }
        }
        KVM_IRQ_ROUTING_MSI => {
            let (low, high) = halves(first);
            let (data, _) = halves(second);
            // Only for the check: how the destination is read may change yet.
            msi::decode(low, high, data, irqchip.message_format()).map_err(|_| EINVAL)?;
            Ok(Route::Message { low, high, data })
        }
        _ => Err(EINVAL),
    }
}

/// The pin that a route leads to, if it leads to one.
pub(crate) fn pin_of(route: &Route) -> Option<Pin> {
    match *route {
        Route::Pic(pin) if pin < 8 => Some(Pin { chip: chip::PIC_FIRST, pin }),
        Route::Pic(pin) => Some(Pin { chip: chip::PIC_SECOND, pin }),
        Route::IoApic(pin) => Some(Pin { chip: chip::IOAPIC, pin }),
        Route::Message { .. } => None,
    }
}

/// The message of a route, if it leads to one.
pub(crate) fn message_of<V: Vendor>(vm: &Vm<X86<V>>, route: &Route) -> Option<Message> {
    match *route {
        Route::Message { low, high, data } => {
            msi::decode(low, high, data, vm.arch().irqchip().message_format()).ok()
        }
        _ => None,
    }
}

/// A message is sent: tells who traces.
#[inline(always)]
fn trace_message(route: &Route) {
    if let Route::Message { low, high, data } = *route {
        kvm_msi_set_irq(|| (u64::from(high) << 32 | u64::from(low), data.into()));
    }
}

/// Delivers what a source drives on a route. From any context.
pub(crate) fn deliver<V: Vendor>(
    vm: &Vm<X86<V>>,
    route: &Route,
    source: Source,
    level: bool,
    report: bool,
) -> Delivery {
    match *route {
        Route::Message { .. } => {
            let Some(message) = message_of(vm, route).filter(|_| level) else {
                return Delivery::IGNORED;
            };
            trace_message(route);
            let accepted = send::message(vm, &message, |_| {});
            Delivery(i32::try_from(accepted).unwrap_or(i32::MAX))
        }
        Route::Pic(pin) => match vm.arch().irqchip().board() {
            Some(board) => pic::set_line(vm, board, pin, source, level),
            None => Delivery::IGNORED,
        },
        Route::IoApic(pin) => match vm.arch().irqchip().board() {
            Some(board) => ioapic::set_line(vm, board, pin, source, level, report),
            None => Delivery::IGNORED,
        },
    }
}

/// Shows the level-triggered messages among the GSIs that are pins of userspace's
/// IOAPIC. `show` must not sleep.
pub(crate) fn for_each_level<V: Vendor>(vm: &Vm<X86<V>>, mut show: impl FnMut(&Message)) {
    let gsis = vm.arch().irqchip().reserved_gsis();
    vm.for_each_route(0..gsis, |_, route| {
        let message = message_of(vm, route);
        if let Some(message) = message.filter(|message| message.trigger == Trigger::Level) {
            show(&message);
        }
    });
}

/// The routes of a new VM: GSIs 0 to 23 are the pins of the IOAPIC, 0 to 15 the
/// inputs of the 8259A as well.
///
/// # Errors
///
/// `ENOMEM`.
pub(super) fn set_default<V: Vendor>(vm: &Vm<X86<V>>) -> Result {
    let route = |gsi: u8, chip: u8, pin: u8| {
        let ([a, b, c, d], [e, f, g, h]) =
            (u32::from(chip).to_ne_bytes(), u32::from(pin).to_ne_bytes());
        RoutingEntry {
            gsi: gsi.into(),
            type_: KVM_IRQ_ROUTING_IRQCHIP,
            flags: 0,
            pad: 0,
            u: [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), 0, 0, 0],
        }
    };
    let mut entries = KVec::with_capacity(40, GFP_KERNEL)?;
    for gsi in 0..24 {
        entries.push(route(gsi, chip::IOAPIC, gsi), GFP_KERNEL)?;
        if gsi < 16 {
            entries.push(route(gsi, gsi >> 3, gsi & 7), GFP_KERNEL)?;
        }
    }
    vm.set_routes(&entries)
}
