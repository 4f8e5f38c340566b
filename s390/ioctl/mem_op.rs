// SPDX-License-Identifier: GPL-2.0
//! `KVM_S390_MEM_OP`: guest memory by logical and absolute addresses, for userspace,
//! with the checks that the guest's own accesses undergo.

use crate::{
    guest::{self, Missed, Purpose},
    inject, key,
    sie::Sie,
    state::Cx,
};
use kernel::{
    alloc::{allocator::KVmalloc, Vec},
    prelude::*,
};
use kvm_core::{memory::Kind, vm::Vm};
use kvm_paging::addr::Gpa;
use kvm_sys::{s390, user};
use kvm_uapi::s390::MemOp;
use s390_arch::program::code;

/// Most bytes of one.
pub(crate) const MOST: u32 = 65536;
/// What `KVM_CAP_S390_MEM_OP_EXTENSION` says: access keys, and compare and exchange.
pub(crate) const EXTENSIONS: u32 = 1 | 2;

/// Only tell whether it would work.
const CHECK_ONLY: u64 = 1;
/// The guest gets the program interruption that userspace is told of.
const INJECT: u64 = 2;
/// Storage keys count.
const KEYS: u64 = 4;

const LOGICAL_READ: u32 = 0;
const LOGICAL_WRITE: u32 = 1;
const ABSOLUTE_READ: u32 = 4;
const ABSOLUTE_WRITE: u32 = 5;
const ABSOLUTE_EXCHANGE: u32 = 6;

/// The part of a request that depends on what it is.
struct Detail {
    access_register: u8,
    /// Access key, 0 if keys don't count.
    key: u8,
    /// Where the old value of an exchange is.
    old: u64,
}

/// Flags and size.
fn check(op: &MemOp, flags: u64) -> Result<Detail> {
    if op.flags & !flags != 0 || op.size == 0 {
        return Err(EINVAL);
    }
    if op.size > MOST {
        return Err(E2BIG);
    }
    let [access_register, key, _, _, _, _, _, _, a, b, c, d, e, f, g, h, ..] = op.__bindgen_anon_1;
    let key = if op.flags & KEYS != 0 { key } else { 0 };
    if key > 15 {
        return Err(EINVAL);
    }
    Ok(Detail { access_register, key, old: u64::from_ne_bytes([a, b, c, d, e, f, g, h]) })
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
    let detail = check(&op, CHECK_ONLY | INJECT | KEYS)?;
    if detail.access_register >= 16 {
        return Err(EINVAL);
    }
    let Err(missed) = logical(cx, &op, &detail) else { return Ok(0) };
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

fn logical(cx: &Cx<'_>, op: &MemOp, detail: &Detail) -> Result<(), Missed> {
    let (at, key, register) = (op.buf as usize, detail.key, detail.access_register);
    let is_read = op.op == LOGICAL_READ;
    if op.flags & CHECK_ONLY != 0 {
        let purpose = if is_read { Purpose::Fetch } else { Purpose::Store };
        return guest::check(cx, op.gaddr, register, op.size as usize, purpose, key);
    }
    let mut bytes = buffer(op)?;
    if is_read {
        guest::read_with_key(cx, op.gaddr, register, &mut bytes, key)?;
        user::write_bytes(at, &bytes)?;
    } else {
        user::read_bytes(at, &mut bytes)?;
        guest::write_with_key(cx, op.gaddr, register, &bytes, key)?;
    }
    Ok(())
}

/// On a VM, by absolute address.
pub(super) fn vm(vm: &Vm<Sie>, arg: usize) -> Result<u32> {
    let op: MemOp = user::read(arg)?;
    match op.op {
        ABSOLUTE_READ | ABSOLUTE_WRITE => {
            let detail = check(&op, CHECK_ONLY | KEYS)?;
            access(vm, &op, &detail)
        }
        ABSOLUTE_EXCHANGE => {
            let detail = check(&op, KEYS)?;
            exchange(vm, &op, &detail)
        }
        _ => Err(EINVAL),
    }
}

/// Whether there is memory that an access with the key may touch; the code of the
/// program interruption if not.
fn refusal(vm: &Vm<Sie>, op: &MemOp, key: u8, is_store: bool) -> Option<u32> {
    let Some(end) = op.gaddr.checked_add(op.size.into()) else {
        return Some(code::ADDRESSING.into());
    };
    let mut page = op.gaddr & !0xfff;
    while page < end {
        if vm.memory().kind(Gpa::new(page)) == Kind::Device {
            return Some(code::ADDRESSING.into());
        }
        if !key::of(vm).allows(Gpa::new(page).gfn(), key, is_store) {
            return Some(code::PROTECTION.into());
        }
        page = page.saturating_add(0x1000);
    }
    None
}

fn access(vm: &Vm<Sie>, op: &MemOp, detail: &Detail) -> Result<u32> {
    let (memory, is_store) = (vm.memory(), op.op == ABSOLUTE_WRITE);
    if op.flags & CHECK_ONLY != 0 {
        return Ok(refusal(vm, op, detail.key, is_store).unwrap_or(0));
    }
    let mut bytes = buffer(op)?;
    if is_store {
        user::read_bytes(op.buf as usize, &mut bytes)?;
    }
    if let Some(code) = refusal(vm, op, detail.key, is_store) {
        return Ok(code);
    }
    if is_store {
        memory.write(Gpa::new(op.gaddr), &bytes)?;
    } else {
        memory.read(Gpa::new(op.gaddr), &mut bytes)?;
        user::write_bytes(op.buf as usize, &bytes)?;
    }
    Ok(0)
}

/// Replaces aligned bytes if they are what userspace expects. If not, userspace gets
/// what they are.
fn exchange(vm: &Vm<Sie>, op: &MemOp, detail: &Detail) -> Result<u32> {
    let size = op.size as usize;
    let (mut new, mut old) = ([0; 16], [0; 16]);
    let new = new.get_mut(..size).ok_or(EINVAL)?;
    let old = old.get_mut(..size).ok_or(EINVAL)?;
    user::read_bytes(op.buf as usize, new)?;
    user::read_bytes(detail.old as usize, old)?;
    if !size.is_power_of_two() || op.gaddr & u64::from(op.size).wrapping_sub(1) != 0 {
        return Err(EINVAL);
    }
    if let Some(code) = refusal(vm, op, detail.key, true) {
        return Ok(code);
    }
    let done = vm.memory().guest().change(Gpa::new(op.gaddr), size, |address| {
        s390::key::compare_exchange(address, old, new)
    })?;
    if !done {
        user::write_bytes(detail.old as usize, old)?;
    }
    Ok(0)
}
