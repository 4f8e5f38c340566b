// SPDX-License-Identifier: GPL-2.0
//! The ioctls of /dev/kvm (`Documentation/virt/kvm/api.rst`, "system ioctls").

use crate::{arch::Arch, capability, vm::Vm};
use core::marker::PhantomData;
use kernel::{error::Result, prelude::*};
use kvm_paging::addr::PAGE_SIZE;
use kvm_sys::chardev::CharDevice;
use kvm_uapi::{
    ioctl::{KVM_CHECK_EXTENSION, KVM_CREATE_VM, KVM_GET_API_VERSION, KVM_GET_VCPU_MMAP_SIZE},
    KVM_API_VERSION, KVM_MINOR,
};

/// /dev/kvm.
pub struct SystemDevice<A>(PhantomData<A>);

impl<A: Arch> CharDevice for SystemDevice<A> {
    type Module = A::Module;
    const NAME: &'static CStr = c"kvm";
    const MINOR: u8 = KVM_MINOR as u8;
    const COMPAT: bool = A::COMPAT;

    fn ioctl(request: u32, arg: usize) -> Result<u32> {
        match request {
            KVM_GET_API_VERSION => no_argument(arg).map(|()| KVM_API_VERSION),
            KVM_CREATE_VM => Vm::<A>::create(arg),
            KVM_CHECK_EXTENSION => Ok(capability::check::<A>(arg)),
            KVM_GET_VCPU_MMAP_SIZE => {
                no_argument(arg).map(|()| A::VCPU_MMAP_PAGES.saturating_mul(PAGE_SIZE as u32))
            }
            _ => A::system_ioctl(request, arg),
        }
    }
}

fn no_argument(arg: usize) -> Result {
    if arg == 0 {
        Ok(())
    } else {
        Err(EINVAL)
    }
}
