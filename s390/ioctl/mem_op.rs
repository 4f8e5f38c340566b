// SPDX-License-Identifier: GPL-2.0
//! `KVM_S390_MEM_OP`: guest memory by logical and absolute addresses, for
//! userspace. There is no checking of storage keys.

use crate::{
    guest::{self, Missed, Purpose},
    inject,
    sie::Sie,
    state::Cx,
};
use kernel::{
    alloc::{allocator::KVmalloc, Vec},
    prelude::*,
};
use kvm_core::{memory::Kind, vm::Vm};
use kvm_paging::addr::Gpa;
use kvm_sys::user;
use kvm_uapi::s390::MemOp;

/// Most bytes of one.
pub(crate) const MOST: u32 = 65536;

/// Only tell whether it would work.
const CHECK_ONLY: u64 = 1;
/// The guest gets the program interruption that userspace is told of.
const INJECT: u64 = 2;

const LOGICAL_READ: u32 = 0;
const LOGICAL_WRITE: u32 = 1;
const ABSOLUTE_READ: u32 = 4;
const ABSOLUTE_WRITE: u32 = 5;

/// Flags and size.
fn check(op: &MemOp, flags: u64) -> Result {
    if op.flags & !flags != 0 || op.size == 0 {
        return Err(EINVAL);
    }
    if op.size > MOST {
        return Err(E2BIG);
    }
    Ok(())
}

fn buffer(op: &MemOp) -> Result<Vec<u8, KVmalloc>> {
    Ok(Vec::from_elem(0, op.size as usize, GFP_KERNEL_ACCOUNT)?)
}

/// On a vCPU. The answer is 0, or the code of the program interruption that the
/// guest's own access would make.
pub(super) fn vcpu(cx: &mut Cx<'_>, arg: usize) -> Result<u32> {
    let op: MemOp = user::read(arg)?;
    if !matches!(op.op, LOGICAL_READ | LOGICAL_WRITE) {
        return Err(EINVAL);
    }
    check(&op, CHECK_ONLY | INJECT)?;
    let [access_register, ..] = op.__bindgen_anon_1;
    if access_register >= 16 {
        return Err(EINVAL);
    }
    let Err(missed) = logical(cx, &op, access_register) else { return Ok(0) };
    let program = match missed {
        Missed::Program(program) => program,
        Missed::Host(error) => return Err(error),
    };
    if op.flags & INJECT != 0 {
        let _ = inject::post(cx, program);
        cx.vcpu.shared().tell();
    }
    Ok(program.code.into())
}

fn logical(cx: &Cx<'_>, op: &MemOp, access_register: u8) -> Result<(), Missed> {
    let at = op.buf as usize;
    let is_read = op.op == LOGICAL_READ;
    if op.flags & CHECK_ONLY != 0 {
        let purpose = if is_read { Purpose::Fetch } else { Purpose::Store };
        return guest::check(cx, op.gaddr, access_register, op.size as usize, purpose);
    }
    let mut bytes = buffer(op)?;
    if is_read {
        guest::read(cx, op.gaddr, access_register, &mut bytes)?;
        user::write_bytes(at, &bytes)?;
    } else {
        user::read_bytes(at, &mut bytes)?;
        guest::write(cx, op.gaddr, access_register, &bytes)?;
    }
    Ok(())
}

/// On a VM, by absolute address.
pub(super) fn vm(vm: &Vm<Sie>, arg: usize) -> Result<u32> {
    /// Addressing.
    const ADDRESSING: u32 = s390_arch::program::code::ADDRESSING as u32;
    let op: MemOp = user::read(arg)?;
    if !matches!(op.op, ABSOLUTE_READ | ABSOLUTE_WRITE) {
        return Err(EINVAL);
    }
    check(&op, CHECK_ONLY)?;
    let memory = vm.memory();
    let Some(end) = op.gaddr.checked_add(op.size.into()) else { return Ok(ADDRESSING) };
    let mut page = op.gaddr & !0xfff;
    while page < end {
        if memory.kind(Gpa::new(page)) == Kind::Device {
            return Ok(ADDRESSING);
        }
        page = page.saturating_add(0x1000);
    }
    if op.flags & CHECK_ONLY != 0 {
        return Ok(0);
    }
    let mut bytes = buffer(&op)?;
    if op.op == ABSOLUTE_READ {
        memory.read(Gpa::new(op.gaddr), &mut bytes)?;
        user::write_bytes(op.buf as usize, &bytes)?;
    } else {
        user::read_bytes(op.buf as usize, &mut bytes)?;
        memory.write(Gpa::new(op.gaddr), &bytes)?;
    }
    Ok(0)
}
