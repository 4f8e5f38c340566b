// SPDX-License-Identifier: GPL-2.0
//! The host's tables refused an access of the guest.

use crate::{
    guest, inject, pfault,
    state::{Cx, Next},
};
use kernel::{error::Result, pr_warn_once, prelude::*};
use kvm_core::memory::Fault;
use kvm_paging::{addr::Gpa, entry::Access};
use kvm_sys::s390::HostFault;
use s390_arch::{
    insn,
    program::{code, Program},
};

/// Segment, page, ASCE type and the three region translation exceptions.
const TRANSLATION: [u16; 6] = [0x10, 0x11, 0x38, 0x39, 0x3a, 0x3b];

/// Maps the page, or tells the guest that there is none.
pub(super) fn handle(cx: &mut Cx<'_>, fault: HostFault) -> Result<Next> {
    cx.vcpu.stats().arch.exit_host_fault.add(1);
    if fault.code != code::PROTECTION && !TRANSLATION.contains(&fault.code) {
        pr_warn_once!("unexpected host fault {:#x} at {:#x}\n", fault.code, fault.teid);
        return Err(EFAULT);
    }
    let mut access = Access::READ;
    access.set(Access::WRITE, fault.is_write());
    let vm = cx.vm;
    let (memory, at) = (vm.memory(), Gpa::new(fault.page()));
    let mut found = if pfault::may_delay(cx) {
        memory.quick_fault(&mut cx.state.memory, at, access)?
    } else {
        memory.fault(&mut cx.state.memory, at, access)?
    };
    if let Fault::Slow(address) = found {
        if let Some(next) = pfault::begin(cx, address) {
            return Ok(next);
        }
        found = memory.fault(&mut cx.state.memory, at, access)?;
    }
    match found {
        Fault::Mapped | Fault::Spurious | Fault::Retry | Fault::Slow(_) => Ok(Next::Resume),
        Fault::Mmio => addressing(cx),
        // There are no read-only slots.
        Fault::ReadOnly => Err(EFAULT),
    }
}

/// There is no memory. The exception suppresses or terminates, so the PSW has to
/// be moved past the instruction, which the host's fault left where it was.
fn addressing(cx: &mut Cx<'_>) -> Result<Next> {
    let mut first = [0];
    let address = cx.state.block.psw.address;
    let length = match guest::read(cx, address, 0, &mut first) {
        Ok(()) => {
            let [first] = first;
            insn::length(first)
        }
        // The instruction itself isn't there: any length will do.
        Err(guest::Missed::Program(program)) => {
            let program = Program { length: 4, rewind: program.is_nullifying(), ..program };
            cx.state.block.psw.step(4);
            return Ok(inject::post(cx, program));
        }
        Err(guest::Missed::Host(error)) => return Err(error),
    };
    cx.state.block.psw.step(length.into());
    Ok(inject::post(cx, Program { length, ..Program::new(code::ADDRESSING) }))
}
