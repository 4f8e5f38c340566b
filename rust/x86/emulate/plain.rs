// SPDX-License-Identifier: GPL-2.0
//! Plain moves to and from devices, where the processor has said which address they
//! access: carried out without the decoder's tables and the emulator's rules for memory.

use super::{advance, cpu::Processor};
use crate::{
    apic,
    control::{Control, Gprs},
    outcome::Next,
    state::Cx,
    userspace::{self, Completion},
    vendor::Vendor,
};
use kernel::error::Result;
use kvm_core::{
    io_bus::Space,
    memory::{Guest, Kind},
};
use kvm_emulate::{
    io::{Fragment, FragmentKind},
    plain::{PlainMove, WINDOW},
    Cpu,
};
use kvm_paging::addr::{Gpa, PAGE_SIZE};
use kvm_sys::{
    irq::IrqOff,
    trace::{kvm_mmio, Mmio},
};
use x86_defs::{Mode, SegReg};
use zerocopy::IntoBytes;

/// Carries out the instruction at RIP, whose access leads to `gpa`; `None` if it is none of
/// those, which leaves everything as it was.
pub(super) fn access<V: Vendor>(cx: &mut Cx<'_, V>, gpa: Gpa) -> Option<Result<Next>> {
    let plain = at_rip_waiting(cx)?;
    if !is_whole(cx, &plain, gpa) {
        return None;
    }
    let store = plain.stored(&cx.state.gprs);
    let processor = Processor::new(cx);
    if !processor.is_apic_page(gpa) {
        match (processor.memory().kind(gpa), store) {
            (Kind::Device, _) | (Kind::ReadOnly, Some(_)) => {}
            _ => return None,
        }
    }
    let (addr, len) = (gpa.raw(), plain.size);
    let served = in_kernel(cx, addr, &plain, store, None);
    let rip = cx.state.control.rip();
    match served {
        Some(answer) => {
            plain.load(&mut cx.state.gprs, answer);
            advance(cx, after(&plain, rip));
            Some(Ok(Next::Resume))
        }
        None => Some(userspace::mmio(cx, addr, len, store, Completion::PlainMove { plain, rip })),
    }
}

/// The same in any context in which spin locks may be taken, if a device in the kernel or an
/// eventfd serves the access by itself; whether one did. Otherwise everything is as it was.
#[inline]
pub(super) fn access_at_once<V: Vendor>(cx: &mut Cx<'_, V>, gpa: Gpa, off: &IrqOff) -> bool {
    let address = gpa.raw();
    let processor = Processor::new(cx);
    let is_apic = processor.is_apic_page(gpa);
    // Before the instruction is fetched, which is most of the work.
    if !is_apic && !processor.cx.vm.io().is_served_at_once(Space::Mmio, address, off) {
        return false;
    }
    let plain = {
        let guest = processor.guest_atomic();
        if !is_apic && guest.kind(gpa) != Kind::Device {
            return false;
        }
        at_rip(&processor, &guest)
    };
    let Some(plain) = plain else { return false };
    if !is_whole(cx, &plain, gpa) {
        return false;
    }
    let store = plain.stored(&cx.state.gprs);
    let served = match store {
        Some(data) if !is_apic => signal(cx, address, plain.size, data, off).then_some(data),
        _ if is_apic && !apic::is_quick_access(cx.state, address, store.is_some()) => None,
        _ => in_kernel(cx, address, &plain, store, Some(off)),
    };
    let Some(answer) = served else { return false };
    let rip = cx.state.control.rip();
    plain.load(&mut cx.state.gprs, answer);
    advance(cx, after(&plain, rip));
    true
}

/// Has a device in the kernel serve an access. `off`: a read, where interrupts are off and spin
/// locks may be taken.
fn in_kernel<V: Vendor>(
    cx: &mut Cx<'_, V>,
    addr: u64,
    plain: &PlainMove,
    store: Option<u64>,
    off: Option<&IrqOff>,
) -> Option<u64> {
    let kind = if store.is_some() { FragmentKind::MmioWrite } else { FragmentKind::MmioRead };
    let fragment = Fragment { kind, addr, len: plain.size, data: store.unwrap_or(0) };
    Processor::new(cx).in_kernel(&fragment, off)
}

/// Signals the eventfd that takes a write; whether there is one.
fn signal<V: Vendor>(cx: &Cx<'_, V>, address: u64, size: u8, data: u64, off: &IrqOff) -> bool {
    let is_taken = cx.vm.io().signal(Space::Mmio, address, data, size, off);
    if is_taken {
        kvm_mmio(address, size, Mmio::Write(data));
    }
    is_taken
}

/// Whether the whole access is at `gpa`, and no part of it in another page.
fn is_whole<V: Vendor>(cx: &Cx<'_, V>, plain: &PlainMove, gpa: Gpa) -> bool {
    let offset = gpa.page_offset();
    if offset != 0 {
        return offset <= PAGE_SIZE.wrapping_sub(plain.size.into());
    }
    // Or it is the second part, which begins with the page.
    let control = &cx.state.control;
    let segment = if plain.is_on_stack() { SegReg::Ss } else { SegReg::Ds };
    let base = if control.is_64_bit_code() { 0 } else { control.segment(segment).base };
    plain.page_offset(&cx.state.gprs, after(plain, control.rip()), base) == 0
}

/// Userspace has served the access; `data` is what it answered.
pub(crate) fn complete<V: Vendor>(cx: &mut Cx<'_, V>, plain: &PlainMove, data: u64) {
    let rip = cx.state.control.rip();
    let gprs: &mut Gprs = &mut cx.state.gprs;
    plain.load(gprs, data);
    advance(cx, after(plain, rip));
}

/// RIP behind the instruction, if it is one of those.
pub(super) fn next_rip<V: Vendor>(cx: &mut Cx<'_, V>) -> Option<u64> {
    let plain = at_rip_waiting(cx)?;
    Some(after(&plain, cx.state.control.rip()))
}

/// The same in any context.
#[inline]
pub(super) fn next_rip_at_once<V: Vendor>(cx: &mut Cx<'_, V>) -> Option<u64> {
    let processor = Processor::new(cx);
    let plain = at_rip(&processor, &processor.guest_atomic())?;
    Some(after(&plain, cx.state.control.rip()))
}

/// RIP behind the instruction.
fn after(plain: &PlainMove, rip: u64) -> u64 {
    rip.wrapping_add(plain.len.into())
}

/// The instruction at RIP, if it is one of those.
fn at_rip_waiting<V: Vendor>(cx: &mut Cx<'_, V>) -> Option<PlainMove> {
    let processor = Processor::new(cx);
    let guest = processor.guest();
    at_rip(&processor, &guest)
}

/// The same in any context that `guest` is for.
#[inline]
fn at_rip<V: Vendor>(processor: &Processor<'_, '_, V>, guest: &Guest<'_>) -> Option<PlainMove> {
    let long = match processor.mode() {
        Mode::Long64 => true,
        Mode::Prot32 => false,
        _ => return None,
    };
    let fetched = processor.cx.state.control.fetched();
    if fetched.is_empty() {
        let words = processor.fetch_words::<2>(guest)?;
        return PlainMove::decode(words.as_bytes().first_chunk::<WINDOW>()?, long);
    }
    let mut code = [0; WINDOW];
    code.iter_mut().zip(fetched).for_each(|(to, from)| *to = *from);
    let plain = PlainMove::decode(&code, long)?;
    // Not what was made up.
    (usize::from(plain.len) <= fetched.len()).then_some(plain)
}
