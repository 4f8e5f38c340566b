// SPDX-License-Identifier: GPL-2.0
//! Guest memory: the slots of a VM, and the tables that map them.
//!
//! - `slots`: a slot, and the set of all; `region`: how the set changes.
//! - `fault`: a vCPU touches a frame that isn't mapped.
//! - `notifier`: the VMM's memory changes below the guest; `changes` and `section`
//!   are what lets faults go without a lock meanwhile.
//! - `dirty`: which pages were written to.
//!
//! Who waits for whom: a change of the slots (mutex `changing`) waits for readers
//! of the old set (SRCU), then for map sections. A notifier waits for map sections
//! only, whatever else its caller holds, so nothing in a map section may wait for
//! anything. The mmap lock is taken inside the mutex and inside an SRCU section,
//! never the other way round.

mod changes;
mod dirty;
mod fault;
mod notifier;
mod region;
mod section;
mod slots;

use crate::{arch::Arch, mmu::SecondLevel};
use changes::Changes;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::{
    error::Result,
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
};
use kvm_paging::{addr::Gfn, flush::FlushDebt};
use kvm_sys::{
    map_section, mmu_notifier::Registration, process::AddressSpace, srcu_cell::SrcuCell,
};
use kvm_uapi::ioctl::KVM_SET_USER_MEMORY_REGION;
use section::Sections;
use slots::SlotSet;

pub use fault::{Fault, VcpuMemory};

/// Who makes vCPUs forget translations.
pub trait Flush: Send + Sync {
    /// On return no vCPU uses a translation of these frames that was made before
    /// the call. Doesn't sleep; interrupts are on, preemption may be off.
    fn flush(&self, first: Gfn, frames: u64);
}

/// The memory of a VM.
#[pin_data]
pub struct Memory<A: Arch> {
    space: AddressSpace,
    tables: A::Tables,
    flush: Arc<dyn Flush>,
    sections: Sections,
    #[pin]
    changes: Changes,
    /// Held while slots change; orders changes among each other.
    #[pin]
    changing: Mutex<()>,
    #[pin]
    slots: SrcuCell<SlotSet>,
    /// [`SlotSet::generation`] of the set in `slots`.
    generation: AtomicU64,
}

impl<A: Arch> Memory<A> {
    /// No memory, for the current process, whose address space `space` is. `flush`
    /// is called while this lives; it must not hold the owner of this.
    ///
    /// # Errors
    ///
    /// Those of [`Registration::new`].
    pub fn create(
        space: AddressSpace,
        flush: Arc<dyn Flush>,
    ) -> impl PinInit<Registration<Self>, Error> {
        let owner = space.clone();
        let memory = try_pin_init!(Self {
            space: owner,
            tables: A::Tables::new()?,
            flush,
            sections: Sections::new(),
            changes <- Changes::new(),
            changing <- new_mutex!((), "kvm_memory"),
            slots <- SrcuCell::new(KBox::new(SlotSet::new(), GFP_KERNEL_ACCOUNT)?),
            generation: AtomicU64::new(0),
        });
        Registration::new(space, memory)
    }

    /// Physical address of the tables' root. Constant.
    pub fn root(&self) -> u64 {
        self.tables.root()
    }

    /// An ioctl of the VM's file, if it is one about memory.
    pub fn ioctl(&self, request: u32, arg: usize) -> Option<Result<u32>> {
        match request {
            KVM_SET_USER_MEMORY_REGION => Some(self.set_region(arg)),
            _ => None,
        }
    }

    /// Lets vCPUs forget what was removed.
    fn pay(&self, debt: FlushDebt) {
        if let Some((first, frames)) = debt.range() {
            self.flush.flush(first, frames);
        }
    }

    /// Waits until no vCPU maps anything by what was true before.
    fn wait_for_sections(&self) {
        map_section::publish();
        self.sections.wait();
    }

    /// The generation of the slots, for whoever holds an older set; see
    /// [`SlotSet::generation`].
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }
}
