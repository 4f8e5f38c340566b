// SPDX-License-Identifier: GPL-2.0
//! A virtual CPU, its file, and the table of those of a VM.

use crate::{
    arch::Arch,
    dirty_ring::DirtyRing,
    halt_poll::HaltPoll,
    memory::Flush,
    request::{Request, Requests, Taken},
    signals::SignalMask,
    stats::{self, VcpuStats, VmStats},
    vm::Vm,
    wiring,
};
use kernel::{
    error::Result,
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{Atomic, Relaxed, Release},
        Arc, ArcBorrow, SetOnce,
    },
};
use kvm_paging::addr::Gfn;
use kvm_sys::{
    anon_file::{AnonFile, Mapping},
    kick::{Inside, Kick},
    killable_mutex::KillableMutex,
    plain::Plain,
    process,
    runner::Runner,
    shared_page::SharedPage,
    trace::{kvm_dirty_ring_exit, kvm_userspace_exit},
};
use kvm_uapi::{
    ioctl::{self, KVMIO, KVM_GET_STATS_FD, KVM_RUN, KVM_SET_SIGNAL_MASK},
    run::offset,
};

/// A virtual CPU. It lives as long as its VM.
#[pin_data]
pub struct Vcpu<A: Arch> {
    id: u32,
    index: u32,
    /// What userspace maps of the vCPU's file, by page offset.
    pages: KVec<SharedPage>,
    /// The pages that it wrote to, if the VM has rings.
    ring: Option<Arc<DirtyRing>>,
    /// How others reach the thread that runs it.
    pub kick: Arc<Kick>,
    /// What others ask of it.
    pub requests: Arc<Requests>,
    stats: Arc<VcpuStats<A>>,
    signals: SignalMask,
    runner: Runner,
    pub(crate) poll: HaltPoll,
    #[pin]
    shared: A::VcpuShared,
    /// The vCPU's state; whoever is in an ioctl of its file holds it.
    #[pin]
    state: KillableMutex<A::Vcpu>,
}

impl<A: Arch> Vcpu<A> {
    /// A vCPU that has never run, to become the `index`th of `vm`.
    fn new<'a>(vm: &'a Vm<A>, id: u32, index: u32) -> impl PinInit<Self, Error> + use<'a, A> {
        pin_init::pin_init_scope(move || {
            let mut pages = KVec::new();
            for _ in 0..A::VCPU_OWN_PAGES {
                pages.push(SharedPage::new()?, GFP_KERNEL_ACCOUNT)?;
            }
            let counters = vm.stats().new_vcpu(id)?;
            let new_state = A::new_vcpu(vm, id, index);
            let kick = Arc::new(Kick::new(), GFP_KERNEL_ACCOUNT)?;
            let requests = Arc::new(Requests::new(), GFP_KERNEL_ACCOUNT)?;
            let ring = vm.rings().ring(index, &requests)?;
            let new_shared = A::new_vcpu_shared(vm, id, index, kick.clone());
            Ok(try_pin_init!(Self {
                id,
                index,
                pages,
                kick,
                requests,
                ring,
                stats: counters,
                signals: SignalMask::new(),
                runner: Runner::new(),
                poll: HaltPoll::new(),
                shared <- new_shared,
                state <- KillableMutex::new(new_state, c"kvm_vcpu", static_lock_class!()),
            }? Error)
            .pin_chain(|vcpu| {
                let this = vcpu.project();
                A::vcpu_made(&this.shared, this.state.data_mut());
                Ok(())
            }))
        })
    }

    /// The number that userspace gave it; unique within the VM.
    #[inline]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its place in the order of creation.
    #[inline]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The number of the thread that ran it last; 0 before there was one.
    pub(crate) fn thread_number(&self) -> u64 {
        self.runner.number().into()
    }

    /// The part that any thread may reach.
    #[inline]
    pub fn shared(&self) -> &A::VcpuShared {
        &self.shared
    }

    /// Its counters.
    #[inline]
    pub fn stats(&self) -> &Arc<VcpuStats<A>> {
        &self.stats
    }

    /// A page that it shares with userspace, 0 being `kvm_run`.
    #[inline]
    pub fn page(&self, offset: usize) -> Option<&SharedPage> {
        self.pages.get(offset)
    }

    /// Its dirty ring.
    pub(crate) fn ring(&self) -> Option<&Arc<DirtyRing>> {
        self.ring.as_ref()
    }

    /// Whether it may not enter its guest: what was taken of its requests says that its
    /// dirty ring is nearly full, and it is so still. Then all requests wait.
    #[inline]
    pub fn is_ring_full(&self, taken: Taken) -> bool {
        taken.has(Request::RING_FULL) && self.keeps_out(taken)
    }

    #[cold]
    fn keeps_out(&self, taken: Taken) -> bool {
        let is_full = self.ring().is_some_and(|ring| ring.is_nearly_full());
        if is_full {
            self.requests.put_back(taken);
            kvm_dirty_ring_exit(self.id);
        }
        is_full
    }

    /// `KVM_RUN` returns: tells who traces.
    #[inline]
    fn trace_return(&self, result: &Result<u32>) {
        kvm_userspace_exit(|| {
            let reason = self.page(0).map_or(0, |page| page.read::<u32, { offset::EXIT_REASON }>());
            (reason, result.as_ref().map_or_else(|error| error.to_errno(), |_| 0))
        });
    }

    /// Leaves a request and gets the vCPU's attention. Doesn't wait.
    pub fn request(&self, request: Request) {
        self.requests.set(request);
        self.kick.kick();
    }
}

/// A vCPU in the hands of the one thread that may use its state.
pub struct Held<'a, A: Arch> {
    /// The VM.
    pub vm: ArcBorrow<'a, Vm<A>>,
    /// What everybody sees of the vCPU.
    pub vcpu: &'a Vcpu<A>,
    /// Its state.
    pub state: &'a mut A::Vcpu,
}

/// What a vCPU's descriptor refers to. It keeps the VM.
pub struct VcpuFile<A: Arch> {
    vm: Arc<Vm<A>>,
    vcpu: Arc<Vcpu<A>>,
}

impl<A: Arch> VcpuFile<A> {
    /// The file of a vCPU of `vm`.
    pub fn new(vm: Arc<Vm<A>>, vcpu: Arc<Vcpu<A>>) -> Self {
        Self { vm, vcpu }
    }
}

impl<A: Arch> AnonFile for VcpuFile<A> {
    type Module = A::Module;
    const COMPAT: bool = A::COMPAT;
    const MAPPABLE: bool = true;

    fn ioctl(this: ArcBorrow<'_, Self>, request: u32, arg: usize) -> Result<u32> {
        this.vm.check_caller()?;
        if ioctl::type_of(request) != KVMIO {
            return Err(EINVAL);
        }
        let vm = this.vm.as_arc_borrow();
        let vcpu = &*this.vcpu;
        if request == KVM_GET_STATS_FD {
            return stats::open_vcpu(vcpu);
        }
        if let Some(result) = A::vcpu_ioctl_unheld(vm, vcpu, request, arg) {
            return result;
        }
        let mut state = vcpu.state.lock()?;
        let held = Held { vm, vcpu, state: &mut state };
        match request {
            KVM_RUN => {
                vcpu.runner.set_current();
                let result = vcpu.signals.with(|| A::vcpu_ioctl(held, request, arg));
                vcpu.trace_return(&result);
                result
            }
            KVM_SET_SIGNAL_MASK => vcpu.signals.set(arg),
            _ => A::vcpu_ioctl(held, request, arg),
        }
    }

    fn page(&self, offset: usize) -> Option<&SharedPage> {
        if wiring::coalesced_page::<A>().is_some_and(|page| page as usize == offset) {
            return self.vm.io().ring().page();
        }
        if let (Some(ring), Some(begin)) = (self.vcpu.ring(), A::DIRTY_RING_PAGE) {
            if let Some(offset) = offset.checked_sub(begin as usize) {
                return ring.page(offset);
            }
        }
        self.vcpu.page(offset)
    }

    fn may_map(&self, mapping: &Mapping) -> bool {
        let Some(begin) = A::DIRTY_RING_PAGE else { return true };
        self.vcpu.ring().is_none_or(|ring| ring.may_map(begin as usize, mapping))
    }
}

/// What each vCPU of a VM has lies in so many chunks of so many; chunks come when they are needed.
pub(crate) const CHUNKS: usize = 16;
pub(crate) const CHUNK: usize = 64;
type Chunk<A> = [SetOnce<Arc<Vcpu<A>>>; CHUNK];

/// The vCPUs of a VM in order of creation. Only grows, so that looking one up
/// takes no lock.
pub struct VcpuTable<A: Arch> {
    chunks: [SetOnce<KBox<Chunk<A>>>; CHUNKS],
    count: Atomic<u32>,
    /// Whom a vCPU that waited gave its time to last.
    last_yielded_to: Atomic<u32>,
    stats: Arc<VmStats<A>>,
}

impl<A: Arch> VcpuTable<A> {
    /// Most vCPUs that fit.
    pub const CAPACITY: u32 = (CHUNKS as u32).saturating_mul(CHUNK as u32);

    /// No vCPUs of a VM with these counters.
    pub(crate) const fn new(stats: Arc<VmStats<A>>) -> Self {
        Self {
            chunks: [const { SetOnce::new() }; CHUNKS],
            count: Atomic::new(0),
            last_yielded_to: Atomic::new(0),
            stats,
        }
    }

    /// Number of vCPUs; those with a lower index are there.
    pub fn count(&self) -> u32 {
        self.count.get_acquire()
    }

    /// The vCPU with an index below [`Self::count`].
    pub fn get(&self, index: u32) -> Option<&Arc<Vcpu<A>>> {
        let (chunk, slot) = position(index);
        self.chunks.get(chunk)?.as_ref()?.get(slot)?.as_ref()
    }

    /// All vCPUs in order of creation; those that come meanwhile may be missed.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Vcpu<A>>> {
        (0..self.count()).filter_map(|index| self.get(index))
    }

    /// Leaves a request with every vCPU and waits until none is inside its guest
    /// as it was before: each has seen the request when it enters again. Sleeping
    /// ones are not woken. Interrupts must be on.
    pub fn request_all(&self, request: Request) {
        self.request_those(request, |_| true);
    }

    /// As [`Self::request_all`], of those vCPUs that `wanted` names.
    pub fn request_those(&self, request: Request, wanted: impl Fn(&Vcpu<A>) -> bool) {
        let mut inside = Inside::new();
        for vcpu in self.iter().filter(|vcpu| wanted(vcpu)) {
            vcpu.requests.set(request);
            inside.add(&vcpu.kick);
        }
        inside.interrupt_and_wait();
    }

    /// Gives the CPU time of `from`'s thread to that of the vCPU with an index, if it
    /// wants to run and doesn't; whether it did. Negative: not now.
    pub fn yield_to(&self, from: &Vcpu<A>, index: u32) -> i32 {
        match self.get(index) {
            Some(to) if index != from.index && !process::is_alone() => to.runner.yield_to(),
            _ => 0,
        }
    }

    /// `from` waits for another vCPU: gives its thread's CPU time to one of them, each
    /// in its turn. Whether one took it.
    pub fn yield_to_any(&self, from: &Vcpu<A>) -> bool {
        /// Refusals before it gives up.
        const TRIES: u32 = 3;
        let count = self.count();
        let last = self.last_yielded_to.load(Relaxed);
        let mut refused = 0u32;
        for step in 1..=count {
            let Some(index) = last.wrapping_add(step).checked_rem(count) else { return false };
            let result = self.yield_to(from, index);
            if result > 0 {
                self.last_yielded_to.store(index, Relaxed);
                return true;
            }
            refused = refused.saturating_add(u32::from(result < 0));
            if refused >= TRIES {
                break;
            }
        }
        false
    }

    /// Whether a vCPU has this id.
    pub(crate) fn has_id(&self, id: u32) -> bool {
        (0..self.count()).any(|index| self.get(index).is_some_and(|vcpu| vcpu.id() == id))
    }

    /// Makes the next vCPU. Callers keep each other out with the VM's lock.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; the architecture's.
    pub(crate) fn make(&self, vm: &Vm<A>, id: u32) -> Result<Arc<Vcpu<A>>> {
        Arc::pin_init(Vcpu::new(vm, id, self.count.load(Relaxed)), GFP_KERNEL_ACCOUNT)
    }

    /// Adds the vCPU that was made last. Callers keep each other out as before.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` if the table is full.
    pub(crate) fn push(&self, vcpu: Arc<Vcpu<A>>) -> Result {
        let index = self.count.load(Relaxed);
        let (chunk, slot) = position(index);
        let chunk = self.chunks.get(chunk).ok_or(EINVAL)?;
        if chunk.as_ref().is_none() {
            chunk.populate(KBox::new([const { SetOnce::new() }; CHUNK], GFP_KERNEL_ACCOUNT)?);
        }
        let slot = chunk.as_ref().and_then(|chunk| chunk.get(slot)).ok_or(EINVAL)?;
        if !slot.populate(vcpu) {
            return Err(EEXIST);
        }
        self.count.store(index.saturating_add(1), Release);
        Ok(())
    }
}

impl<A: Arch> Flush for VcpuTable<A> {
    fn flush(&self, first: Gfn, frames: u64) {
        self.stats.generic.remote_tlb_flush_requests.add_shared(1);
        A::flush(self, first, frames);
        self.stats.generic.remote_tlb_flush.add_shared(1);
    }

    fn take_notes(&self, written: &mut dyn FnMut(Gfn)) {
        // What a processor notes is there when it is out of the guest.
        self.request_all(Request::LOOK);
        for vcpu in self.iter() {
            A::take_notes(vcpu.shared(), written);
        }
    }
}

/// Chunk of an index, and slot within it.
const fn position(index: u32) -> (usize, usize) {
    let index = index as usize;
    (index / CHUNK, index % CHUNK)
}
