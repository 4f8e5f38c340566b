// SPDX-License-Identifier: GPL-2.0
//! Guest memory: the slots of a VM, and the tables that map them.
//!
//! - `slots`: a slot, and the set of all; `region`: how the set changes.
//! - `fault`: a vCPU touches a frame that isn't mapped.
//! - `notifier`: the VMM's memory changes below the guest; `changes` and `section`
//!   are what lets faults go without a lock meanwhile.
//! - `access`: guest memory by address, for the hypervisor itself.
//! - `dirty`: which pages were written to. `file`: memory that is a file's.
//! - `own_page`: a page of the hypervisor's where no slot is.
//!
//! Who waits for whom: a change of the slots (mutex `changing`) waits for readers
//! of the old set (SRCU), then for map sections. A notifier waits for map sections
//! only, whatever else its caller holds, so nothing in a map section may wait for
//! anything. The mmap lock is taken inside the mutex and inside an SRCU section,
//! never the other way round.

mod access;
mod changes;
mod dirty;
mod fault;
pub(crate) mod file;
mod notifier;
mod own_page;
mod prefault;
mod region;
pub(crate) mod section;
mod slots;
mod sorted;

use crate::{arch::Arch, dirty_ring::DirtyRing, mmu::SecondLevel, stats::VmStats};
use changes::Changes;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::{
    error::Result,
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex, SetOnce},
};
use kvm_paging::{addr::Gfn, flush::FlushDebt};
use kvm_sys::{
    map_section, mmu_notifier::Registration, process::AddressSpace, srcu_cell::SrcuCell, user,
};
use kvm_uapi::{
    cap::KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
    ioctl::{
        KVM_CLEAR_DIRTY_LOG, KVM_GET_DIRTY_LOG, KVM_SET_USER_MEMORY_REGION,
        KVM_SET_USER_MEMORY_REGION2,
    },
    memory::{DIRTY_LOG_INITIALLY_SET, DIRTY_LOG_MANUAL_PROTECT},
};
use own_page::OwnPage;
use section::Sections;
use slots::{Numbers, SlotSet, Writer};

#[cfg(CONFIG_X86_64)]
pub use access::Path;
pub use access::{Guest, GuestRecord, Kind, Wait};
pub use fault::{Fault, VcpuMemory};

/// Who makes vCPUs forget translations.
pub trait Flush: Send + Sync {
    /// On return no vCPU uses a translation of these frames that was made before
    /// the call. Doesn't sleep; interrupts are on, preemption may be off.
    fn flush(&self, first: Gfn, frames: u64);

    /// Calls `written` with each frame of the first address space that a processor noted as
    /// written to and that nobody was told of: all that vCPUs wrote before the call are among
    /// them, or among those that another call tells.
    fn take_notes(&self, written: &mut dyn FnMut(Gfn));
}

/// The upper half of a slot's number is the address space.
const SPACE_SHIFT: u32 = 16;

/// Frames that are worked on in one go: 1 GiB.
const STEP: u64 = 1 << 18;

/// What userspace chose for the VM, and what only changes of the slots need.
#[derive(Default)]
struct Settings {
    /// `KVM_GET_DIRTY_LOG` leaves the log as it is.
    manual_protect: bool,
    /// A new log says that all is dirty.
    initially_set: bool,
    /// vCPUs have dirty rings, and new logs no bitmap.
    rings: bool,
    /// The slots of the present set.
    numbers: Numbers,
}

/// The memory of a VM.
#[pin_data]
pub struct Memory<A: Arch> {
    space: AddressSpace,
    /// Which of the VM's address spaces this is.
    number: u16,
    tables: A::Tables,
    flush: Arc<dyn Flush>,
    sections: Arc<Sections>,
    #[pin]
    changes: Changes,
    /// Held while slots change; orders changes among each other.
    #[pin]
    changing: Mutex<Settings>,
    #[pin]
    slots: SrcuCell<SlotSet>,
    /// [`SlotSet::generation`] of the set in `slots`.
    generation: AtomicU64,
    /// First frame that no slot may have, by choice of userspace. Written with `changing`
    /// held.
    limit: AtomicU64,
    /// What the guest finds somewhere besides its slots. Behind the tables that map it.
    own_page: SetOnce<OwnPage>,
}

impl<A: Arch> Memory<A> {
    /// No memory, for the current process, whose address space `space` is. `flush`
    /// is called while this lives; it must not hold the owner of this. `stats`
    /// counts.
    ///
    /// # Errors
    ///
    /// Those of [`Registration::new`].
    pub fn create(
        space: AddressSpace,
        flush: Arc<dyn Flush>,
        stats: &VmStats<A>,
    ) -> Result<impl PinInit<Registration<Self>, Error>> {
        let sections = Arc::new(Sections::new(), GFP_KERNEL_ACCOUNT)?;
        stats.sections.populate(sections.clone());
        Ok(Self::build(space, 0, flush, sections, Settings::default()))
    }

    /// Another address space of the same VM, without memory. vCPUs use what they
    /// have for mapping in both ([`VcpuMemory::moved`]).
    ///
    /// # Errors
    ///
    /// As [`Self::create`].
    pub fn create_second(&self) -> impl PinInit<Registration<Self>, Error> {
        let settings = self.changing.lock();
        let chosen = Settings {
            manual_protect: settings.manual_protect,
            initially_set: settings.initially_set,
            rings: settings.rings,
            numbers: Numbers::default(),
        };
        drop(settings);
        Self::build(self.space.clone(), 1, self.flush.clone(), self.sections.clone(), chosen)
    }

    fn build(
        space: AddressSpace,
        number: u16,
        flush: Arc<dyn Flush>,
        sections: Arc<Sections>,
        settings: Settings,
    ) -> impl PinInit<Registration<Self>, Error> {
        let owner = space.clone();
        let memory = try_pin_init!(Self {
            sections,
            space: owner,
            number,
            tables: A::Tables::new()?,
            flush,
            changes <- Changes::new(),
            changing <- new_mutex!(settings, "kvm_memory"),
            slots <- SrcuCell::new(KBox::new(SlotSet::new(), GFP_KERNEL_ACCOUNT)?),
            generation: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
            own_page: SetOnce::new(),
        });
        Registration::new(space, memory)
    }

    /// Which of its address spaces an ioctl of the VM's file is about, if it is one
    /// about slots.
    ///
    /// # Errors
    ///
    /// `EFAULT` if its argument can't be read.
    pub fn addressed(request: u32, arg: usize) -> Result<u32> {
        match request {
            KVM_SET_USER_MEMORY_REGION
            | KVM_SET_USER_MEMORY_REGION2
            | KVM_GET_DIRTY_LOG
            | KVM_CLEAR_DIRTY_LOG => {
                // All of them begin with the slot's number.
                let slot: u32 = user::read(arg)?;
                Ok(slot >> SPACE_SHIFT)
            }
            _ => Ok(0),
        }
    }

    /// The number of a slot within this address space.
    ///
    /// # Errors
    ///
    /// `EINVAL` for one of another address space.
    fn slot_id(&self, slot: u32) -> Result<u16> {
        let id = slot as u16;
        if slot >> SPACE_SHIFT != u32::from(self.number) || id >= A::SLOTS {
            return Err(EINVAL);
        }
        Ok(id)
    }

    /// The VMM's address space.
    pub fn space(&self) -> &AddressSpace {
        &self.space
    }

    /// The tables that map it.
    pub fn tables(&self) -> &A::Tables {
        &self.tables
    }

    /// Physical address of the tables' root. Constant.
    pub fn root(&self) -> u64 {
        self.tables.root()
    }

    /// An ioctl of the VM's file, if it is one about memory.
    pub fn ioctl(&self, request: u32, arg: usize) -> Option<Result<u32>> {
        match request {
            KVM_SET_USER_MEMORY_REGION => Some(self.set_region(arg)),
            KVM_SET_USER_MEMORY_REGION2 => Some(self.set_region2(arg)),
            KVM_GET_DIRTY_LOG => Some(self.get_dirty_log(arg)),
            KVM_CLEAR_DIRTY_LOG if cfg!(CONFIG_X86_64) => Some(self.clear_dirty_log(arg)),
            _ => None,
        }
    }

    /// `KVM_ENABLE_CAP` on the VM, if it is for a capability about memory.
    pub fn enable_cap(&self, capability: u32, flags: u32, args: [u64; 4]) -> Option<Result<u32>> {
        if capability != KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 || !cfg!(CONFIG_X86_64) {
            return None;
        }
        let [wanted, ..] = args;
        let mut allowed = DIRTY_LOG_MANUAL_PROTECT;
        if wanted & DIRTY_LOG_MANUAL_PROTECT != 0 {
            allowed |= DIRTY_LOG_INITIALLY_SET;
        }
        if flags != 0 || wanted & !allowed != 0 {
            return Some(Err(EINVAL));
        }
        let mut settings = self.changing.lock();
        settings.manual_protect = wanted & DIRTY_LOG_MANUAL_PROTECT != 0;
        settings.initially_set = wanted & DIRTY_LOG_INITIALLY_SET != 0;
        Some(Ok(0))
    }

    /// vCPUs will have dirty rings.
    pub(crate) fn use_rings(&self) {
        self.changing.lock().rings = true;
    }

    /// The vCPU with this index, for which [`Self::vcpu`] was called, has a ring.
    pub(crate) fn set_ring(&self, index: u32, ring: Arc<DirtyRing>) {
        if let Some(own) = self.sections.get(index) {
            own.set_ring(ring);
        }
    }

    /// The vCPU with this index writes here.
    #[inline]
    fn writer(&self, vcpu: u32) -> Writer<'_> {
        Writer { sections: &self.sections, vcpu, space: self.number }
    }

    /// The guest's own memory types are to count in what is mapped from now on, where they can.
    pub(crate) fn follow_guest_types(&self) {
        self.tables.follow_guest_types();
    }

    /// Whether they count.
    pub(crate) fn follows_guest_types(&self) -> bool {
        self.tables.follows_guest_types()
    }

    /// Lets vCPUs forget what was removed.
    pub(crate) fn pay(&self, debt: FlushDebt) {
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
