// SPDX-License-Identifier: GPL-2.0
//! The x86 ioctls of a VM.

use crate::vendor::{Vendor, X86};
use kernel::{prelude::*, sync::ArcBorrow};
use kvm_core::vm::Vm;

pub(crate) fn ioctl<V: Vendor>(
    _vm: ArcBorrow<'_, Vm<X86<V>>>,
    _request: u32,
    _arg: usize,
) -> Result<u32> {
    Err(ENOTTY)
}
