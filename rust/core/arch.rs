// SPDX-License-Identifier: GPL-2.0
//! What an architecture provides.

use crate::{
    debugfs::Number,
    mmu::SecondLevel,
    request::Request,
    vcpu::{Held, Vcpu, VcpuTable},
    vm::Vm,
    wiring::Wiring,
};
use kernel::{
    error::{Error, Result},
    module::ModuleMetadata,
    prelude::*,
    sync::{Arc, ArcBorrow},
};
use kvm_paging::addr::Gfn;
use kvm_sys::kick::Kick;
use kvm_uapi::vcpu::EnableCap;

/// One processor type's side of KVM, implemented once in each vendor module.
pub trait Arch: Sized + 'static {
    /// The vendor module; it stays loaded while a KVM file is open.
    type Module: ModuleMetadata;

    /// The tables that map guest frames to host pages.
    type Tables: SecondLevel;

    /// Whether 32-bit processes of a 64-bit host may use KVM.
    const COMPAT: bool;

    /// Pages of a vCPU file that userspace maps: `kvm_run` and what follows it.
    const VCPU_MMAP_PAGES: u32;

    /// How many of those each vCPU has to itself; they are the first ones.
    const VCPU_OWN_PAGES: u32;

    /// Where the dirty ring begins in a vCPU's mapping, in pages, if vCPUs can have one.
    const DIRTY_RING_PAGE: Option<u32> = None;

    /// Most vCPUs of a VM, at most [`crate::vcpu::VcpuTable::CAPACITY`].
    const MAX_VCPUS: u32;

    /// One more than the highest vCPU id.
    const MAX_VCPU_ID: u32;

    /// Address spaces that a VM has: 1, or 2 if its vCPUs can be in one or the other.
    const ADDRESS_SPACES: u32 = 1;

    /// Slots of one address space that userspace may number, at most
    /// [`kvm_paging::slot::MAX_SLOTS`].
    const SLOTS: u16;

    /// What debugfs shows of each vCPU besides its thread; `None` for no directories of
    /// vCPUs at all.
    const VCPU_NUMBERS: Option<&'static [Number<Self>]> = None;

    /// What a vCPU's file answers to a KVM ioctl that it doesn't know.
    const UNKNOWN_VCPU_IOCTL: Error;

    /// What a VM has besides what all architectures share.
    type Vm: Send + Sync;

    /// A vCPU's state, for the one thread that holds the vCPU: registers, control
    /// blocks, what is pending.
    type Vcpu: Send;

    /// The part of a vCPU that any thread may reach at any time.
    type VcpuShared: Send + Sync;

    /// How devices, interrupts and counters are connected.
    type Wiring: Wiring<Self>;

    /// Whether VMs of this type (the argument of `KVM_CREATE_VM`) can be made.
    fn has_vm_type(kind: usize) -> bool;

    /// Turns virtualization on on the current CPU; the caller can't migrate.
    ///
    /// # Errors
    ///
    /// Any; the CPU then stays, or becomes, offline for KVM.
    fn enable_cpu() -> Result;

    /// Undoes [`Self::enable_cpu`] on the current CPU.
    fn disable_cpu();

    /// The system goes down: from now on [`Self::disable_cpu`] comes while guests run, and
    /// instructions that need virtualization fault. Nobody is to be told of that.
    fn expect_faults();

    /// Value of a capability that the core doesn't answer itself; 0 if it isn't
    /// there.
    fn check_extension(_capability: u32) -> u32 {
        0
    }

    /// Value of a capability on a VM that has its own; `None` if it is the same
    /// for all.
    fn check_vm_extension(_vm: &Vm<Self>, _capability: u32) -> Option<u32> {
        None
    }

    /// The architecture's part of a new VM of a type that it has.
    fn new_vm(kind: usize) -> impl PinInit<Self::Vm, Error>;

    /// The shared part of a new vCPU. `index` counts the VM's vCPUs; `kick` gets
    /// the vCPU's attention.
    fn new_vcpu_shared(
        vm: &Vm<Self>,
        id: u32,
        index: u32,
        kick: Arc<Kick>,
    ) -> impl PinInit<Self::VcpuShared, Error>;

    /// The state of a new vCPU; large, so it is made in place.
    fn new_vcpu(vm: &Vm<Self>, id: u32, index: u32) -> impl Init<Self::Vcpu, Error>;

    /// Both parts of a new vCPU are there: what the shared one knows of the state.
    fn vcpu_made(_shared: &Self::VcpuShared, _state: &Self::Vcpu) {}

    /// A vCPU is in the VM's table now. The VM's creation lock is held.
    fn vcpu_added(_vm: &Vm<Self>, _vcpu: &Vcpu<Self>) {}

    /// Makes vCPUs forget translations of these frames; see
    /// [`Flush::flush`](crate::memory::Flush::flush). Here all of them forget
    /// everything.
    fn flush(vcpus: &VcpuTable<Self>, _first: Gfn, _frames: u64) {
        vcpus.request_all(Request::FLUSH_TLB);
    }

    /// Calls `written` with each frame that the processor noted as written to, for a vCPU,
    /// and that nobody was told of.
    fn take_notes(_vcpu: &Self::VcpuShared, _written: &mut dyn FnMut(Gfn)) {}

    /// Turns a capability of a VM on that the core doesn't know.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an unknown one, or for arguments that it doesn't allow.
    fn enable_cap(_vm: ArcBorrow<'_, Vm<Self>>, _wanted: &EnableCap) -> Result<u32> {
        Err(EINVAL)
    }

    /// An ioctl of a VM that the core doesn't know.
    ///
    /// # Errors
    ///
    /// `ENOTTY` for an unknown request.
    fn vm_ioctl(_vm: ArcBorrow<'_, Vm<Self>>, _request: u32, _arg: usize) -> Result<u32> {
        Err(ENOTTY)
    }

    /// An ioctl of a vCPU that is answered without holding it; `None` for all
    /// others.
    fn vcpu_ioctl_unheld(
        _vm: ArcBorrow<'_, Vm<Self>>,
        _vcpu: &Vcpu<Self>,
        _request: u32,
        _arg: usize,
    ) -> Option<Result<u32>> {
        None
    }

    /// An ioctl of a vCPU, `KVM_RUN` among them, that the core doesn't know.
    ///
    /// # Errors
    ///
    /// [`Self::UNKNOWN_VCPU_IOCTL`] for an unknown request.
    fn vcpu_ioctl(_held: Held<'_, Self>, _request: u32, _arg: usize) -> Result<u32> {
        Err(Self::UNKNOWN_VCPU_IOCTL)
    }

    /// An ioctl of /dev/kvm that the core doesn't know.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an unknown request, as on every architecture.
    fn system_ioctl(_request: u32, _arg: usize) -> Result<u32> {
        Err(EINVAL)
    }
}
