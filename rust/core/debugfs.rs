// SPDX-License-Identifier: GPL-2.0
//! The counters in debugfs, where kvm_stat reads them: `/sys/kernel/debug/kvm` has
//! a file for each, the sum of all VMs, and a directory `<pid>-<fd>` for each VM.
//!
//! A vCPU's counter is shown as the sum of the VM's vCPUs, a histogram as its first
//! bucket. What isn't a counter has each vCPU in a directory of its own, `vcpu<id>` in
//! that of its VM, if the architecture has such numbers.
//!
//! Few VMs are ever looked at, and files take more memory than the rest of a VM without
//! memory: what is in its directory is made when somebody looks into it.

use crate::{
    arch::Arch,
    stats::{Shown, VcpuStats, VmStats},
    uevent::Announced,
    vcpu::{Vcpu, VcpuTable},
};
use core::{iter, marker::PhantomData};
use kernel::{current, error::Result, prelude::*, str::CString, sync::Arc};
use kvm_event::stats::{Cell, Descriptor};
use kvm_sys::{
    debugfs::{
        lazy::{Contents, LazyDir},
        Dir, File, Files, Numbers, Shape,
    },
    global::Global,
};

/// What there is, of the vendor module that is loaded.
struct All {
    dir: Option<Arc<Dir>>,
    vms: KVec<Arc<dyn Numbers>>,
}

static ALL: Global<All> = Global::new(All { dir: None, vms: KVec::new() });

/// The counters of a VM and its vCPUs, in the order of [`list`].
impl<A: Arch> Numbers for VmStats<A> {
    fn get(&self, index: usize) -> u64 {
        let mut sum = 0u64;
        self.each(index, |cells| {
            let first = cells.first().map_or(0, Cell::get);
            sum = sum.wrapping_add(first);
        });
        sum
    }

    fn reset(&self, index: usize) {
        self.each(index, |cells| cells.iter().for_each(|cell| cell.set(0)));
    }
}

impl<A: Arch> VmStats<A> {
    /// Shows the cells of one statistic, for each vCPU if it is a vCPU's.
    fn each(&self, index: usize, mut show: impl FnMut(&[Cell])) {
        let own: usize = Self::LISTS.into_iter().map(<[_]>::len).sum();
        match index.checked_sub(own) {
            None => pick(self, index, &mut show),
            Some(index) => self.for_each_vcpu(|vcpu| pick(vcpu, index, &mut show)),
        }
    }
}

/// Shows the cells of one statistic of a set.
fn pick<S: Shown>(set: &S, index: usize, show: &mut impl FnMut(&[Cell])) {
    let mut skip = index;
    let mut found = false;
    set.visit(&mut |cells| match skip.checked_sub(1) {
        Some(rest) => skip = rest,
        None if found => {}
        None => {
            found = true;
            show(cells);
        }
    });
}

/// All statistics of a VM and its vCPUs.
fn list<A: Arch>() -> impl Iterator<Item = &'static Descriptor> + Clone {
    [VmStats::<A>::LISTS, VcpuStats::<A>::LISTS].into_iter().flatten().flatten()
}

/// Files for all statistics of a VM and its vCPUs.
fn files<A: Arch, N: Numbers + ?Sized>(
    dir: Arc<Dir>,
    numbers: &Arc<N>,
) -> Result<Files<N, A::Module>> {
    let files = list::<A>().enumerate().map(|(index, one)| File {
        name: one.name,
        index,
        shape: if one.kind.is_resettable() { Shape::Counter } else { Shape::Unsigned },
    });
    Files::new(dir, numbers, files)
}

/// A number of a vCPU.
pub struct Number<A: Arch> {
    /// Its file's name.
    pub name: &'static CStr,
    /// How it is shown.
    pub shape: Shape,
    /// Finds it, in any thread. A vCPU that doesn't have it at first has no file of it.
    pub of: fn(&Vcpu<A>) -> Option<u64>,
}

/// The thread that runs it, and after that what the architecture has.
impl<A: Arch> Numbers for Vcpu<A> {
    fn get(&self, index: usize) -> u64 {
        let Some(index) = index.checked_sub(1) else { return self.thread_number() };
        let number = A::VCPU_NUMBERS.and_then(|numbers| numbers.get(index));
        number.and_then(|number| (number.of)(self)).unwrap_or(0)
    }

    fn reset(&self, _index: usize) {}
}

/// The sums of all VMs.
struct Sums;

impl Numbers for Sums {
    fn get(&self, index: usize) -> u64 {
        ALL.with(|all| all.vms.iter().fold(0, |sum, vm| vm.get(index).wrapping_add(sum)))
    }

    fn reset(&self, index: usize) {
        ALL.with(|all| all.vms.iter().for_each(|vm| vm.reset(index)));
    }
}

/// The directory of everything, for as long as a vendor module is loaded.
pub struct Top<A: Arch> {
    _files: Files<Sums, A::Module>,
}

impl<A: Arch> Top<A> {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EEXIST` if it is there.
    pub fn new() -> Result<Self> {
        let dir = Dir::with_gate(c"kvm")?;
        let files = files::<A, _>(dir.clone(), &Arc::new(Sums, GFP_KERNEL)?)?;
        ALL.with(|all| all.dir = Some(dir));
        Ok(Self { _files: files })
    }
}

impl<A: Arch> Drop for Top<A> {
    fn drop(&mut self) {
        drop(ALL.with(|all| all.dir.take()));
    }
}

/// What is in the directory of a VM.
struct OfVm<A: Arch> {
    // Within the directory, so they go before it.
    of_vcpus: KVec<Files<Vcpu<A>, A::Module>>,
    files: Option<Files<VmStats<A>, A::Module>>,
    dir: Arc<Dir>,
    stats: Arc<VmStats<A>>,
    vcpus: Arc<VcpuTable<A>>,
}

impl<A: Arch> OfVm<A> {
    /// The vCPUs whose directories aren't there.
    fn missing(&self) -> impl Iterator<Item = &Arc<Vcpu<A>>> {
        let all = A::VCPU_NUMBERS.map_or(0, |_| self.vcpus.count() as usize);
        self.vcpus.iter().take(all).skip(self.of_vcpus.len())
    }

    /// The directory of a vCPU.
    fn of_vcpu(&self, vcpu: &Arc<Vcpu<A>>) -> Result<Files<Vcpu<A>, A::Module>> {
        let name = CString::try_from_fmt(fmt!("vcpu{}", vcpu.id()))?;
        let dir = Dir::new(&name, Some(self.dir.clone()))?;
        let thread = File { name: c"pid", index: 0, shape: Shape::Unsigned };
        let own = A::VCPU_NUMBERS
            .unwrap_or_default()
            .iter()
            .zip(1..)
            .filter(|(number, _)| (number.of)(vcpu).is_some())
            .map(|(number, index)| File { name: number.name, index, shape: number.shape });
        Files::new(dir, vcpu, Iterator::chain(iter::once(thread), own))
    }
}

impl<A: Arch> Contents for OfVm<A> {
    fn make(&mut self) -> Result {
        if self.files.is_none() {
            self.files = Some(files::<A, _>(self.dir.clone(), &self.stats)?);
        }
        loop {
            let next = self.missing().next().map(|vcpu| self.of_vcpu(vcpu));
            let Some(files) = next else { return Ok(()) };
            self.of_vcpus.push(files?, GFP_KERNEL_ACCOUNT)?;
        }
    }

    fn directories(&self) -> u32 {
        u32::try_from(self.missing().count()).unwrap_or(u32::MAX)
    }
}

/// A VM among all, with its directory.
pub struct Listed<A: Arch> {
    // Goes first: who hears of the end may look at the counters yet.
    _announced: Announced,
    stats: Arc<dyn Numbers>,
    dir: Option<LazyDir>,
    _arch: PhantomData<fn() -> A>,
}

impl<A: Arch> Listed<A> {
    /// Counts the VM's counters in. It has descriptor `fd` of the current process.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(stats: &Arc<VmStats<A>>, vcpus: &Arc<VcpuTable<A>>, fd: u32) -> Result<Self> {
        let name = CString::try_from_fmt(fmt!("{}-{fd}", current!().pid()))?;
        let top = ALL.with(|all| all.dir.clone());
        let dir = match Dir::new(&name, top) {
            Ok(dir) => Some(Self::fill(dir, stats.clone(), vcpus.clone())?),
            // A descriptor's number may be used again while the VM lives on.
            Err(EEXIST) => None,
            Err(error) => return Err(error),
        };
        let announced = Announced::new(dir.is_some().then_some(&*name))?;
        let stats: Arc<dyn Numbers> = stats.clone();
        ALL.with(|all| all.vms.push(stats.clone(), GFP_KERNEL_ACCOUNT))?;
        Ok(Self { _announced: announced, stats, dir, _arch: PhantomData })
    }

    /// Has the VM's directory filled when somebody looks into it.
    fn fill(dir: Arc<Dir>, stats: Arc<VmStats<A>>, vcpus: Arc<VcpuTable<A>>) -> Result<LazyDir> {
        let contents = OfVm { of_vcpus: KVec::new(), files: None, dir: dir.clone(), stats, vcpus };
        LazyDir::new(dir, KBox::new(contents, GFP_KERNEL_ACCOUNT)?)
    }

    /// There is another vCPU. Without memory for that it isn't shown, and is there.
    pub(crate) fn vcpu_added(&self) {
        let _ = self.dir.as_ref().map(LazyDir::update);
    }
}

impl<A: Arch> Drop for Listed<A> {
    fn drop(&mut self) {
        let own = ALL.with(|all| {
            let index = all.vms.iter().position(|vm| Arc::ptr_eq(vm, &self.stats))?;
            let own = all.vms.remove(index).ok();
            if all.vms.is_empty() {
                // Nobody drops a static: its memory would outlive the module.
                all.vms = KVec::new();
            }
            own
        });
        drop(own);
    }
}
