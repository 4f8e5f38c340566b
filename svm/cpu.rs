// SPDX-License-Identifier: GPL-2.0
//! What each CPU has: a page for the host's state, and its address space
//! identifiers.
//!
//! Translations in a CPU's TLB carry the identifier (ASID) of the guest that they
//! belong to (APM vol. 2, 15.16). A vCPU gets one that its CPU has never used in
//! this generation; when they run out, the next generation begins with an empty
//! TLB. That is also how a guest is flushed where the processor can't flush by
//! ASID.

use crate::global::Global;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};
use kvm_sys::{plain::Plain, preempt::Pinned};
use svm_arch::{caps::SvmFeatures, vmcb::TlbControl};
use svm_hw::HostState;

/// A CPU's state. Its numbers change on that CPU only, with interrupts off.
pub(crate) struct CpuState {
    pub(crate) host: HostState,
    generation: Atomic<u64>,
    /// The next identifier that this generation hasn't used; 0 before the first.
    next: Atomic<u32>,
}

impl CpuState {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            host: HostState::new()?,
            // A new vCPU's generation is 0 and never current.
            generation: Atomic::new(1),
            next: Atomic::new(0),
        })
    }
}

/// The identifier that a vCPU has.
pub(crate) struct AsidOwner {
    cpu: u32,
    generation: u64,
    number: u32,
}

/// What an entry has to tell the processor.
pub(crate) struct Asid {
    pub(crate) number: u32,
    pub(crate) flush: TlbControl,
    /// The vCPU ran elsewhere last.
    pub(crate) is_new_cpu: bool,
}

impl AsidOwner {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self { cpu: u32::MAX, generation: 0, number: 0 }
    }

    /// The identifier for an entry on this CPU, with nothing of the guest left in
    /// the TLB if `flush`.
    pub(crate) fn on_this_cpu(
        &mut self,
        global: &Global,
        cpu: &CpuState,
        pinned: Pinned<'_>,
        flush: bool,
    ) -> Asid {
        let here = pinned.number();
        let is_new_cpu = self.cpu != here;
        let generation = cpu.generation.get();
        if !is_new_cpu && self.generation == generation {
            if !flush {
                return Asid { number: self.number, flush: TlbControl::Nothing, is_new_cpu };
            }
            if global.caps.features.contains(SvmFeatures::FLUSH_BY_ASID) {
                return Asid { number: self.number, flush: TlbControl::Guest, is_new_cpu };
            }
        }
        self.cpu = here;
        let flush = self.take_new(global, cpu, generation);
        Asid { number: self.number, flush, is_new_cpu }
    }

    fn take_new(&mut self, global: &Global, cpu: &CpuState, generation: u64) -> TlbControl {
        let next = cpu.next.load(Relaxed);
        // ASID 0 is the host's.
        let is_over = next == 0 || next >= global.caps.asids;
        let number = if is_over { 1 } else { next };
        self.generation = if is_over { generation.wrapping_add(1) } else { generation };
        self.number = number;
        cpu.generation.store(self.generation, Relaxed);
        cpu.next.store(number.wrapping_add(1), Relaxed);
        if is_over {
            TlbControl::All
        } else {
            TlbControl::Nothing
        }
    }
}
