// SPDX-License-Identifier: GPL-2.0
//! A virtual CPU, its file, and the table of those of a VM.

use crate::{arch::Arch, vm::Vm};
use core::marker::PhantomData;
use kernel::{
    error::Result,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Relaxed, Release},
        Arc, ArcBorrow, SetOnce,
    },
};
use kvm_sys::{anon_file::AnonFile, shared_page::SharedPage};
use kvm_uapi::ioctl::{self, KVMIO};

/// A virtual CPU. It lives as long as its VM.
pub struct Vcpu<A: Arch> {
    id: u32,
    /// What userspace maps of the vCPU's file, by page offset.
    pages: KVec<SharedPage>,
    _arch: PhantomData<fn() -> A>,
}

impl<A: Arch> Vcpu<A> {
    /// A vCPU that has never run.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(id: u32) -> Result<Self> {
        let mut pages = KVec::new();
        for _ in 0..A::VCPU_OWN_PAGES {
            pages.push(SharedPage::new()?, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Self { id, pages, _arch: PhantomData })
    }

    /// The number that userspace gave it; unique within the VM.
    pub fn id(&self) -> u32 {
        self.id
    }
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

    fn ioctl(this: ArcBorrow<'_, Self>, request: u32, _arg: usize) -> Result<u32> {
        this.vm.check_caller()?;
        if ioctl::type_of(request) != KVMIO {
            return Err(EINVAL);
        }
        Err(A::UNKNOWN_VCPU_IOCTL)
    }

    fn page(&self, offset: usize) -> Option<&SharedPage> {
        self.vcpu.pages.get(offset)
    }
}

const CHUNK: usize = 64;
type Chunk<A> = [SetOnce<Arc<Vcpu<A>>>; CHUNK];

/// The vCPUs of a VM in order of creation. Only grows, so that looking one up
/// takes no lock.
pub(crate) struct VcpuTable<A: Arch> {
    chunks: [SetOnce<KBox<Chunk<A>>>; CHUNK],
    count: Atomic<u32>,
}

impl<A: Arch> VcpuTable<A> {
    /// Most vCPUs that fit.
    pub(crate) const CAPACITY: u32 = (CHUNK as u32).saturating_mul(CHUNK as u32);

    /// No vCPUs.
    pub(crate) const fn new() -> Self {
        Self { chunks: [const { SetOnce::new() }; CHUNK], count: Atomic::new(0) }
    }

    /// Number of vCPUs; those with a lower index are there.
    pub(crate) fn count(&self) -> u32 {
        self.count.load(Acquire)
    }

    /// The vCPU with an index below [`Self::count`].
    pub(crate) fn get(&self, index: u32) -> Option<&Arc<Vcpu<A>>> {
        let (chunk, slot) = position(index);
        self.chunks.get(chunk)?.as_ref()?.get(slot)?.as_ref()
    }

    /// Whether a vCPU has this id.
    pub(crate) fn has_id(&self, id: u32) -> bool {
        (0..self.count()).any(|index| self.get(index).is_some_and(|vcpu| vcpu.id() == id))
    }

    /// Adds a vCPU. Callers keep each other out with the VM's lock.
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

/// Chunk of an index, and slot within it.
const fn position(index: u32) -> (usize, usize) {
    let index = index as usize;
    (index / CHUNK, index % CHUNK)
}
