// SPDX-License-Identifier: GPL-2.0
//! Exits to userspace through `kvm_run`, and what is done with the answer.

use crate::{
    control::Control, emulate, exit, interrupts, outcome::Next, registers::ANY_PRIORITY, state::Cx,
    trace, vendor::Vendor,
};
use kernel::prelude::*;
use kvm_emulate::plain::PlainMove;
use kvm_sys::{
    shared_page::SharedPage,
    trace::{kvm_mmio, Mmio},
};
use kvm_uapi::run::{self, offset, reason};
use x86_defs::Rflags;
use zerocopy::{Immutable, IntoBytes};

/// What has to be taken in when `KVM_RUN` is called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Nothing.
    None,
    /// IN of so many bytes to RAX; then RIP is `next`, unless userspace changed it.
    PortIn {
        /// From where.
        port: u16,
        /// 1, 2 or 4.
        size: u8,
        /// RIP of the instruction.
        rip: u64,
        /// RIP afterwards.
        next: u64,
    },
    /// OUT; then RIP is `next`, unless userspace changed it.
    PortOut {
        /// RIP of the instruction.
        rip: u64,
        /// RIP afterwards.
        next: u64,
    },
    /// An access to an MSR that was refused.
    Msr {
        /// RDMSR.
        is_read: bool,
        /// RIP of the instruction.
        rip: u64,
    },
    /// The access to a device of a plain move.
    PlainMove {
        /// The move.
        plain: PlainMove,
        /// RIP of the instruction.
        rip: u64,
    },
    /// A fragment of an emulated instruction's accesses.
    Fragment,
}

/// Byte offset of the data of port accesses in the vCPU's mapping: its second
/// page.
const PORT_DATA: u64 = 0x1000;

/// `kvm_run`.
pub(crate) fn run_page<'a, V: Vendor>(cx: &Cx<'a, V>) -> Result<&'a SharedPage> {
    cx.vcpu.page(0).ok_or(EFAULT)
}

fn port_page<'a, V: Vendor>(cx: &Cx<'a, V>) -> Result<&'a SharedPage> {
    cx.vcpu.page(1).ok_or(EFAULT)
}

/// Returns to userspace with a reason that has nothing more to say.
///
/// # Errors
///
/// None in practice: every vCPU has its page.
pub fn exit<V: Vendor>(cx: &Cx<'_, V>, reason: u32) -> Result<Next> {
    run_page(cx)?.write::<u32, { offset::EXIT_REASON }>(reason);
    Ok(Next::ToUser)
}

/// Returns to userspace with a reason and what it says.
///
/// # Errors
///
/// As [`exit`].
pub fn exit_with<V: Vendor, T: IntoBytes + Immutable>(
    cx: &Cx<'_, V>,
    reason: u32,
    payload: T,
) -> Result<Next> {
    run_page(cx)?.write::<T, { offset::EXIT }>(payload);
    exit(cx, reason)
}

/// Hands a port access of one element to userspace.
pub(crate) fn port_io<V: Vendor>(
    cx: &mut Cx<'_, V>,
    port: u16,
    size: u8,
    out: Option<u32>,
    completion: Completion,
) -> Result<Next> {
    let direction = if out.is_some() { run::KVM_EXIT_IO_OUT } else { run::KVM_EXIT_IO_IN };
    port_page(cx)?.write::<u32, 0>(out.unwrap_or(0));
    cx.state.completion = completion;
    let io = run::Io { direction, size, port, count: 1, data_offset: PORT_DATA };
    exit_with(cx, reason::KVM_EXIT_IO, io)
}

/// Hands a port access of several elements to userspace, which are in the page for
/// them already if they are written.
pub(crate) fn port_batch<V: Vendor>(
    cx: &mut Cx<'_, V>,
    port: u16,
    size: u8,
    is_in: bool,
    count: u32,
) -> Result<Next> {
    let direction = if is_in { run::KVM_EXIT_IO_IN } else { run::KVM_EXIT_IO_OUT };
    if is_in {
        clear_port_page(cx, count.wrapping_mul(size.into()))?;
    }
    cx.state.completion = Completion::Fragment;
    let io = run::Io { direction, size, port, count, data_offset: PORT_DATA };
    exit_with(cx, reason::KVM_EXIT_IO, io)
}

/// Userspace that fills in nothing gives zeroes.
fn clear_port_page<V: Vendor>(cx: &Cx<'_, V>, length: u32) -> Result {
    const ZEROES: [u8; 64] = [0; 64];
    let page = port_page(cx)?;
    for at in (0..length as usize).step_by(ZEROES.len()) {
        page.write_bytes(at, &ZEROES);
    }
    Ok(())
}

/// Hands a memory access outside of the slots to userspace.
pub(crate) fn mmio<V: Vendor>(
    cx: &mut Cx<'_, V>,
    address: u64,
    length: u8,
    write: Option<u64>,
    completion: Completion,
) -> Result<Next> {
    kvm_mmio(address, length, write.map_or(Mmio::Unanswered, Mmio::Write));
    cx.vcpu.stats().arch.mmio_exits.add(1);
    cx.state.completion = completion;
    let mmio = run::Mmio {
        phys_addr: address,
        data: write.unwrap_or(0).to_le_bytes(),
        len: length.into(),
        is_write: write.is_some().into(),
        pad: [0; 3],
    };
    exit_with(cx, reason::KVM_EXIT_MMIO, mmio)
}

/// Reports something that can't be handled.
pub fn internal_error<V: Vendor>(cx: &Cx<'_, V>, suberror: u32, values: &[u64]) -> Result<Next> {
    let mut error = run::InternalError { suberror, ndata: 0, data: [0; 16] };
    for (slot, value) in error.data.iter_mut().zip(values) {
        *slot = *value;
        error.ndata = error.ndata.wrapping_add(1);
    }
    exit_with(cx, reason::KVM_EXIT_INTERNAL_ERROR, error)
}

/// Takes in what userspace answered to the last exit, which may finish an
/// instruction.
///
/// # Errors
///
/// Those of the emulator.
pub(crate) fn complete<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    match core::mem::replace(&mut cx.state.completion, Completion::None) {
        Completion::None => {}
        Completion::PortIn { port, size, rip, next } => {
            let data = port_page(cx)?.read::<u32, 0>();
            trace::port(false, port, size, 1, data);
            if cx.state.control.rip() == rip {
                emulate::set_accumulator(&mut cx.state.gprs, size, data);
                emulate::advance(cx, next);
            }
        }
        Completion::PortOut { rip, next } if cx.state.control.rip() == rip => {
            emulate::advance(cx, next);
        }
        Completion::PortOut { .. } => {}
        Completion::Msr { is_read, rip } if cx.state.control.rip() == rip => {
            return exit::msr::answered(cx, is_read);
        }
        Completion::Msr { .. } => {}
        Completion::PlainMove { plain, rip } if cx.state.control.rip() == rip => {
            let mmio: run::Mmio = run_page(cx)?.read::<_, { offset::EXIT }>();
            let data = u64::from_le_bytes(mmio.data);
            if plain.is_load() {
                kvm_mmio(mmio.phys_addr, plain.size, Mmio::Read(data));
            }
            emulate::plain::complete(cx, &plain, data);
        }
        Completion::PlainMove { .. } => {}
        Completion::Fragment => return emulate::complete_fragment(cx),
    }
    Ok(Next::Resume)
}

/// The data of the fragment that userspace was asked for.
pub(crate) fn fragment_data<V: Vendor>(cx: &Cx<'_, V>, is_port: bool) -> Result<u64> {
    if is_port {
        return Ok(port_page(cx)?.read::<u32, 0>().into());
    }
    let mmio: run::Mmio = run_page(cx)?.read::<_, { offset::EXIT }>();
    Ok(u64::from_le_bytes(mmio.data))
}

/// Takes in what userspace may set before each run.
pub(crate) fn accept<V: Vendor>(cx: &mut Cx<'_, V>) -> Result {
    if cx.state.apic.is_none() {
        let run = run_page(cx)?;
        let cr8 = run.read::<u64, { offset::CR8 }>();
        if cr8 > 15 {
            return Err(EINVAL);
        }
        cx.state.control.set_tpr((cr8 as u8) << 4, Some(ANY_PRIORITY));
    }
    if interrupts::window_requested(cx) {
        cx.state.events.check = true;
    }
    Ok(())
}

/// Fills in what every return to userspace says.
pub(crate) fn publish<V: Vendor>(cx: &Cx<'_, V>) -> Result {
    let run = run_page(cx)?;
    let control = &cx.state.control;
    let is_open = control.rflags().contains(Rflags::IF);
    run.write::<u8, { offset::IF_FLAG }>(is_open.into());
    run.write::<u64, { offset::CR8 }>(crate::regs::cr8(cx.state).into());
    run.write::<u64, { offset::APIC_BASE }>(crate::regs::apic_base(cx.state));
    let ready = interrupts::ready_for_injection(cx);
    run.write::<u8, { offset::READY_FOR_INTERRUPT_INJECTION }>(ready.into());
    let flags = if cx.state.smm.is_active() { run::flag::SMM } else { 0 };
    run.write::<u16, { offset::FLAGS }>(flags);
    Ok(())
}
