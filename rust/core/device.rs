// SPDX-License-Identifier: GPL-2.0
//! `KVM_CREATE_DEVICE`: devices with a file and attributes.

use crate::{arch::Arch, vm::Vm, wiring::Attr};
use kernel::{
    error::Result,
    prelude::*,
    sync::{Arc, ArcBorrow},
};
use kvm_sys::{
    anon_file::{AnonFile, Opening},
    user,
};
use kvm_uapi::{
    ioctl::{KVM_GET_DEVICE_ATTR, KVM_HAS_DEVICE_ATTR, KVM_SET_DEVICE_ATTR},
    vcpu::{CreateDevice, DeviceAttr, KVM_CREATE_DEVICE_TEST},
};

/// The devices of an architecture, of all kinds.
///
/// Attributes are named by group and number; unknown ones are answered with
/// `ENXIO`.
pub trait AttrDevice<A>: Sized + Send + Sync + 'static {
    /// Whether there are devices of this kind (`KVM_DEV_TYPE_*`).
    fn has_kind(kind: u32) -> bool;

    /// Makes one.
    ///
    /// # Errors
    ///
    /// `EBUSY` or `EEXIST` if a VM can't have another one; `ENOMEM`.
    fn create(vm: ArcBorrow<'_, Vm<A>>, kind: u32) -> Result<Arc<Self>>
    where
        A: Arch;

    /// What /proc shows as its name.
    fn name(&self) -> &'static CStr;

    /// Sets an attribute.
    ///
    /// # Errors
    ///
    /// `EPERM` if the device has none that can be set; those of the attribute.
    fn set(&self, _vm: &Vm<A>, _attr: &DeviceAttr) -> Result<u32>
    where
        A: Arch,
    {
        Err(EPERM)
    }

    /// Reads an attribute.
    ///
    /// # Errors
    ///
    /// `EPERM` if the device has none that can be read; those of the attribute.
    fn get(&self, _vm: &Vm<A>, _attr: &DeviceAttr) -> Result<u32>
    where
        A: Arch,
    {
        Err(EPERM)
    }

    /// Says whether an attribute is there.
    ///
    /// # Errors
    ///
    /// `EPERM` if the device has none at all; `ENXIO` if not this one.
    fn has(&self, _vm: &Vm<A>, _attr: &DeviceAttr) -> Result<u32>
    where
        A: Arch,
    {
        Err(EPERM)
    }

    /// The device's last descriptor was closed.
    fn released(&self, _vm: &Vm<A>)
    where
        A: Arch,
    {
    }
}

/// The devices of an architecture that has none.
pub enum NoDevice {}

impl<A> AttrDevice<A> for NoDevice {
    fn has_kind(_kind: u32) -> bool {
        false
    }

    fn create(_vm: ArcBorrow<'_, Vm<A>>, _kind: u32) -> Result<Arc<Self>>
    where
        A: Arch,
    {
        Err(ENODEV)
    }

    fn name(&self) -> &'static CStr {
        match *self {}
    }
}

/// What a device's descriptor refers to. It keeps the VM.
struct DeviceFile<A: Arch> {
    vm: Arc<Vm<A>>,
    device: Arc<Attr<A>>,
}

impl<A: Arch> AnonFile for DeviceFile<A> {
    type Module = A::Module;
    const COMPAT: bool = A::COMPAT;

    fn ioctl(this: ArcBorrow<'_, Self>, request: u32, arg: usize) -> Result<u32> {
        this.vm.check_caller()?;
        let (vm, device) = (&*this.vm, &*this.device);
        match request {
            KVM_SET_DEVICE_ATTR => device.set(vm, &user::read(arg)?),
            KVM_GET_DEVICE_ATTR => device.get(vm, &user::read(arg)?),
            KVM_HAS_DEVICE_ATTR => device.has(vm, &user::read(arg)?),
            _ => Err(ENOTTY),
        }
    }

    fn released(this: ArcBorrow<'_, Self>) {
        this.device.released(&this.vm);
    }
}

/// `KVM_CREATE_DEVICE` with the structure at `arg`, into which the descriptor goes.
///
/// # Errors
///
/// `EFAULT`; `ENODEV` for a kind that there isn't; the device's; those of
/// [`Opening::new`].
pub(crate) fn create<A: Arch>(vm: ArcBorrow<'_, Vm<A>>, arg: usize) -> Result<u32> {
    let mut args: CreateDevice = user::read(arg)?;
    if !Attr::<A>::has_kind(args.type_) {
        return Err(ENODEV);
    }
    if args.flags & KVM_CREATE_DEVICE_TEST != 0 {
        return Ok(0);
    }
    let device = Attr::<A>::create(vm, args.type_)?;
    let name = device.name();
    let file = Arc::new(DeviceFile::<A> { vm: vm.into(), device }, GFP_KERNEL_ACCOUNT)?;
    let opening = Opening::new(name, file)?;
    args.fd = opening.number();
    user::write(arg, &args)?;
    opening.finish();
    Ok(0)
}
