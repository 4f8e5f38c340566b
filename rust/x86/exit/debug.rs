// SPDX-License-Identifier: GPL-2.0
//! #DB, #BP and accesses to debug registers.

use crate::{
    control::Control, debug::want, emulate, outcome::Next, state::Cx, userspace, vendor::Vendor,
};
use kernel::error::Result;
use kvm_emulate::Exception;
use kvm_uapi::run::{self, reason};
use x86_defs::{Dr6, SegReg, Vector, DR6_FIXED_1};

/// A debug exception with these causes.
///
/// # Errors
///
/// As [`crate::userspace::exit`].
pub fn handle<V: Vendor>(cx: &mut Cx<'_, V>, causes: Dr6) -> Result<Next> {
    let debug = &cx.state.debug;
    if debug.wants(want::STEPS | want::HARDWARE_BREAKPOINTS) {
        // The guest's own DR6 knows nothing of it.
        debug.load(&mut cx.state.control);
        return tell(cx, Vector::Db, causes.bits());
    }
    const CAUSES: u64 = 0xf | Dr6::BD.bits() | Dr6::BS.bits() | Dr6::BT.bits();
    let mut exception = Exception::new(Vector::Db);
    exception.payload = Some(causes.bits() & CAUSES);
    cx.state.events.raise(exception);
    Ok(Next::Resume)
}

/// INT3, where a debugger wants to see it.
///
/// # Errors
///
/// As [`crate::userspace::exit`].
pub fn breakpoint<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    if cx.state.debug.wants(want::SOFTWARE_BREAKPOINTS) {
        return tell(cx, Vector::Bp, 0);
    }
    cx.state.events.raise(Exception::new(Vector::Bp));
    Ok(Next::Resume)
}

/// A step over an instruction that was executed outside of the guest.
///
/// # Errors
///
/// As [`crate::userspace::exit`].
pub(crate) fn stepped<V: Vendor>(cx: &Cx<'_, V>) -> Result<Next> {
    tell(cx, Vector::Db, DR6_FIXED_1 | Dr6::BS.bits())
}

/// Tells the debugger outside.
fn tell<V: Vendor>(cx: &Cx<'_, V>, exception: Vector, dr6: u64) -> Result<Next> {
    let debug = run::Debug {
        exception: exception as u32,
        pad: 0,
        pc: linear_rip(&cx.state.control),
        dr6,
        dr7: cx.state.debug.dr7_now(),
    };
    userspace::exit_with(cx, reason::KVM_EXIT_DEBUG, debug)
}

/// The linear address of the instruction at RIP.
pub(crate) fn linear_rip<C: Control>(control: &C) -> u64 {
    if control.is_64_bit_code() {
        control.rip()
    } else {
        control.segment(SegReg::Cs).base.wrapping_add(control.rip()) & 0xffff_ffff
    }
}

/// The guest reads or writes a debug register: it seldom stays at one access.
///
/// # Errors
///
/// Those of [`emulate::instruction`].
pub fn access<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    let state = &mut *cx.state;
    if state.debug.open(&mut state.control) {
        // The instruction is executed again, and those that follow.
        return Ok(Next::Resume);
    }
    emulate::instruction(cx)
}
