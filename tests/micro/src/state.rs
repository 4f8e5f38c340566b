// SPDX-License-Identifier: GPL-2.0
//! All state of a vCPU: taken out and put in as QEMU does, in its order.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use kvm_bindings as abi;

use super::request::{self, exchange, give};
use super::vcpu::Vcpu;

/// The deadline of the local APIC's timer, which goes in after the local APIC and the counter.
pub const TSC_DEADLINE: u32 = 0x6e0;

/// Most registers that one ioctl takes.
const MOST: usize = 255;

/// `struct kvm_msrs` with entries.
#[repr(C)]
struct Msrs {
    count: u32,
    padding: u32,
    entries: [abi::kvm_msr_entry; MOST],
}

/// `struct kvm_msr_list` with indices.
#[repr(C)]
struct List {
    count: u32,
    indices: [u32; MOST],
}

/// The XSAVE image.
#[derive(Clone)]
#[repr(C, align(64))]
struct Xsave([u8; 4096]);

impl Default for Xsave {
    fn default() -> Self {
        Self([0; 4096])
    }
}

/// The numbers of all MSRs that are state.
pub fn msr_numbers(kvm: &File) -> Result<Vec<u32>> {
    let mut list = List { count: MOST as u32, indices: [0; MOST] };
    exchange(kvm, request::GET_MSR_INDEX_LIST, &mut list).context("KVM_GET_MSR_INDEX_LIST")?;
    let count = list.count as usize;
    Ok(list.indices.get(..count).context("too many MSRs")?.to_vec())
}

/// What is to be saved of a vCPU that has its local APIC in the kernel.
#[derive(Clone)]
pub struct State {
    /// What is to be delivered.
    pub events: abi::kvm_vcpu_events,
    /// Whether it runs.
    pub activity: abi::kvm_mp_state,
    /// General registers.
    pub regs: abi::kvm_regs,
    xsave: Xsave,
    xcrs: abi::kvm_xcrs,
    /// Segments and control registers.
    pub sregs: abi::kvm_sregs2,
    /// MSRs.
    pub msrs: Vec<abi::kvm_msr_entry>,
    /// The local APIC.
    pub lapic: abi::kvm_lapic_state,
    /// Debug registers.
    pub debug: abi::kvm_debugregs,
}

impl State {
    /// Takes it out of `vcpu`, with these MSRs.
    pub fn take(vcpu: &Vcpu, msrs: &[u32]) -> Result<Self> {
        Ok(Self {
            events: vcpu.events()?,
            // May put INIT and start-up messages into effect: before the registers.
            activity: vcpu.get(request::GET_MP_STATE)?,
            regs: vcpu.regs()?,
            xsave: vcpu.get(request::GET_XSAVE)?,
            xcrs: vcpu.get(request::GET_XCRS)?,
            sregs: vcpu.get(request::GET_SREGS2)?,
            msrs: take_msrs(vcpu, msrs)?,
            lapic: vcpu.get(request::GET_LAPIC)?,
            debug: vcpu.get(request::GET_DEBUGREGS)?,
        })
    }

    /// Puts it into `vcpu`, which may have run.
    pub fn put(&self, vcpu: &Vcpu) -> Result<()> {
        let mut sregs = vcpu.sregs()?;
        sregs.apic_base = self.sregs.apic_base;
        vcpu.set_sregs(&sregs)?;
        vcpu.set(request::SET_LAPIC, &self.lapic)?;
        vcpu.set(request::SET_SREGS2, &self.sregs)?;
        vcpu.set_regs(&self.regs)?;
        vcpu.set(request::SET_XSAVE, &self.xsave)?;
        vcpu.set(request::SET_XCRS, &self.xcrs)?;
        let is_last = |msr: &&abi::kvm_msr_entry| msr.index == TSC_DEADLINE;
        put_msrs(vcpu, self.msrs.iter().filter(|msr| !is_last(msr)))?;
        vcpu.set(request::SET_VCPU_EVENTS, &self.events)?;
        vcpu.set(request::SET_MP_STATE, &self.activity)?;
        put_msrs(vcpu, self.msrs.iter().filter(is_last))?;
        vcpu.set(request::SET_DEBUGREGS, &self.debug)
    }

    /// The value of an MSR.
    pub fn msr(&self, index: u32) -> Option<u64> {
        self.msrs.iter().find(|msr| msr.index == index).map(|msr| msr.data)
    }
}

fn take_msrs(vcpu: &Vcpu, numbers: &[u32]) -> Result<Vec<abi::kvm_msr_entry>> {
    let mut list = Msrs { count: 0, padding: 0, entries: [abi::kvm_msr_entry::default(); MOST] };
    for (entry, index) in list.entries.iter_mut().zip(numbers) {
        entry.index = *index;
        list.count += 1;
    }
    let count = exchange(vcpu.file(), request::GET_MSRS, &mut list).context("KVM_GET_MSRS")?;
    ensure!(count as usize == numbers.len(), "only {count} of {} MSRs", numbers.len());
    Ok(list.entries[..numbers.len()].to_vec())
}

fn put_msrs<'a>(vcpu: &Vcpu, msrs: impl Iterator<Item = &'a abi::kvm_msr_entry>) -> Result<()> {
    let mut list = Msrs { count: 0, padding: 0, entries: [abi::kvm_msr_entry::default(); MOST] };
    for (entry, msr) in list.entries.iter_mut().zip(msrs) {
        *entry = *msr;
        list.count += 1;
    }
    let count = give(vcpu.file(), request::SET_MSRS, &list).context("KVM_SET_MSRS")?;
    let refused = list.entries.get(count as usize).map_or(0, |entry| entry.index);
    ensure!(count as u32 == list.count, "MSR {refused:#x} can't be set");
    Ok(())
}
