// SPDX-License-Identifier: GPL-2.0
//! Storage keys for userspace: those of many frames, to save and restore, and one.

use crate::{key, sie::Sie};
use kernel::{
    alloc::{allocator::KVmalloc, Vec},
    prelude::*,
};
use kvm_core::{
    memory::{Kind, VcpuMemory},
    vm::Vm,
};
use kvm_paging::addr::{Gfn, Gpa};
use kvm_sys::{process, user};
use kvm_uapi::s390::{KeyOp, Skeys};
use s390_arch::key::{Condition, Key};

/// Most keys at once.
const MOST: u64 = 1 << 20;
/// `KVM_S390_GET_SKEYS_NONE`: the guest uses no keys.
const NONE: u32 = 1;

/// Runs `act` with the map section of ioctls of the VM, which uses keys.
fn with_section<R>(vm: &Vm<Sie>, act: impl FnOnce(&VcpuMemory<Sie>) -> Result<R>) -> Result<R> {
    let section = vm.arch().section.lock();
    act(section.as_ref().ok_or(EINVAL)?)
}

/// The frame, if it is memory.
fn frame(vm: &Vm<Sie>, at: Gpa) -> Result<Gfn> {
    if vm.memory().kind(at) == Kind::Device {
        return Err(EFAULT);
    }
    Ok(at.gfn())
}

fn check(keys: &Skeys) -> Result<usize> {
    if keys.count == 0 || keys.count > MOST {
        return Err(EINVAL);
    }
    Ok(keys.count as usize)
}

/// The frames that a request is about.
fn frames<'a>(vm: &'a Vm<Sie>, keys: &Skeys) -> impl Iterator<Item = Result<Gfn>> + 'a {
    let (first, count) = (keys.start_gfn, keys.count);
    (0..count).map(move |step| {
        process::cond_resched();
        let gfn = first.checked_add(step).filter(|gfn| *gfn < 1 << 52).ok_or(EFAULT)?;
        frame(vm, Gpa::new(gfn << 12))
    })
}

/// `KVM_S390_GET_SKEYS`.
pub(super) fn get(vm: &Vm<Sie>, arg: usize) -> Result<u32> {
    let keys: Skeys = user::read(arg)?;
    if keys.flags != 0 {
        return Err(EINVAL);
    }
    if !key::of(vm).in_use() {
        return Ok(NONE);
    }
    let mut bytes = Vec::<u8, KVmalloc>::with_capacity(check(&keys)?, GFP_KERNEL_ACCOUNT)?;
    with_section(vm, |me| {
        for gfn in frames(vm, &keys) {
            bytes.push(key::insert(vm, me, gfn?)?.byte(), GFP_KERNEL_ACCOUNT)?;
        }
        Ok(())
    })?;
    user::write_bytes(keys.skeydata_addr as usize, &bytes)?;
    Ok(0)
}

/// `KVM_S390_SET_SKEYS`.
pub(super) fn set(vm: &Vm<Sie>, arg: usize) -> Result<u32> {
    let keys: Skeys = user::read(arg)?;
    if keys.flags != 0 {
        return Err(EINVAL);
    }
    let mut bytes = Vec::<u8, KVmalloc>::from_elem(0, check(&keys)?, GFP_KERNEL_ACCOUNT)?;
    user::read_bytes(keys.skeydata_addr as usize, &mut bytes)?;
    if bytes.iter().any(|byte| byte & 1 != 0) {
        return Err(EINVAL);
    }
    key::enable(vm)?;
    with_section(vm, |me| {
        for (gfn, byte) in frames(vm, &keys).zip(&bytes) {
            let _ = key::set(vm, me, gfn?, Key::new(*byte), Condition::default())?;
        }
        Ok(())
    })?;
    Ok(0)
}

/// `KVM_S390_KEYOP`: one of the three instructions; what the key was.
pub(super) fn operate(vm: &Vm<Sie>, arg: usize) -> Result<u32> {
    const INSERT: u8 = 1;
    const RESET_REFERENCE: u8 = 2;
    const SET: u8 = 3;
    let mut wanted: KeyOp = user::read(arg)?;
    if !(INSERT..=SET).contains(&wanted.operation) {
        return Err(EINVAL);
    }
    let gfn = frame(vm, Gpa::new(wanted.guest_addr))?;
    key::enable(vm)?;
    wanted.key = with_section(vm, |me| match wanted.operation {
        INSERT => Ok(key::insert(vm, me, gfn)?.byte()),
        RESET_REFERENCE => key::reset_reference(vm, me, gfn),
        _ => {
            let key = Key::new(wanted.key);
            Ok(key::set(vm, me, gfn, key, Condition::default())?.byte())
        }
    })?;
    user::write(arg, &wanted)?;
    Ok(0)
}
