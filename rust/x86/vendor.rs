// SPDX-License-Identifier: GPL-2.0
//! What a vendor module provides, and the core's [`Arch`] made of it.

use crate::{
    apic, capability,
    control::Control,
    exit::{page_fault::Touched, pause::PauseWindows, port::PortAccess},
    host, ioctl, irqchip, msr_filter,
    outcome::Next,
    shared::Shared,
    state::{Cx, VcpuState},
    vm::VmState,
};
use core::marker::PhantomData;
use kernel::{
    error::{Error, Result},
    module::ModuleMetadata,
    prelude::*,
    sync::{Arc, ArcBorrow},
};
use kvm_core::{
    arch::Arch,
    debugfs::Number,
    mmu::{Paging, TwoLevel},
    vcpu::{Held, Vcpu},
    vm::Vm,
};
use kvm_paging::addr::{Gfn, Gpa};
use kvm_sys::{
    debugfs::Shape,
    kick::Kick,
    preempt::PreemptOff,
    x86::{set_going_down, Extension},
};
use kvm_uapi::vcpu::EnableCap;

/// An exit for an instruction that may be over at once.
#[derive(Clone, Copy, Debug)]
pub enum Quick {
    /// CPUID.
    Cpuid,
    /// RDMSR.
    ReadMsr,
    /// WRMSR.
    WriteMsr,
    /// One that there is nothing to do for: WBINVD, INVD.
    Nothing,
    /// VMCALL or VMMCALL.
    Hypercall,
    /// PAUSE, in a loop of them.
    Pause,
    /// IN or OUT.
    Port(PortAccess),
    /// A write to the EOI register in the local APIC's [page](crate::apic::page).
    EndOfInterrupt,
    /// An instruction's own access to another one there.
    LocalApic(Gpa),
    /// An access to what the second-level tables have marked as a device's. It interrupted
    /// no event on its way.
    Device(Touched),
    /// The guest can take an interrupt.
    Window,
}

/// One vendor's virtualization extension.
pub trait Vendor: Paging + Sized {
    /// The vendor module.
    type Module: ModuleMetadata;
    /// The extension as the kernel knows it.
    const EXTENSION: Extension;
    /// AMD's rules hold where the vendors differ.
    const AMD: bool;
    /// Guests can be entered.
    const CAN_RUN: bool;
    /// They can have system-management mode: RSM gets to [`crate::exit::smm`], or its #UD to
    /// [`crate::exit::undefined`].
    const HAS_SMM: bool = false;
    /// A vCPU's control block.
    type Control: Control;

    /// Whether the processor itself has the extension, whatever firmware did.
    fn is_present() -> bool;

    /// What else the current CPU needs once the extension is on; the caller
    /// can't migrate.
    ///
    /// # Errors
    ///
    /// Any; the extension is turned off again.
    fn prepare_cpu() -> Result;

    /// Undoes [`Self::prepare_cpu`].
    fn release_cpu();

    /// How long guests may spin.
    fn pause_windows() -> PauseWindows;

    /// A control block for a new vCPU of `vm`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn new_control(vm: &Vm<X86<Self>>) -> Result<Self::Control>;

    /// Whether the last exit is for one of those, and nothing but the instruction has to be
    /// seen to.
    fn quick(control: &Self::Control) -> Option<Quick>;

    /// Does what the last exit asks for.
    ///
    /// # Errors
    ///
    /// What `KVM_RUN` is to answer.
    fn handle_exit(cx: &mut Cx<'_, Self>) -> Result<Next>;
}

/// The core's view of an x86 processor.
pub struct X86<V>(PhantomData<V>);

impl<V: Vendor> Arch for X86<V> {
    type Module = V::Module;
    type Tables = TwoLevel<V>;
    type Wiring = Self;
    type Vm = VmState<V>;
    type Vcpu = VcpuState<V>;
    type VcpuShared = Shared<V>;
    const COMPAT: bool = true;
    // kvm_run, port I/O data, coalesced I/O ring.
    const VCPU_MMAP_PAGES: u32 = 3;
    // The ring belongs to the VM.
    const VCPU_OWN_PAGES: u32 = 2;
    const DIRTY_RING_PAGE: Option<u32> = Some(64);
    const ADDRESS_SPACES: u32 = if V::HAS_SMM { 2 } else { 1 };
    const MAX_VCPUS: u32 = 1024;
    // Ids carry topology, which leaves gaps.
    const MAX_VCPU_ID: u32 = 4096;
    const SLOTS: u16 = 32764;
    const VCPU_NUMBERS: Option<&'static [Number<Self>]> = Some(&[
        Number {
            name: c"guest_mode",
            shape: Shape::Signed,
            of: |vcpu| Some(vcpu.stats().arch.guest_mode.get()),
        },
        Number {
            name: c"tsc-offset",
            shape: Shape::Signed,
            of: |vcpu| Some(vcpu.shared().tsc_offset()),
        },
        Number {
            name: c"lapic_timer_advance_ns",
            shape: Shape::Unsigned,
            of: |vcpu| vcpu.shared().timer_lead(),
        },
    ]);
    const UNKNOWN_VCPU_IOCTL: Error = EINVAL;

    fn has_vm_type(kind: usize) -> bool {
        // KVM_X86_DEFAULT_VM
        kind == 0
    }

    fn enable_cpu() -> Result {
        let host = host::get()?;
        let here = PreemptOff::new();
        host.cpus.enable(here.pinned());
        drop(here);
        V::EXTENSION.enable_on_this_cpu()?;
        V::prepare_cpu().inspect_err(|_| V::EXTENSION.disable_on_this_cpu())
    }

    fn disable_cpu() {
        V::release_cpu();
        V::EXTENSION.disable_on_this_cpu();
        if let Ok(host) = host::get() {
            host.cpus.disable(PreemptOff::new().pinned());
        }
    }

    fn expect_faults() {
        set_going_down();
    }

    fn check_extension(capability: u32) -> u32 {
        capability::check::<V>(capability)
    }

    fn check_vm_extension(vm: &Vm<Self>, capability: u32) -> Option<u32> {
        capability::check_vm(vm, capability)
    }

    fn new_vm(_kind: usize) -> impl PinInit<VmState<V>, Error> {
        VmState::new()
    }

    fn new_vcpu_shared(
        vm: &Vm<Self>,
        id: u32,
        _index: u32,
        kick: Arc<Kick>,
    ) -> impl PinInit<Shared<V>, Error> {
        Shared::new(kick, apic::published(vm, id))
    }

    fn new_vcpu(vm: &Vm<Self>, id: u32, index: u32) -> impl Init<VcpuState<V>, Error> {
        VcpuState::new(vm, id, index)
    }

    fn vcpu_made(shared: &Shared<V>, state: &VcpuState<V>) {
        shared.set_tsc_offset(state.tsc.offset);
        if state.apic.is_some() {
            shared.set_timer_lead(state.link.timer_lead());
        }
    }

    fn vcpu_added(vm: &Vm<Self>, vcpu: &Vcpu<Self>) {
        msr_filter::vcpu_added(vm, vcpu);
        irqchip::vcpu_added(vm, vcpu);
    }

    fn take_notes(vcpu: &Shared<V>, written: &mut dyn FnMut(Gfn)) {
        V::Control::take_notes(vcpu.control(), written);
    }

    fn enable_cap(vm: ArcBorrow<'_, Vm<Self>>, wanted: &EnableCap) -> Result<u32> {
        ioctl::enable_cap::enable(&vm, wanted)
    }

    fn vm_ioctl(vm: ArcBorrow<'_, Vm<Self>>, request: u32, arg: usize) -> Result<u32> {
        ioctl::vm::ioctl(vm, request, arg)
    }

    fn vcpu_ioctl(mut held: Held<'_, Self>, request: u32, arg: usize) -> Result<u32> {
        ioctl::vcpu::ioctl(&mut held, request, arg)
    }

    fn vcpu_ioctl_unheld(
        _vm: ArcBorrow<'_, Vm<Self>>,
        _vcpu: &Vcpu<Self>,
        _request: u32,
        _arg: usize,
    ) -> Option<Result<u32>> {
        None
    }

    fn system_ioctl(request: u32, arg: usize) -> Result<u32> {
        ioctl::system::ioctl(request, arg)
    }
}
