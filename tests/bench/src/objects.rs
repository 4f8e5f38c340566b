// SPDX-License-Identifier: GPL-2.0
//! What VMs, vCPUs and memory slots cost, ioctl by ioctl, with the way into the kernel and back.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use kvm_bindings as abi;
use micro::device;
use micro::ram::Ram;
use micro::request::{self, make};
use micro::vcpu::Vcpu;
use micro::vm::Vm;
use nix::sys::mman::MapFlags;

use crate::sample::{Bench, Figure, SAMPLES, now, sample};

pub(crate) const BENCHES: &[Bench] = &[
    Bench { name: "vm/create", what: "KVM_CREATE_VM", body: vm_create },
    Bench { name: "vm/destroy", what: "closing a VM that has nothing", body: vm_destroy },
    Bench { name: "vm/vcpu-create", what: "KVM_CREATE_VCPU with a local APIC", body: vcpu_create },
    Bench { name: "vm/slot-add", what: "a new memory slot of 2 MiB", body: slot_add },
    Bench { name: "vm/slot-remove", what: "its removal, nothing mapped", body: slot_remove },
    Bench { name: "vm/get-regs", what: "KVM_GET_REGS", body: get_regs },
    Bench { name: "vm/get-sregs", what: "KVM_GET_SREGS", body: get_sregs },
    Bench { name: "vm/get-xsave", what: "KVM_GET_XSAVE", body: get_xsave },
    Bench { name: "vm/get-msrs", what: "KVM_GET_MSRS of twelve", body: get_msrs },
    Bench { name: "vm/get-lapic", what: "KVM_GET_LAPIC", body: get_lapic },
    Bench { name: "vm/get-events", what: "KVM_GET_VCPU_EVENTS", body: get_events },
    Bench { name: "vm/state-get", what: "all GET ioctls of a vCPU", body: state_get },
    Bench { name: "vm/state-set", what: "all SET ioctls of a vCPU", body: state_set },
];

/// Takes samples of the first or second half of what `work` does; it tells the time in between.
fn half(first: bool, mut work: impl FnMut() -> Result<u64>) -> Result<Figure> {
    work()?;
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let start = now();
        let middle = work()?;
        let end = now();
        samples.push(if first { middle - start } else { end - middle });
    }
    Figure::instructions(samples, 1)
}

fn vm_life(first: bool) -> Result<Figure> {
    let kvm = device::open()?;
    half(first, || {
        let vm = make(&kvm, request::CREATE_VM, 0).context("KVM_CREATE_VM")?;
        let middle = now();
        drop(vm);
        Ok(middle)
    })
}

fn vm_create() -> Result<Figure> {
    vm_life(true)
}

fn vm_destroy() -> Result<Figure> {
    vm_life(false)
}

fn vcpu_create() -> Result<Figure> {
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let vm = Vm::new()?;
        vm.create_irqchip()?;
        let make = |id| make(vm.file(), request::CREATE_VCPU, id).context("KVM_CREATE_VCPU");
        let _first: File = make(0)?;
        let start = now();
        let second = make(1);
        samples.push(now() - start);
        second?;
    }
    Figure::instructions(samples, 1)
}

/// Adds a slot and removes it.
fn slot_life(first: bool) -> Result<Figure> {
    let vm = Vm::new()?;
    let ram = Ram::with_flags(2 << 20, MapFlags::MAP_PRIVATE)?;
    let slot = vm.slot(1, 1 << 30, &ram);
    let none = abi::kvm_userspace_memory_region { memory_size: 0, ..slot };
    half(first, || {
        vm.set_slot(&slot).context("adding a slot")?;
        let middle = now();
        vm.set_slot(&none).context("removing it")?;
        Ok(middle)
    })
}

fn slot_add() -> Result<Figure> {
    slot_life(true)
}

fn slot_remove() -> Result<Figure> {
    slot_life(false)
}

/// What QEMU moves from one host to another of each vCPU, but for MSRs beyond a few.
struct State {
    regs: abi::kvm_regs,
    sregs: abi::kvm_sregs,
    fpu: [u32; 1024],
    xcrs: abi::kvm_xcrs,
    debug: abi::kvm_debugregs,
    events: abi::kvm_vcpu_events,
    lapic: abi::kvm_lapic_state,
    mp: abi::kvm_mp_state,
    msrs: Msrs,
}

/// `struct kvm_msrs` with those of every Linux guest.
#[repr(C)]
#[derive(Clone, Copy)]
struct Msrs {
    count: u32,
    padding: u32,
    entries: [abi::kvm_msr_entry; MSRS.len()],
}

const MSRS: [u32; 12] = [
    0x10,
    0x174,
    0x175,
    0x176,
    0x1a0,
    0x277,
    0xc000_0081,
    0xc000_0082,
    0xc000_0083,
    0xc000_0084,
    0xc000_0102,
    0x4b56_4d00,
];

impl Msrs {
    fn new() -> Self {
        let entry = |index| abi::kvm_msr_entry { index, ..Default::default() };
        Self { count: MSRS.len() as u32, padding: 0, entries: MSRS.map(entry) }
    }
}

fn with_apic() -> Result<(Vm, Vcpu)> {
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    let vcpu = vm.vcpu(0)?;
    Ok((vm, vcpu))
}

fn get(vcpu: &Vcpu) -> Result<State> {
    let file = vcpu.file();
    let mut fpu = [0u32; 1024];
    request::exchange(file, request::GET_XSAVE, &mut fpu).context("KVM_GET_XSAVE")?;
    let mut msrs = Msrs::new();
    let count = request::exchange(file, request::GET_MSRS, &mut msrs).context("KVM_GET_MSRS")?;
    ensure!(count as usize == MSRS.len(), "{count} MSRs read");
    Ok(State {
        regs: vcpu.regs()?,
        sregs: vcpu.sregs()?,
        fpu,
        xcrs: vcpu.get(request::GET_XCRS)?,
        debug: vcpu.get(request::GET_DEBUGREGS)?,
        events: vcpu.events()?,
        lapic: vcpu.get(request::GET_LAPIC)?,
        mp: vcpu.get(request::GET_MP_STATE)?,
        msrs,
    })
}

fn set(vcpu: &Vcpu, state: &State) -> Result<()> {
    vcpu.set_sregs(&state.sregs)?;
    vcpu.set_regs(&state.regs)?;
    vcpu.set(request::SET_XSAVE, &state.fpu)?;
    vcpu.set(request::SET_XCRS, &state.xcrs)?;
    let count = request::give(vcpu.file(), request::SET_MSRS, &state.msrs);
    ensure!(count.context("KVM_SET_MSRS")? as usize == MSRS.len(), "not all MSRs set");
    vcpu.set(request::SET_DEBUGREGS, &state.debug)?;
    vcpu.set(request::SET_LAPIC, &state.lapic)?;
    vcpu.set(request::SET_VCPU_EVENTS, &state.events)?;
    vcpu.set(request::SET_MP_STATE, &state.mp)
}

/// One ioctl of a vCPU.
fn one(mut work: impl FnMut(&Vcpu) -> Result<()>) -> Result<Figure> {
    let (_vm, vcpu) = with_apic()?;
    Figure::instructions(sample(|| work(&vcpu))?, 1)
}

fn get_regs() -> Result<Figure> {
    one(|vcpu| vcpu.regs().map(|_| ()))
}

fn get_sregs() -> Result<Figure> {
    one(|vcpu| vcpu.sregs().map(|_| ()))
}

fn get_xsave() -> Result<Figure> {
    let mut area = [0u32; 1024];
    one(|vcpu| {
        request::exchange(vcpu.file(), request::GET_XSAVE, &mut area).context("KVM_GET_XSAVE")?;
        Ok(())
    })
}

fn get_msrs() -> Result<Figure> {
    one(|vcpu| {
        let mut msrs = Msrs::new();
        let count = request::exchange(vcpu.file(), request::GET_MSRS, &mut msrs)?;
        ensure!(count as usize == MSRS.len(), "{count} MSRs read");
        Ok(())
    })
}

fn get_lapic() -> Result<Figure> {
    one(|vcpu| vcpu.get::<abi::kvm_lapic_state>(request::GET_LAPIC).map(|_| ()))
}

fn get_events() -> Result<Figure> {
    one(|vcpu| vcpu.events().map(|_| ()))
}

fn state_get() -> Result<Figure> {
    let (_vm, vcpu) = with_apic()?;
    Figure::instructions(sample(|| get(&vcpu).map(|_| ()))?, 1)
}

fn state_set() -> Result<Figure> {
    let (_vm, vcpu) = with_apic()?;
    let mut state = get(&vcpu)?;
    state.regs.rbx = 0x1234_5678;
    let figure = Figure::instructions(sample(|| set(&vcpu, &state))?, 1)?;
    ensure!(vcpu.regs()?.rbx == state.regs.rbx, "the registers weren't set");
    Ok(figure)
}
