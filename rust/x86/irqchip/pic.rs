// SPDX-License-Identifier: GPL-2.0
//! The two 8259A at work.

use super::{chip, mask_changed, Board};
use crate::{
    apic::send,
    shared::Published,
    vendor::{Vendor, X86},
};
use kvm_core::{
    vm::Vm,
    wiring::{Delivery, Pin, Source},
};
use kvm_irqchip::{
    lapic::Events,
    pic::{ChipId, Effects, Pic, PicState, Port},
};
use kvm_sys::{
    irq::{self, IrqOff},
    plain::Plain,
};

/// Has the devices do something, and does what they ask for. `off` as for [`irq::locked`].
#[inline]
fn with<V: Vendor, R>(
    vm: &Vm<X86<V>>,
    board: &Board<V>,
    off: Option<&IrqOff>,
    operate: impl FnOnce(&mut Pic) -> (R, Effects),
) -> R {
    let (result, effects) = irq::locked(&board.pic, off, |pic| {
        let done = operate(pic);
        board.pic_output.put_release(pic.output());
        done
    });
    if !effects.is_empty() {
        carry_out(vm, board, effects);
    }
    result
}

fn carry_out<V: Vendor>(vm: &Vm<X86<V>>, board: &Board<V>, effects: Effects) {
    let acceptor = || send::first(vm, Published::ACCEPTS_PIC);
    if effects.raised {
        if let Some(vcpu) = acceptor() {
            let _ = vcpu.shared().mailbox().post_events(Events::EXTINT);
        }
    }
    if effects == (Effects { raised: effects.raised, ..Effects::default() }) {
        return;
    }
    effects.ended.for_each(|pin| vm.notify_acked(place(pin)));
    if effects.dropped.0 != 0 && acceptor().is_some() {
        effects.dropped.for_each(|pin| vm.notify_acked(place(pin)));
    }
    for pin in effects.mask_changed {
        let masked = board.pic.lock().is_masked(pin);
        mask_changed(vm, place(pin), masked);
    }
}

/// An input as the routes have it.
fn place(pin: u8) -> Pin {
    Pin { chip: if pin < 8 { chip::PIC_FIRST } else { chip::PIC_SECOND }, pin }
}

/// Drives an input, 0 to 15. From any context.
pub(super) fn set_line<V: Vendor>(
    vm: &Vm<X86<V>>,
    board: &Board<V>,
    pin: u8,
    source: Source,
    level: bool,
) -> Delivery {
    let status = with(vm, board, None, |pic| pic.set_line(pin, source.0, level));
    Delivery(status.code())
}

/// A vCPU takes the interrupt: its vector, if it is still there.
pub(crate) fn acknowledge<V: Vendor>(vm: &Vm<X86<V>>, board: &Board<V>) -> Option<u8> {
    with(vm, board, None, |pic| {
        if !pic.output() {
            return (None, Effects::default());
        }
        let (vector, effects) = pic.acknowledge();
        (Some(vector), effects)
    })
}

/// A guest's write to a port. Others than of one byte are ignored.
pub(crate) fn write<V: Vendor>(vm: &Vm<X86<V>>, board: &Board<V>, port: u16, data: &[u8]) {
    if let (Some(port), [value]) = (Port::decode(port), data) {
        with(vm, board, None, |pic| ((), pic.write(port, *value)));
    }
}

/// A guest's read of a port. Others than of one byte read zero.
pub(crate) fn read<V: Vendor>(
    vm: &Vm<X86<V>>,
    board: &Board<V>,
    port: u16,
    data: &mut [u8],
    off: Option<&IrqOff>,
) {
    match (Port::decode(port), data) {
        (Some(port), [value]) => *value = with(vm, board, off, |pic| pic.read(port)),
        (_, data) => data.fill(0),
    }
}

/// The state of one of the two.
pub(super) fn save<V: Vendor>(board: &Board<V>, id: ChipId) -> PicState {
    board.pic.lock().save(id)
}

/// Sets the state of one of the two.
pub(super) fn load<V: Vendor>(vm: &Vm<X86<V>>, board: &Board<V>, id: ChipId, state: &PicState) {
    with(vm, board, None, |pic| ((), pic.load(id, state)));
}
