// SPDX-License-Identifier: GPL-2.0
//! Plain moves to and from devices, where the processor has said which address they
//! access: carried out without the decoder's tables and the emulator's rules for memory.

use super::{advance, cpu::Processor};
use crate::{
    control::{Control, Gprs},
    outcome::Next,
    state::Cx,
    userspace::{self, Completion},
    vendor::Vendor,
};
use kernel::error::Result;
use kvm_core::memory::Kind;
use kvm_emulate::{
    io::{Fragment, FragmentKind},
    plain::{PlainMove, WINDOW},
    Cpu,
};
use kvm_paging::addr::{Gpa, PAGE_SIZE};
use x86_defs::{Mode, SegReg};
use zerocopy::IntoBytes;

/// Carries out the instruction at RIP, whose access leads to `gpa`; `None` if it is none of
/// those, which leaves everything as it was.
pub(super) fn access<V: Vendor>(cx: &mut Cx<'_, V>, gpa: Gpa) -> Option<Result<Next>> {
    let plain = at_rip(cx)?;
    if !is_whole(cx, &plain, gpa) {
        return None;
    }
    let store = plain.stored(&cx.state.gprs);
    let mut processor = Processor::new(cx);
    if !processor.is_apic_page(gpa) {
        match (processor.memory().kind(gpa), store) {
            (Kind::Device, _) | (Kind::ReadOnly, Some(_)) => {}
            _ => return None,
        }
    }
    let kind = if store.is_some() { FragmentKind::MmioWrite } else { FragmentKind::MmioRead };
    let (addr, len) = (gpa.raw(), plain.size);
    let served = processor.in_kernel(&Fragment { kind, addr, len, data: store.unwrap_or(0) });
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

/// Whether the whole access is at `gpa`, and no part of it in another page.
fn is_whole<V: Vendor>(cx: &Cx<'_, V>, plain: &PlainMove, gpa: Gpa) -> bool {
    let offset = gpa.page_offset();
    if offset != 0 {
        return offset <= PAGE_SIZE.wrapping_sub(plain.size.into());
    }
    // Or it is the second part, which begins with the page.
    let control = &cx.state.control;
    let segment = if plain.is_on_stack() { SegReg::Ss } else { SegReg::Ds };
    let base = if control.segment(SegReg::Cs).l { 0 } else { control.segment(segment).base };
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
    let plain = at_rip(cx)?;
    Some(after(&plain, cx.state.control.rip()))
}

/// RIP behind the instruction.
fn after(plain: &PlainMove, rip: u64) -> u64 {
    rip.wrapping_add(plain.len.into())
}

/// The instruction at RIP, if it is one of those.
fn at_rip<V: Vendor>(cx: &mut Cx<'_, V>) -> Option<PlainMove> {
    let mut processor = Processor::new(cx);
    let long = match processor.mode() {
        Mode::Long64 => true,
        Mode::Prot32 => false,
        _ => return None,
    };
    let fetched = processor.cx.state.control.fetched();
    if fetched.is_empty() {
        let words = processor.fetch_words::<2>()?;
        return PlainMove::decode(words.as_bytes().first_chunk::<WINDOW>()?, long);
    }
    let mut code = [0; WINDOW];
    code.iter_mut().zip(fetched).for_each(|(to, from)| *to = *from);
    let plain = PlainMove::decode(&code, long)?;
    // Not what was made up.
    (usize::from(plain.len) <= fetched.len()).then_some(plain)
}
