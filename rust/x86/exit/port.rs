// SPDX-License-Identifier: GPL-2.0
//! IN and OUT.

use crate::{
    control::Control,
    emulate,
    outcome::Next,
    settings::Quirk,
    state::Cx,
    trace,
    userspace::{self, Completion},
    vendor::Vendor,
};
use kernel::error::Result;
use kvm_core::io_bus::Space;
use kvm_sys::irq::IrqOff;

/// The port by which firmware asks for a reset that keeps memory; whoever handles it
/// resets the vCPU and expects the instruction to be over.
const SHORT_RESET: u16 = 0x7e;

/// A port access as the processor reports it.
#[derive(Clone, Copy, Debug)]
pub struct PortAccess {
    /// The port.
    pub port: u16,
    /// 1, 2 or 4 bytes.
    pub size: u8,
    /// IN or INS.
    pub is_in: bool,
    /// INS or OUTS.
    pub is_string: bool,
    /// RIP of the next instruction.
    pub next: u64,
}

/// Handles a port access that exited.
///
/// # Errors
///
/// Those of the emulator, for string instructions.
pub fn handle<V: Vendor>(cx: &mut Cx<'_, V>, access: PortAccess) -> Result<Next> {
    cx.vcpu.stats().arch.io_exits.add(1);
    if access.is_string {
        return emulate::instruction(cx);
    }
    let PortAccess { port, size, next, .. } = access;
    let rip = cx.state.control.rip();
    if !access.is_in {
        trace::port(true, port, size, 1, emulate::accumulator(&cx.state.gprs, size));
    }
    if served_in_kernel(cx, &access) {
        if access.is_in {
            trace::port(false, port, size, 1, emulate::accumulator(&cx.state.gprs, size));
        }
        emulate::advance(cx, next);
        return Ok(Next::Resume);
    }
    if access.is_in {
        return userspace::port_io(
            cx,
            port,
            size,
            None,
            Completion::PortIn { port, size, rip, next },
        );
    }
    let value = emulate::accumulator(&cx.state.gprs, size);
    if port == SHORT_RESET && cx.vm.arch().settings.has_quirk(Quirk::Out7eIncRip) {
        emulate::advance(cx, next);
        return userspace::port_io(cx, port, size, Some(value), Completion::None);
    }
    userspace::port_io(cx, port, size, Some(value), Completion::PortOut { rip, next })
}

/// Handles a port access in any context in which spin locks may be taken, if it is an OUT that
/// an eventfd takes or an IN from a device in the kernel; whether it was.
#[inline(never)]
pub(crate) fn at_once<V: Vendor>(cx: &mut Cx<'_, V>, access: &PortAccess, off: &IrqOff) -> bool {
    let PortAccess { port, size, is_in, is_string, next } = *access;
    if is_string {
        return false;
    }
    let vm = cx.vm;
    let is_served = if is_in {
        let port = port.into();
        read_by(cx, access, |part| vm.io().read_at_once(&vm, Space::Pio, port, part, off))
    } else {
        let value = emulate::accumulator(&cx.state.gprs, size);
        vm.io().signal(Space::Pio, port.into(), value.into(), size, off)
    };
    if is_served {
        cx.vcpu.stats().arch.io_exits.add(1);
        trace::port(!is_in, port, size, 1, emulate::accumulator(&cx.state.gprs, size));
        emulate::advance(cx, next);
    }
    is_served
}

/// Whether a device in the kernel took the access.
fn served_in_kernel<V: Vendor>(cx: &mut Cx<'_, V>, access: &PortAccess) -> bool {
    let vm = cx.vm;
    let port = access.port.into();
    if access.is_in {
        return read_by(cx, access, |part| vm.io().read(&vm, Space::Pio, port, part));
    }
    let bytes = emulate::accumulator(&cx.state.gprs, access.size).to_le_bytes();
    let part = bytes.get(..usize::from(access.size));
    part.is_some_and(|part| vm.io().write(&vm, Space::Pio, port, part))
}

/// An IN that `read` may have an answer to; whether it has.
#[inline]
fn read_by<V: Vendor>(
    cx: &mut Cx<'_, V>,
    access: &PortAccess,
    read: impl FnOnce(&mut [u8]) -> bool,
) -> bool {
    let mut bytes = [0; 4];
    let is_served = bytes.get_mut(..usize::from(access.size)).is_some_and(read);
    if is_served {
        emulate::set_accumulator(&mut cx.state.gprs, access.size, u32::from_le_bytes(bytes));
    }
    is_served
}
