// SPDX-License-Identifier: GPL-2.0
//! The IOAPIC at work.
//!
//! Its messages are delivered under its lock, so that whom they reached is known
//! before the next change of a line.

use super::{chip, mask_changed, rescan, Board};
use crate::{
    apic::send,
    request,
    vendor::{Vendor, X86},
};
use kvm_core::{
    vm::Vm,
    wiring::{Delivery, Pin, Source},
};
use kvm_irqchip::{
    ioapic::{Deliver, EoiOutcome, IoApic, IoApicState, LineOutcome, WriteEffects, WINDOW_LENGTH},
    lapic::Eoi,
    message::{Message, Trigger},
    vectors::VectorSet,
    VcpuIndex,
};
use kvm_sys::{
    irq::{self, IrqOff},
    timer,
};

/// How long a guest that never serves a device has peace of its interrupt, in ns.
const STORM_PAUSE: i64 = 10_000_000;

/// A pin as the routes have it.
const fn place(pin: u8) -> Pin {
    Pin { chip: chip::IOAPIC, pin }
}

/// Delivers what a pin sends; how many vCPUs accepted it.
fn deliver<V: Vendor>(vm: &Vm<X86<V>>, ioapic: &mut IoApic, deliver: &Deliver) -> u32 {
    let vector = deliver.message.vector;
    let accepted = send::message(vm, &deliver.message, |vcpu| {
        if deliver.track_rtc {
            ioapic.rtc_accepted(vcpu, vector);
        }
    });
    ioapic.delivered(deliver, accepted);
    accepted
}

fn finish<V: Vendor>(vm: &Vm<X86<V>>, ioapic: &mut IoApic, outcome: LineOutcome) -> Delivery {
    match outcome {
        LineOutcome::Done(status) => Delivery(status.code()),
        LineOutcome::Deliver(message) => {
            let accepted = deliver(vm, ioapic, &message);
            Delivery(i32::try_from(accepted).unwrap_or(i32::MAX))
        }
    }
}

/// Drives a pin, 0 to 23. From any context.
pub(super) fn set_line<V: Vendor>(
    vm: &Vm<X86<V>>,
    board: &Board<V>,
    pin: u8,
    source: Source,
    level: bool,
    report: bool,
) -> Delivery {
    let mut ioapic = board.ioapic.lock();
    let outcome = ioapic.set_line(pin, source.0, level, report);
    finish(vm, &mut ioapic, outcome)
}

/// A vCPU ended an interrupt whose EOI was asked for.
pub(crate) fn eoi<V: Vendor>(vm: &Vm<X86<V>>, board: &Board<V>, vcpu: VcpuIndex, eoi: &Eoi) {
    let pins = board.ioapic.lock().eoi_pins(vcpu, eoi.vector);
    for pin in pins {
        // Before the line is looked at: who hears of it may lower or raise it.
        vm.notify_acked(place(pin));
        if eoi.trigger != Trigger::Level || !eoi.broadcast {
            continue;
        }
        let mut ioapic = board.ioapic.lock();
        match ioapic.end_of_interrupt(pin) {
            EoiOutcome::None => {}
            EoiOutcome::Deliver(message) => {
                deliver(vm, &mut ioapic, &message);
            }
            EoiOutcome::Later => board.retry.start(timer::now().saturating_add(STORM_PAUSE)),
        }
    }
}

/// Sends what was held back during an interrupt storm.
pub(crate) fn retry<V: Vendor>(vm: &Vm<X86<V>>, board: &Board<V>) {
    let mut ioapic = board.ioapic.lock();
    for pin in ioapic.reinject_pins() {
        if let Some(message) = ioapic.service(pin) {
            deliver(vm, &mut ioapic, &message);
        }
    }
}

/// The register window at an address, if it is there.
fn offset(ioapic: &IoApic, address: u64) -> Option<u64> {
    address.checked_sub(ioapic.base_address()).filter(|offset| *offset < WINDOW_LENGTH)
}

/// A guest's write; whether the registers are at the address.
pub(crate) fn write<V: Vendor>(
    vm: &Vm<X86<V>>,
    board: &Board<V>,
    address: u64,
    data: &[u8],
) -> bool {
    let mut value = [0; 4];
    value.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
    let effects = {
        let mut ioapic = board.ioapic.lock();
        let Some(offset) = offset(&ioapic, address) else { return false };
        ioapic.write(offset, u32::from_le_bytes(value))
    };
    carry_out(vm, board, &effects);
    true
}

fn carry_out<V: Vendor>(vm: &Vm<X86<V>>, board: &Board<V>, effects: &WriteEffects) {
    if let Some((pin, masked)) = effects.mask_changed {
        mask_changed(vm, place(pin), masked);
    }
    if effects.rescan {
        rescan(vm);
    }
    let Some(pin) = effects.pending else { return };
    let ask = vm.has_resampler(place(pin));
    {
        let mut ioapic = board.ioapic.lock();
        if ask {
            ioapic.clear_pending(pin);
        } else if let Some(message) = ioapic.service(pin) {
            deliver(vm, &mut ioapic, &message);
        }
    }
    if ask {
        vm.notify_acked(place(pin));
    }
}

/// A guest's read; whether the registers are at the address.
pub(crate) fn read<V: Vendor>(
    board: &Board<V>,
    address: u64,
    data: &mut [u8],
    off: Option<&IrqOff>,
) -> bool {
    let value = irq::locked(&board.ioapic, off, |ioapic| {
        offset(ioapic, address).map(|offset| ioapic.read(offset))
    });
    let Some(value) = value else { return false };
    let bytes = u64::from(value).to_le_bytes();
    data.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    true
}

/// The vectors whose EOI on a vCPU others wait for. `concerns` says whether a
/// message is for the vCPU.
pub(crate) fn eoi_intercepts<V: Vendor>(
    vm: &Vm<X86<V>>,
    board: &Board<V>,
    vcpu: VcpuIndex,
    concerns: impl FnMut(&Message) -> bool,
) -> VectorSet {
    let reinjects = vm.arch().irqchip().pit().is_some_and(|pit| pit.reinjects());
    let waits =
        |pin| vm.has_resampler(place(pin)) || reinjects && super::is_pit_pin(vm, place(pin));
    board.ioapic.lock().eoi_intercepts(vcpu, waits, concerns)
}

/// The state.
pub(super) fn save<V: Vendor>(board: &Board<V>) -> IoApicState {
    board.ioapic.lock().save()
}

/// Sets the state.
pub(super) fn load<V: Vendor>(vm: &Vm<X86<V>>, board: &Board<V>, state: &IoApicState) {
    {
        let mut ioapic = board.ioapic.lock();
        for pin in ioapic.load(state) {
            let outcome = ioapic.resume_pin(pin);
            let _ = finish(vm, &mut ioapic, outcome);
        }
    }
    vm.vcpus().iter().for_each(|vcpu| vcpu.requests.set(request::RTC_STATUS));
    rescan(vm);
}

/// What the RTC's pin sends.
pub(crate) fn rtc_message<V: Vendor>(board: &Board<V>) -> Option<Message> {
    board.ioapic.lock().rtc_message()
}

/// A vCPU has the RTC's interrupt, in a state that was loaded.
pub(crate) fn rtc_accepted<V: Vendor>(board: &Board<V>, vcpu: VcpuIndex, vector: u8) {
    board.ioapic.lock().rtc_accepted(vcpu, vector);
}
