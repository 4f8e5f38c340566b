// SPDX-License-Identifier: GPL-2.0
//! What the core asks of an architecture, answered for IBM Z.

use crate::{capability, ioctl, key::Keys, shared::Shared, state::VcpuState, vm::VmState, KvmS390};
use kernel::{
    prelude::*,
    sync::{Arc, ArcBorrow},
};
use kvm_core::{
    arch::Arch,
    mmu::{Paging, TwoLevel},
    request::Request,
    vcpu::{Held, Vcpu, VcpuTable},
    vm::Vm,
};
use kvm_paging::{addr::Gfn, caps::PagingCaps, entry::MemoryType, format::dat::Dat, level::Level};
use kvm_sys::{kick::Kick, s390};
use kvm_uapi::vcpu::EnableCap;

/// IBM Z.
pub(crate) struct Sie;

/// The pages of the prefix may be mapped no more, so they have to be before SIE
/// begins.
pub(crate) const MAP_PREFIX: Request = Request::of_arch(0);

/// Userspace wants to see operation exceptions.
pub(crate) const SEE_OPERATIONS: Request = Request::of_arch(3);

impl Arch for Sie {
    type Module = KvmS390;
    type Tables = TwoLevel<Self>;
    type Wiring = Self;
    const COMPAT: bool = false;
    // kvm_run.
    const VCPU_MMAP_PAGES: u32 = 1;
    const VCPU_OWN_PAGES: u32 = 1;
    // What an extended system control area has room for.
    const MAX_VCPUS: u32 = 248;
    const MAX_VCPU_ID: u32 = 248;
    const SLOTS: u16 = 32766;
    const UNKNOWN_VCPU_IOCTL: Error = ENOTTY;

    type Vm = VmState;
    type Vcpu = VcpuState;
    type VcpuShared = Shared;

    fn has_vm_type(kind: usize) -> bool {
        kind == 0
    }

    // SIE needs no enabling: the instruction is there or it isn't.
    fn enable_cpu() -> Result {
        crate::first_sie::run()
    }

    fn disable_cpu() {}

    fn expect_faults() {}

    fn check_extension(capability: u32) -> u32 {
        capability::check(capability)
    }

    fn new_vm(_kind: usize) -> impl PinInit<VmState, Error> {
        VmState::new()
    }

    fn new_vcpu_shared(
        _vm: &Vm<Self>,
        _id: u32,
        _index: u32,
        kick: Arc<Kick>,
    ) -> impl PinInit<Shared, Error> {
        Shared::new(kick)
    }

    fn new_vcpu(vm: &Vm<Self>, id: u32, index: u32) -> impl Init<VcpuState, Error> {
        VcpuState::new(vm, id, index)
    }

    fn vcpu_added(_vm: &Vm<Self>, vcpu: &Vcpu<Self>) {
        crate::sync::prepare(vcpu);
    }

    /// What is replaced in a table is forgotten at once. Only the pages of a prefix
    /// are kept by SIE itself, from its beginning to its end.
    fn flush(vcpus: &VcpuTable<Self>, first: Gfn, frames: u64) {
        vcpus.request_those(MAP_PREFIX, |vcpu| {
            let prefix = u64::from(vcpu.shared().prefix()) >> 12;
            prefix.wrapping_add(1) >= first.raw() && prefix < first.raw().saturating_add(frames)
        });
    }

    fn enable_cap(vm: ArcBorrow<'_, Vm<Self>>, wanted: &EnableCap) -> Result<u32> {
        capability::enable(&vm, wanted)
    }

    fn vm_ioctl(vm: ArcBorrow<'_, Vm<Self>>, request: u32, arg: usize) -> Result<u32> {
        ioctl::vm::ioctl(&vm, request, arg)
    }

    fn vcpu_ioctl_unheld(
        vm: ArcBorrow<'_, Vm<Self>>,
        vcpu: &Vcpu<Self>,
        request: u32,
        arg: usize,
    ) -> Option<Result<u32>> {
        ioctl::irq::unheld(&vm, vcpu, request, arg)
    }

    fn vcpu_ioctl(mut held: Held<'_, Self>, request: u32, arg: usize) -> Result<u32> {
        ioctl::vcpu::ioctl(&mut held, request, arg)
    }

    fn system_ioctl(request: u32, _arg: usize) -> Result<u32> {
        match request {
            kvm_uapi::ioctl::s390::KVM_S390_ENABLE_SIE => Ok(0),
            _ => Err(EINVAL),
        }
    }
}

impl Paging for Sie {
    type Format = Dat;
    type Tags = Keys;
    const DEVICE_MEMORY: MemoryType = MemoryType::WriteBack;

    fn config() -> Result<(Dat, PagingCaps)> {
        let caps = PagingCaps {
            // A region-second table: 8 PiB.
            root: Level::Table512G,
            largest_page: Level::Page4K,
            accessed_dirty: false,
            dirty_log: false,
        };
        Ok((Dat, caps))
    }

    fn physical_bits() -> u32 {
        // A machine that reports no limit has none.
        s390::highest_address().map_or(64, |limit| 64_u32.saturating_sub(limit.leading_zeros()))
    }
}
