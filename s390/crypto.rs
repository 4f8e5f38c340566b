// SPDX-License-Identifier: GPL-2.0
//! Wrapping keys: with what a guest's protected keys are encrypted (message-security
//! assist, extension 3).
//!
//! The machine has wrapping keys of its own. A guest's differ from them by masks in a
//! block that all its SIE blocks name, so that no guest can use the keys of another one,
//! nor of the host. Userspace can turn off each kind.

use crate::{sie::Sie, state::VcpuState};
use core::ops::Range;
use kernel::prelude::*;
use kvm_core::{request::Request, vm::Vm};
use kvm_sys::{hw_pages::HwPages, s390};
use s390_arch::sie::execution_b3;

/// vCPUs have to take the wrapping keys from the VM.
pub(crate) const SET_KEYS: Request = Request::of_arch(4);

/// The facility.
const PROTECTED_KEYS: u8 = 76;

/// A kind of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Aes,
    Dea,
}

impl Kind {
    /// Where its masks are in the block.
    const fn masks(self) -> Range<usize> {
        match self {
            Self::Dea => 0x48..0x60,
            Self::Aes => 0x60..0x80,
        }
    }

    /// What lets SIE use them.
    const fn control(self) -> u8 {
        match self {
            Self::Aes => execution_b3::AES,
            Self::Dea => execution_b3::DEA,
        }
    }
}

/// The keys of a VM.
pub(crate) struct Keys {
    /// The block, of format 1.
    block: HwPages<1>,
    /// Kinds that are on, as SIE's controls.
    on: u8,
}

impl Keys {
    /// Keys of both kinds.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        let mut keys = Self { block: HwPages::low()?, on: 0 };
        keys.turn(Kind::Aes, true);
        keys.turn(Kind::Dea, true);
        Ok(keys)
    }

    /// Makes new keys of a kind, or turns it off.
    fn turn(&mut self, kind: Kind, on: bool) {
        let Some(masks) = self.block.bytes().get_mut(kind.masks()) else { return };
        if on {
            s390::random(masks);
            self.on |= kind.control();
        } else {
            masks.fill(0);
            self.on &= !kind.control();
        }
    }
}

/// Makes new keys of a kind for the VM, or turns it off.
///
/// # Errors
///
/// `EINVAL` if the guest doesn't have the facility.
pub(crate) fn turn(vm: &Vm<Sie>, kind: Kind, on: bool) -> Result {
    if !vm.arch().model.lock().facilities.has(PROTECTED_KEYS) {
        return Err(EINVAL);
    }
    vm.arch().keys.lock().turn(kind, on);
    vm.vcpus().request_all(SET_KEYS);
    Ok(())
}

/// Names the VM's keys in a vCPU's SIE block.
pub(crate) fn set_up(vm: &Vm<Sie>, state: &mut VcpuState) {
    const FORMAT_1: u32 = 1;
    if !vm.arch().model.lock().facilities.has(PROTECTED_KEYS) {
        return;
    }
    let keys = vm.arch().keys.lock();
    let both = execution_b3::AES | execution_b3::DEA;
    state.block.crypto = keys.block.physical() as u32 | FORMAT_1;
    state.block.execution_b3 = state.block.execution_b3 & !both | keys.on;
}
