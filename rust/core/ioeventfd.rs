// SPDX-License-Identifier: GPL-2.0
//! `KVM_IOEVENTFD`: a guest's write signals an eventfd, and the vCPU goes on.

use crate::{
    arch::Arch,
    io_bus::{Signal, Space},
    vm::Vm,
};
use kernel::{error::Result, prelude::*, sync::Arc};
use kvm_event::matching::Key;
use kvm_sys::{eventfd::EventFd, user};
use kvm_uapi::irq::{
    Ioeventfd, IOEVENTFD_FLAGS, KVM_IOEVENTFD_FLAG_DATAMATCH, KVM_IOEVENTFD_FLAG_DEASSIGN,
    KVM_IOEVENTFD_FLAG_PIO, KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY,
};

/// `KVM_IOEVENTFD` with the structure at `arg`.
///
/// # Errors
///
/// `EFAULT`; `EBADF` or `EINVAL` for a descriptor that isn't an eventfd's. To
/// assign: `EINVAL` for flags, lengths and combinations that aren't allowed,
/// `EEXIST` if another eventfd takes some of the same writes, `ENOMEM`. To
/// deassign: `ENOENT` if there is none like it.
pub(crate) fn set<A: Arch>(vm: &Vm<A>, arg: usize) -> Result<u32> {
    let args: Ioeventfd = user::read(arg)?;
    let has = |flag| args.flags & flag != 0;
    let space = if has(KVM_IOEVENTFD_FLAG_PIO) {
        Space::Pio
    } else if has(KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY) {
        Space::CcwNotify
    } else {
        Space::Mmio
    };
    let data = has(KVM_IOEVENTFD_FLAG_DATAMATCH).then_some(args.datamatch);
    let key = Key { address: args.addr, length: args.len, data };
    if has(KVM_IOEVENTFD_FLAG_DEASSIGN) {
        let event = EventFd::from_fd(args.fd)?;
        vm.io().remove_signal(space, &key, &event)?;
        return Ok(0);
    }
    check(&args, &key)?;
    let event = Arc::new(EventFd::from_fd(args.fd)?, GFP_KERNEL_ACCOUNT)?;
    vm.io().add_signal(space, Signal { key, event })?;
    Ok(0)
}

/// Whether an entry can be as userspace wants it.
fn check(args: &Ioeventfd, key: &Key) -> Result {
    let fits = matches!(key.length, 0 | 1 | 2 | 4 | 8)
        && key.address.checked_add(key.length.into()).is_some()
        && args.flags & !IOEVENTFD_FLAGS == 0
        // Any length means any value.
        && (key.length != 0 || key.data.is_none());
    if fits {
        Ok(())
    } else {
        Err(EINVAL)
    }
}
