// SPDX-License-Identifier: GPL-2.0
//! A virtual machine, its file and its ioctls.
//!
//! Lifetime: the VM's file and each vCPU's file hold a reference, in whatever
//! order they are closed; the VM owns its vCPUs. The process that made it is
//! known by its address space, and nobody else may use the files.
//!
//! Locks: one orders the creation of vCPUs, one (in `memory`) changes of the
//! slots. Both may be held while memory is allocated; neither is taken inside the
//! other.

use crate::{
    arch::Arch,
    capability,
    debugfs::Listed,
    dirty_ring::{self, Rings},
    io_bus::Io,
    irq_route::Irq,
    memory::{self, Memory},
    params,
    stats::VmStats,
    vcpu::{VcpuFile, VcpuTable},
    wiring,
};
use kernel::{
    error::Result,
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, ArcBorrow, Mutex, SetOnce,
    },
};
use kvm_paging::{flush::FlushDebt, ring::Batch};
use kvm_sys::{
    anon_file::{AnonFile, Opening},
    mmu_notifier::Registration,
    process::AddressSpace,
    user,
};
use kvm_uapi::{
    cap::{KVM_CAP_DIRTY_LOG_RING, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, KVM_CAP_HALT_POLL},
    ioctl::{
        KVM_CHECK_EXTENSION, KVM_CREATE_GUEST_MEMFD, KVM_CREATE_VCPU, KVM_ENABLE_CAP,
        KVM_RESET_DIRTY_RINGS,
    },
    vcpu::EnableCap,
};

/// No length of busy waits.
const NOT_CHOSEN: u64 = u64::MAX;

/// A virtual machine.
#[pin_data]
pub struct Vm<A: Arch> {
    /// What others see of it. Goes before all that it shows.
    listed: SetOnce<Listed<A>>,
    owner: AddressSpace,
    /// Held while a vCPU is made.
    #[pin]
    create: Mutex<()>,
    vcpus: Arc<VcpuTable<A>>,
    #[pin]
    arch: A::Vm,
    #[pin]
    memory: Registration<Memory<A>>,
    /// The second address space, once it was used.
    second: SetOnce<Arc<Registration<Memory<A>>>>,
    #[pin]
    rings: Rings,
    #[pin]
    io: Io<A>,
    #[pin]
    irq: Irq<A>,
    /// One more than the highest id of a vCPU, if userspace chose it; otherwise 0.
    max_vcpu_id: Atomic<u32>,
    /// Longest busy wait of a halted vCPU, in ns, if userspace chose it.
    halt_poll: Atomic<u64>,
    stats: Arc<VmStats<A>>,
}

impl<A: Arch> Vm<A> {
    const ROOM: () = assert!(A::MAX_VCPUS <= VcpuTable::<A>::CAPACITY);

    /// Makes a VM for the current process and opens a file on it
    /// (`KVM_CREATE_VM`).
    ///
    /// # Errors
    ///
    /// `EINVAL` for a type that the architecture doesn't have; those of
    /// [`Opening::new`].
    pub fn create(kind: usize) -> Result<u32> {
        if !A::has_vm_type(kind) {
            return Err(EINVAL);
        }
        let () = Self::ROOM;
        let owner = AddressSpace::current()?;
        let stats = VmStats::new()?;
        let vcpus = Arc::new(VcpuTable::new(stats.clone()), GFP_KERNEL_ACCOUNT)?;
        let memory = Memory::create(owner.clone(), vcpus.clone(), &stats)?;
        let vm = Arc::pin_init(
            try_pin_init!(Self {
                memory <- memory,
                second: SetOnce::new(),
                max_vcpu_id: Atomic::new(0),
                halt_poll: Atomic::new(NOT_CHOSEN),
                owner,
                create <- new_mutex!((), "kvm_vm_create"),
                arch <- A::new_vm(kind),
                rings <- Rings::new(),
                io <- Io::new(),
                irq <- Irq::new(),
                stats,
                listed: SetOnce::new(),
                vcpus,
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        let opening = Opening::new(c"kvm-vm", vm.clone())?;
        vm.listed.populate(Listed::new(&vm.stats, &vm.vcpus, opening.number())?);
        Ok(opening.finish())
    }

    /// The architecture's part.
    #[inline]
    pub fn arch(&self) -> &A::Vm {
        &self.arch
    }

    /// Its memory.
    #[inline]
    pub fn memory(&self) -> &Memory<A> {
        &self.memory
    }

    /// The memory of the first or the second address space, which a vCPU is in.
    #[inline]
    pub fn memory_of(&self, is_second: bool) -> &Memory<A> {
        if !is_second {
            return &self.memory;
        }
        self.second.as_ref().map_or(&self.memory, |second| second)
    }

    /// The second address space: from now on [`Self::memory_of`] has it.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the architecture has only one; those of [`Memory::create`].
    pub fn second_memory(&self) -> Result<&Memory<A>> {
        if A::ADDRESS_SPACES < 2 {
            return Err(EINVAL);
        }
        if self.second.as_ref().is_none() {
            // What is turned on for all memories, is under the same lock.
            let _creating = self.create.lock();
            if self.second.as_ref().is_none() {
                let memory = Arc::pin_init(self.memory.create_second(), GFP_KERNEL_ACCOUNT)?;
                if self.memory.follows_guest_types() {
                    memory.follow_guest_types();
                }
                self.second.populate(memory);
            }
        }
        self.second.as_ref().map(|memory| &***memory).ok_or(EINVAL)
    }

    /// Calls `f` with the memory of each address space that was used.
    pub fn each_memory(&self, mut f: impl FnMut(&Memory<A>)) {
        f(&self.memory);
        if let Some(second) = self.second.as_ref() {
            f(second);
        }
    }

    /// The guest's own memory types are to count in what is mapped from now on, where they can. What is mapped
    /// already stays as it is.
    pub fn follow_guest_types(&self) {
        let _creating = self.create.lock();
        self.each_memory(Memory::follow_guest_types);
    }

    /// Takes write permission from pages that userspace has harvested. It may have said
    /// anything.
    pub(crate) fn protect_batch(&self, batch: &Batch) -> FlushDebt {
        let mut debt = FlushDebt::NONE;
        self.each_memory(|memory| debt = debt.merge(memory.protect_batch(batch)));
        debt
    }

    /// The dirty rings that its vCPUs have.
    #[inline]
    pub(crate) fn rings(&self) -> &Rings {
        &self.rings
    }

    /// An ioctl of the VM's file, if it is one about memory.
    fn memory_ioctl(&self, request: u32, arg: usize) -> Option<Result<u32>> {
        match Memory::<A>::addressed(request, arg) {
            Ok(1) if A::ADDRESS_SPACES > 1 => match self.second_memory() {
                Ok(second) => second.ioctl(request, arg),
                Err(error) => Some(Err(error)),
            },
            Ok(_) => self.memory.ioctl(request, arg),
            Err(error) => Some(Err(error)),
        }
    }

    /// What is on its I/O buses.
    #[inline]
    pub fn io(&self) -> &Io<A> {
        &self.io
    }

    /// Its interrupt lines.
    #[inline]
    pub(crate) fn irq(&self) -> &Irq<A> {
        &self.irq
    }

    /// Its counters.
    #[inline]
    pub fn stats(&self) -> &Arc<VmStats<A>> {
        &self.stats
    }

    /// The vCPUs.
    #[inline]
    pub fn vcpus(&self) -> &VcpuTable<A> {
        &self.vcpus
    }

    /// One more than the highest id of a vCPU.
    pub fn max_vcpu_id(&self) -> u32 {
        match self.max_vcpu_id.load(Relaxed) {
            0 => A::MAX_VCPU_ID,
            chosen => chosen,
        }
    }

    /// `KVM_CAP_MAX_VCPU_ID`: userspace says how high ids go. Once.
    ///
    /// # Errors
    ///
    /// `EINVAL` for more than there are, and for another number than before.
    pub fn choose_max_vcpu_id(&self, limit: u64) -> Result {
        let limit = u32::try_from(limit).map_err(|_| EINVAL)?;
        if limit > A::MAX_VCPU_ID {
            return Err(EINVAL);
        }
        self.with_creation_locked(|| match self.max_vcpu_id.load(Relaxed) {
            chosen if chosen == limit => Ok(()),
            0 => {
                self.max_vcpu_id.store(limit, Relaxed);
                Ok(())
            }
            _ => Err(EINVAL),
        })
    }

    /// Longest busy wait of a halted vCPU, in ns.
    pub fn longest_halt_poll(&self) -> u32 {
        let chosen = u32::try_from(self.halt_poll.load(Relaxed));
        chosen.unwrap_or_else(|_| params::HALT_POLL_NS.get())
    }

    /// Runs `change` while no vCPU can be created.
    ///
    /// # Errors
    ///
    /// Those of `change`.
    pub fn with_creation_locked<R>(&self, change: impl FnOnce() -> Result<R>) -> Result<R> {
        let _creating = self.create.lock();
        change()
    }

    /// Refuses a process other than the one that made the VM.
    ///
    /// # Errors
    ///
    /// `EIO`.
    pub fn check_caller(&self) -> Result {
        if self.owner.is_current() {
            Ok(())
        } else {
            Err(EIO)
        }
    }

    /// Turns a capability on (`KVM_ENABLE_CAP`).
    fn enable_cap(vm: ArcBorrow<'_, Self>, arg: usize) -> Result<u32> {
        let wanted: EnableCap = user::read(arg)?;
        let EnableCap { cap, flags, args, .. } = wanted;
        if cap == KVM_CAP_HALT_POLL {
            let [longest, ..] = args;
            if flags != 0 || u32::try_from(longest).is_err() {
                return Err(EINVAL);
            }
            vm.halt_poll.store(longest, Relaxed);
            return Ok(0);
        }
        if matches!(cap, KVM_CAP_DIRTY_LOG_RING | KVM_CAP_DIRTY_LOG_RING_ACQ_REL) {
            let [bytes, ..] = args;
            return dirty_ring::enable(&vm, bytes);
        }
        let Some(result) = vm.memory.enable_cap(cap, flags, args) else {
            return A::enable_cap(vm, &wanted);
        };
        if let Some(second) = vm.second.as_ref() {
            // The same answer.
            let _ = second.enable_cap(cap, flags, args);
        }
        result
    }

    /// Makes a vCPU and opens a file on it (`KVM_CREATE_VCPU`). Not inlined: its
    /// stack frame is not for other ioctls to carry.
    #[inline(never)]
    fn create_vcpu(vm: ArcBorrow<'_, Self>, id: usize) -> Result<u32> {
        let id = u32::try_from(id).map_err(|_| EINVAL)?;
        let _creating = vm.create.lock();
        if id >= vm.max_vcpu_id() {
            return Err(EINVAL);
        }
        if vm.vcpus.count() >= A::MAX_VCPUS {
            return Err(EINVAL);
        }
        if vm.vcpus.has_id(id) {
            return Err(EEXIST);
        }
        let vcpu = vm.vcpus.make(&vm, id)?;
        let file = VcpuFile::new(vm.into(), vcpu.clone());
        let file = Arc::new(file, GFP_KERNEL_ACCOUNT)?;
        let name = CString::try_from_fmt(fmt!("kvm-vcpu:{id}"))?;
        // The vCPU can't be taken back once it is in the table.
        let opening = Opening::new(&name, file)?;
        vm.stats.add_vcpu(vcpu.stats().clone())?;
        vm.vcpus.push(vcpu.clone()).inspect_err(|_| vm.stats.drop_newest_vcpu())?;
        if let Some(ring) = vcpu.ring() {
            vm.memory.set_ring(vcpu.index(), ring.clone());
        }
        A::vcpu_added(&vm, &vcpu);
        if let Some(listed) = vm.listed.as_ref() {
            listed.vcpu_added();
        }
        Ok(opening.finish())
    }
}

impl<A: Arch> AnonFile for Vm<A> {
    type Module = A::Module;
    const COMPAT: bool = A::COMPAT;

    fn ioctl(this: ArcBorrow<'_, Self>, request: u32, arg: usize) -> Result<u32> {
        this.check_caller()?;
        match request {
            KVM_CHECK_EXTENSION => Ok(capability::check_vm(&this, arg)),
            KVM_CREATE_VCPU => Self::create_vcpu(this, arg),
            KVM_ENABLE_CAP => Self::enable_cap(this, arg),
            KVM_CREATE_GUEST_MEMFD if memory::file::EXIST => memory::file::create(this, arg),
            KVM_RESET_DIRTY_RINGS => dirty_ring::reset(&this),
            _ => match this.memory_ioctl(request, arg) {
                Some(result) => result,
                None => match wiring::vm_ioctl(this, request, arg) {
                    Some(result) => result,
                    None => A::vm_ioctl(this, request, arg),
                },
            },
        }
    }

    fn released(this: ArcBorrow<'_, Self>) {
        this.irq.irqfds.end();
    }
}
