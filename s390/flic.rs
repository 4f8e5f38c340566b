// SPDX-License-Identifier: GPL-2.0
//! The floating-interrupt controller (FLIC): userspace reads and sets what waits for
//! any CPU, and registers I/O adapters.
//!
//! `Documentation/virt/kvm/devices/s390_flic.rst`.

use crate::{
    adapter::{self, Adapter, Modes},
    floating,
    ioctl::irq,
    pfault,
    sie::Sie,
    vm::Choice,
};
use core::mem::size_of;
use kernel::{
    prelude::*,
    sync::{
        atomic::{Full, Release},
        Arc, ArcBorrow,
    },
};
use kvm_core::{device::AttrDevice, memory::Kind, vm::Vm};
use kvm_paging::addr::Gpa;
use kvm_sys::user;
use kvm_uapi::{
    s390::{AisAll, IoAdapter, IoAdapterRequest, Irq},
    vcpu::DeviceAttr,
};

/// `KVM_DEV_TYPE_FLIC`.
const KIND: u32 = 6;

/// Groups of attributes (`KVM_DEV_FLIC_*`).
mod group {
    pub(super) const GET_ALL: u32 = 1;
    pub(super) const ENQUEUE: u32 = 2;
    pub(super) const CLEAR: u32 = 3;
    pub(super) const PFAULT_ALLOW: u32 = 4;
    pub(super) const PFAULT_FORBID: u32 = 5;
    pub(super) const ADAPTER_REGISTER: u32 = 6;
    pub(super) const ADAPTER_MODIFY: u32 = 7;
    pub(super) const CLEAR_IO: u32 = 8;
    pub(super) const SUPPRESSION_MODE: u32 = 9;
    pub(super) const ADAPTER_INTERRUPT: u32 = 10;
    pub(super) const SUPPRESSION_MODES: u32 = 11;
}

/// Most bytes of a list.
const MOST: u64 = 0x200_0000;
/// Bytes of an interruption in a list.
const EACH: u64 = size_of::<Irq>() as u64;

/// The controller. What it shows is the VM's.
pub(crate) struct Flic;

impl AttrDevice<Sie> for Flic {
    fn has_kind(kind: u32) -> bool {
        kind == KIND
    }

    fn create(vm: ArcBorrow<'_, Vm<Sie>>, _kind: u32) -> Result<Arc<Self>> {
        let device = Arc::new(Self, GFP_KERNEL_ACCOUNT)?;
        match vm.arch().has_flic.cmpxchg(false, true, Full) {
            Ok(_) => Ok(device),
            // A VM has one.
            Err(_) => Err(EINVAL),
        }
    }

    fn name(&self) -> &'static CStr {
        c"kvm-flic"
    }

    fn set(&self, vm: &Vm<Sie>, attr: &DeviceAttr) -> Result<u32> {
        match attr.group {
            group::ENQUEUE => enqueue(vm, attr)?,
            group::CLEAR => {
                vm.arch().adapters.forget_delayed();
                vm.arch().floating.clear();
            }
            group::PFAULT_ALLOW => pfault::allow(vm),
            group::PFAULT_FORBID => pfault::forbid(vm)?,
            group::ADAPTER_REGISTER => register(vm, attr)?,
            group::ADAPTER_MODIFY => modify(vm, attr)?,
            group::CLEAR_IO => clear_io(vm, attr)?,
            group::SUPPRESSION_MODE => set_mode(vm, attr)?,
            group::ADAPTER_INTERRUPT => {
                vm.stats().arch.io_flic_inject_airq.add_shared(1);
                let id = attr.attr as u32;
                adapter::interrupt(vm, vm.arch().adapters.get(id).ok_or(EINVAL)?);
            }
            group::SUPPRESSION_MODES => {
                check_suppression(vm)?;
                let AisAll { simm, nimm } = user::read(attr.addr as usize)?;
                let modes = Modes { single: simm, none: nimm };
                vm.arch().adapters.change_modes(|all| *all = modes);
            }
            _ => return Err(EINVAL),
        }
        Ok(0)
    }

    fn get(&self, vm: &Vm<Sie>, attr: &DeviceAttr) -> Result<u32> {
        match attr.group {
            group::GET_ALL => all(vm, attr),
            group::SUPPRESSION_MODES => {
                if attr.attr < size_of::<AisAll>() as u64 {
                    return Err(EINVAL);
                }
                check_suppression(vm)?;
                let Modes { single, none } = vm.arch().adapters.modes();
                user::write(attr.addr as usize, &AisAll { simm: single, nimm: none })?;
                Ok(0)
            }
            _ => Err(EINVAL),
        }
    }

    fn has(&self, _vm: &Vm<Sie>, attr: &DeviceAttr) -> Result<u32> {
        match attr.group {
            group::GET_ALL..=group::SUPPRESSION_MODES => Ok(0),
            _ => Err(ENXIO),
        }
    }

    fn released(&self, vm: &Vm<Sie>) {
        vm.arch().has_flic.store(false, Release);
    }
}

/// Shows all that waits; how many there are. `ENOMEM` asks for a longer buffer.
fn all(vm: &Vm<Sie>, attr: &DeviceAttr) -> Result<u32> {
    if attr.attr == 0 || attr.attr > MOST {
        return Err(EINVAL);
    }
    adapter::serve(vm);
    let waiting = vm.arch().floating.all().map_err(|_| ENOBUFS)?;
    if waiting.len() as u64 > attr.attr / EACH {
        return Err(ENOMEM);
    }
    let mut at = attr.addr as usize;
    for one in &waiting {
        user::write(at, &irq::from_floating(one))?;
        at = at.wrapping_add(EACH as usize);
    }
    Ok(waiting.len() as u32)
}

fn enqueue(vm: &Vm<Sie>, attr: &DeviceAttr) -> Result {
    if attr.attr % EACH != 0 || attr.attr > MOST {
        return Err(EINVAL);
    }
    let mut at = attr.addr as usize;
    for _ in 0..attr.attr / EACH {
        floating::inject(vm, irq::to_floating(&user::read(at)?)?)?;
        at = at.wrapping_add(EACH as usize);
    }
    Ok(())
}

fn register(vm: &Vm<Sie>, attr: &DeviceAttr) -> Result {
    const SUPPRESSIBLE: u8 = 1;
    let IoAdapter { id, isc, maskable, swap, flags } = user::read(attr.addr as usize)?;
    if isc > 7 {
        return Err(EINVAL);
    }
    let adapter = Adapter::new(isc, maskable != 0, swap != 0, flags & SUPPRESSIBLE != 0);
    vm.arch().adapters.register(id, adapter)
}

/// Masks an adapter; or says which pages its indicators will be in, which helps
/// nobody here: they are found when they are set.
fn modify(vm: &Vm<Sie>, attr: &DeviceAttr) -> Result {
    const MASK: u8 = 1;
    const MAP: u8 = 2;
    const UNMAP: u8 = 3;
    let request: IoAdapterRequest = user::read(attr.addr as usize)?;
    let adapters = &vm.arch().adapters;
    let _ = adapters.get(request.id).ok_or(EINVAL)?;
    match request.type_ {
        MASK => adapters.mask(request.id, request.mask != 0),
        MAP | UNMAP if request.addr == 0 => Err(EINVAL),
        MAP if vm.memory().kind(Gpa::new(request.addr)) == Kind::Device => Err(EFAULT),
        MAP | UNMAP => Ok(()),
        _ => Err(EINVAL),
    }
}

/// Forgets the interruption of a subchannel.
fn clear_io(vm: &Vm<Sie>, attr: &DeviceAttr) -> Result {
    if attr.flags != 0 || attr.attr != size_of::<u32>() as u64 {
        return Err(EINVAL);
    }
    let subchannel: u32 = user::read(attr.addr as usize)?;
    if subchannel == 0 {
        return Err(EINVAL);
    }
    let _ = vm.arch().floating.take_io(0xff, Some(subchannel));
    Ok(())
}

fn check_suppression(vm: &Vm<Sie>) -> Result {
    if vm.arch().choices.has(Choice::Suppression) {
        Ok(())
    } else {
        Err(EOPNOTSUPP)
    }
}

/// Lets in all adapter interruptions of a subclass, or one.
fn set_mode(vm: &Vm<Sie>, attr: &DeviceAttr) -> Result {
    const ALL: u16 = 0;
    const SINGLE: u16 = 1;
    check_suppression(vm)?;
    // The second byte is padding.
    let [isc, _, mode @ ..]: [u8; 4] = user::read(attr.addr as usize)?;
    let mode = u16::from_ne_bytes(mode);
    if isc > 7 || !matches!(mode, ALL | SINGLE) {
        return Err(EINVAL);
    }
    let bit = 0x80_u8.wrapping_shr(isc.into());
    vm.arch().adapters.change_modes(|modes| {
        modes.none &= !bit;
        modes.single = modes.single & !bit | if mode == SINGLE { bit } else { 0 };
    });
    Ok(())
}
