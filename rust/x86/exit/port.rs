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
pub(crate) fn at_once<V: Vendor>(cx: &mut Cx<'_, V>, access: &PortAccess) -> bool {
    let PortAccess { port, size, is_in, is_string, next } = *access;
    if is_string {
        return false;
    }
    let is_served = if is_in {
        served_in_kernel(cx, access)
    } else {
        let value = emulate::accumulator(&cx.state.gprs, size);
        cx.vm.io().signal(Space::Pio, port.into(), value.into(), size)
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
    let vm = &*cx.vm;
    let size = usize::from(access.size);
    let port = u64::from(access.port);
    if access.is_in {
        let mut bytes = [0; 4];
        let Some(part) = bytes.get_mut(..size) else { return false };
        if !vm.io().read(vm, Space::Pio, port, part) {
            return false;
        }
        emulate::set_accumulator(&mut cx.state.gprs, access.size, u32::from_le_bytes(bytes));
        return true;
    }
    let bytes = emulate::accumulator(&cx.state.gprs, access.size).to_le_bytes();
    bytes.get(..size).is_some_and(|part| vm.io().write(vm, Space::Pio, port, part))
}
