// SPDX-License-Identifier: GPL-2.0
//! The counters of VMs and vCPUs, and the files that show them
//! (`KVM_GET_STATS_FD`).
//!
//! Counters outlive what they count, for as long as somebody has a file of them
//! open.

use crate::{
    arch::Arch,
    memory::section::Sections,
    vcpu::Vcpu,
    vm::Vm,
    wiring::{self, OfVcpu, OfVm},
};
use core::marker::PhantomData;
use kernel::{
    current,
    error::Result,
    new_mutex,
    prelude::*,
    str::CString,
    sync::{Arc, ArcBorrow, Mutex, SetOnce},
    uaccess::UserSliceWriter,
};
use kvm_event::{
    statistics,
    stats::{padded, Cell, Descriptor, Layout, Statistics, NAME},
};
use kvm_sys::{
    anon_file::{AnonFile, Opening},
    kick::Woken,
    timer,
    trace::kvm_vcpu_wakeup,
};

statistics! {
    /// What every VM counts.
    pub struct VmGeneric {
        /// Times that all vCPUs had to drop translations.
        remote_tlb_flush: counter,
        /// Times that this was asked for.
        remote_tlb_flush_requests: counter,
    }
}

statistics! {
    /// What every vCPU counts.
    pub struct VcpuGeneric {
        /// Polls that saw the vCPU woken.
        halt_successful_poll: counter,
        /// Polls.
        halt_attempted_poll: counter,
        /// Polls that ended for nothing.
        halt_poll_invalid: counter,
        /// Wake-ups from sleep.
        halt_wakeup: counter,
        /// Time in successful polls.
        halt_poll_success_ns: time,
        /// Time in others.
        halt_poll_fail_ns: time,
        /// Time asleep.
        halt_wait_ns: time,
        /// Successful polls by length.
        halt_poll_success_hist: time_histogram,
        /// Others by length.
        halt_poll_fail_hist: time_histogram,
        /// Sleeps by length.
        halt_wait_hist: time_histogram,
        /// Whether it sleeps.
        blocking: flag,
    }
}

/// A set of counters that a file shows.
pub(crate) trait Shown: Send + Sync + 'static {
    /// What is in it: what all architectures have, then the rest.
    const LISTS: [&'static [Descriptor]; 2];
    /// Its name.
    fn name(&self) -> &[u8; NAME];
    /// Shows the cells of each statistic, in order.
    fn visit<'a>(&'a self, show: &mut dyn FnMut(&'a [Cell]));
}

/// The counters of a VM.
#[pin_data]
pub struct VmStats<A: Arch> {
    /// What every VM counts.
    pub generic: VmGeneric,
    /// What the architecture counts.
    pub arch: OfVm<A>,
    name: [u8; NAME],
    /// Where mappings are counted.
    pub(crate) sections: SetOnce<Arc<Sections>>,
    /// Those of its vCPUs.
    #[pin]
    vcpus: Mutex<KVec<Arc<VcpuStats<A>>>>,
}

/// The counters of a vCPU. Only the thread that holds the vCPU counts, unless a
/// counter says otherwise.
pub struct VcpuStats<A: Arch> {
    /// What every vCPU counts.
    pub generic: VcpuGeneric,
    /// What the architecture counts.
    pub arch: OfVcpu<A>,
    name: [u8; NAME],
}

impl<A: Arch> VcpuStats<A> {
    /// Counts a sleep of the vCPU's thread, and for how long it was.
    pub fn count_sleep(&self, sleep: impl FnOnce() -> Woken) -> Woken {
        let counters = &self.generic;
        counters.blocking.set(1);
        let start = timer::now();
        let woken = sleep();
        let length = u64::try_from(timer::now().saturating_sub(start)).unwrap_or(0);
        counters.blocking.set(0);
        counters.halt_wait_ns.add(length);
        counters.halt_wait_hist.record(length);
        kvm_vcpu_wakeup(|| (length, true, woken == Woken::Ready));
        if woken == Woken::Ready {
            counters.halt_wakeup.add(1);
        }
        woken
    }
}

impl<A: Arch> VmStats<A> {
    /// Counters for a VM of the current process.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let name = CString::try_from_fmt(fmt!("kvm-{}", current!().pid()))?;
        Arc::pin_init(
            pin_init!(Self {
                generic: Statistics::ZERO,
                arch: Statistics::ZERO,
                name: padded(name.to_bytes()),
                sections: SetOnce::new(),
                vcpus <- new_mutex!(KVec::new(), "kvm_stats"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Counters for a vCPU of this VM.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new_vcpu(&self, id: u32) -> Result<Arc<VcpuStats<A>>> {
        let name = CString::try_from_fmt(fmt!("kvm-{}/vcpu-{id}", current!().pid()))?;
        let stats = VcpuStats {
            generic: Statistics::ZERO,
            arch: Statistics::ZERO,
            name: padded(name.to_bytes()),
        };
        Ok(Arc::new(stats, GFP_KERNEL_ACCOUNT)?)
    }

    /// A vCPU is part of the VM now.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn add_vcpu(&self, stats: Arc<VcpuStats<A>>) -> Result {
        Ok(self.vcpus.lock().push(stats, GFP_KERNEL_ACCOUNT)?)
    }

    /// Shows the counters of each vCPU.
    pub(crate) fn for_each_vcpu(&self, mut show: impl FnMut(&VcpuStats<A>)) {
        self.vcpus.lock().iter().for_each(|vcpu| show(vcpu));
    }

    /// The vCPU that came last isn't part of it after all.
    pub(crate) fn drop_newest_vcpu(&self) {
        drop(self.vcpus.lock().pop());
    }
}

impl<A: Arch> Shown for VmStats<A> {
    const LISTS: [&'static [Descriptor]; 2] =
        [<VmGeneric as Statistics>::LIST, <OfVm<A> as Statistics>::LIST];

    fn name(&self) -> &[u8; NAME] {
        &self.name
    }

    fn visit<'a>(&'a self, show: &mut dyn FnMut(&'a [Cell])) {
        if let Some(sections) = self.sections.as_ref() {
            wiring::show_mappings::<A>(&self.arch, sections.mappings());
        }
        self.generic.visit(show);
        self.arch.visit(show);
    }
}

impl<A: Arch> Shown for VcpuStats<A> {
    const LISTS: [&'static [Descriptor]; 2] =
        [<VcpuGeneric as Statistics>::LIST, <OfVcpu<A> as Statistics>::LIST];

    fn name(&self) -> &[u8; NAME] {
        &self.name
    }

    fn visit<'a>(&'a self, show: &mut dyn FnMut(&'a [Cell])) {
        self.generic.visit(show);
        self.arch.visit(show);
    }
}

/// A file of a set of counters.
struct StatsFile<A, S> {
    stats: Arc<S>,
    /// All of the file that never changes: what comes before the values.
    head: KVVec<u8>,
    _arch: PhantomData<fn() -> A>,
}

impl<A: Arch, S: Shown> StatsFile<A, S> {
    /// Opens one.
    fn open(name: &CStr, stats: Arc<S>) -> Result<u32> {
        let head = head(&*stats)?;
        let file = Arc::new(Self { stats, head, _arch: PhantomData }, GFP_KERNEL_ACCOUNT)?;
        Ok(Opening::new(name, file)?.finish())
    }
}

/// The head of a file, its name, and the descriptors.
fn head<S: Shown>(stats: &S) -> Result<KVVec<u8>> {
    let all = || S::LISTS.into_iter().flatten();
    let layout = Layout::new(all().count());
    let mut head = KVVec::with_capacity(layout.values as usize, GFP_KERNEL_ACCOUNT)?;
    head.extend_from_slice(&layout.head(), GFP_KERNEL_ACCOUNT)?;
    head.extend_from_slice(stats.name(), GFP_KERNEL_ACCOUNT)?;
    let mut offset = 0u32;
    for one in all() {
        head.extend_from_slice(&one.bytes(offset), GFP_KERNEL_ACCOUNT)?;
        offset = offset.saturating_add(u32::from(one.size).saturating_mul(8));
    }
    Ok(head)
}

/// The values of a file.
fn values<S: Shown>(stats: &S) -> Result<KVVec<u8>> {
    let mut values = KVVec::new();
    let mut result = Ok(());
    stats.visit(&mut |cells| {
        for cell in cells {
            if result.is_ok() {
                let bytes = cell.get().to_ne_bytes();
                result = values.extend_from_slice(&bytes, GFP_KERNEL_ACCOUNT);
            }
        }
    });
    Ok(result.map(|()| values)?)
}

impl<A: Arch, S: Shown> AnonFile for StatsFile<A, S> {
    type Module = A::Module;
    const COMPAT: bool = false;
    const READABLE: bool = true;

    fn read(
        this: ArcBorrow<'_, Self>,
        buffer: &mut UserSliceWriter,
        position: usize,
    ) -> Result<usize> {
        let count = buffer.write_slice_partial(&this.head, position)?;
        if buffer.is_empty() {
            return Ok(count);
        }
        let from = position.saturating_add(count).saturating_sub(this.head.len());
        let more = buffer.write_slice_partial(&values(&*this.stats)?, from)?;
        Ok(count.saturating_add(more))
    }
}

/// `KVM_GET_STATS_FD` on a VM.
///
/// # Errors
///
/// `ENOMEM`; those of [`Opening::new`].
pub fn open_vm<A: Arch>(vm: &Vm<A>) -> Result<u32> {
    StatsFile::<A, _>::open(c"kvm-vm-stats", vm.stats().clone())
}

/// `KVM_GET_STATS_FD` on a vCPU.
///
/// # Errors
///
/// `ENOMEM`; those of [`Opening::new`].
pub fn open_vcpu<A: Arch>(vcpu: &Vcpu<A>) -> Result<u32> {
    let name = CString::try_from_fmt(fmt!("kvm-vcpu-stats:{}", vcpu.id()))?;
    StatsFile::<A, _>::open(&name, vcpu.stats().clone())
}
