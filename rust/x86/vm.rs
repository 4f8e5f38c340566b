// SPDX-License-Identifier: GPL-2.0
//! What an x86 VM has besides what all architectures share.

use crate::vendor::Vendor;
use core::marker::PhantomData;
use kernel::prelude::*;

/// The x86 part of a VM.
#[pin_data]
pub struct VmState<V: Vendor> {
    _vendor: PhantomData<fn() -> V>,
}

impl<V: Vendor> VmState<V> {
    /// That of a new VM.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self { _vendor: PhantomData })
    }
}
