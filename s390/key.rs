// SPDX-License-Identifier: GPL-2.0
//! Storage keys of a guest's frames.
//!
//! A page that is mapped has the frame's key as its own: the machine checks accesses
//! with it and records them in it. Otherwise the key is kept here. Instructions about
//! keys are intercepted, so nobody else changes them.
//!
//! A guest that has never used keys costs nothing: its frames' keys are 0, and nobody
//! looks at those of its pages. When it begins, all is unmapped once, and what is mapped
//! from then on has its key.
//!
//! What a page recorded while it was mapped is lost when the host takes it. The frame
//! then counts as referenced and changed, which is as much as anybody needs not to lose
//! data.
//!
//! The lock is the innermost one: it is held in map sections, and map sections are
//! entered with it.

use crate::sie::Sie;
use kernel::{
    new_spinlock,
    prelude::*,
    rbtree::{RBTree, RBTreeNodeReservation},
    sync::{
        atomic::{Acquire, Atomic, Release},
        lock::{spinlock::SpinLockBackend, Guard},
        SpinLock,
    },
};
use kvm_core::{arch::Arch, memory::VcpuMemory, mmu::Tags, vm::Vm};
use kvm_paging::addr::{Gfn, Pfn};
use kvm_sys::s390::key::{self as machine, Seen};
use s390_arch::key::{Condition, Key};

/// Frames whose keys are kept together.
const TOGETHER: u64 = 4096;
type Part = [u8; TOGETHER as usize];

/// What the frames' keys were when they were last set, or mapped.
struct Store {
    parts: RBTree<u64, KBox<Part>>,
}

impl Store {
    fn has(&self, gfn: Gfn) -> bool {
        self.parts.get(&(gfn.raw() / TOGETHER)).is_some()
    }

    fn get(&self, gfn: Gfn) -> Key {
        let part = self.parts.get(&(gfn.raw() / TOGETHER));
        let byte = part.and_then(|part| part.get((gfn.raw() % TOGETHER) as usize));
        Key::new(byte.copied().unwrap_or(0))
    }

    fn set(&mut self, gfn: Gfn, key: Key) {
        let part = self.parts.get_mut(&(gfn.raw() / TOGETHER));
        if let Some(byte) = part.and_then(|part| part.get_mut((gfn.raw() % TOGETHER) as usize)) {
            *byte = key.byte();
        }
    }
}

/// The keys of a VM.
pub(crate) struct Keys {
    /// The guest uses keys. Never taken back.
    in_use: Atomic<bool>,
    store: Pin<KBox<SpinLock<Store>>>,
}

impl Tags for Keys {
    fn new() -> Result<Self> {
        let store = new_spinlock!(Store { parts: RBTree::new() }, "kvm_s390_keys");
        Ok(Self { in_use: Atomic::new(false), store: KBox::pin_init(store, GFP_KERNEL_ACCOUNT)? })
    }

    #[inline]
    fn prepare(&self, gfn: Gfn) -> Result {
        if self.in_use() {
            self.make_room(gfn)?;
        }
        Ok(())
    }

    #[inline]
    fn map<R>(
        &self,
        gfn: Gfn,
        page: Pfn,
        now: impl FnOnce() -> Option<Pfn>,
        map: impl FnOnce() -> R,
    ) -> R {
        if !self.in_use() {
            return map();
        }
        let mut store = self.store.lock();
        if now() != Some(page) {
            let key = store.get(gfn);
            machine::set(page, key.byte(), Seen::Later);
            store.set(gfn, key.touched());
        }
        map()
    }
}

impl Keys {
    /// Whether the guest uses keys.
    #[inline]
    pub(crate) fn in_use(&self) -> bool {
        self.in_use.load(Acquire)
    }

    /// Makes room for a frame's key. Sleeps.
    fn make_room(&self, gfn: Gfn) -> Result {
        if self.store.lock().has(gfn) {
            return Ok(());
        }
        let part = KBox::new([0; TOGETHER as usize], GFP_KERNEL_ACCOUNT)?;
        let node = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
        let node = node.into_node(gfn.raw() / TOGETHER, part);
        let mut store = self.store.lock();
        // Somebody else may have been faster; his part is in use.
        let unused = if store.has(gfn) { Some(node) } else { store.parts.insert(node) };
        drop(store);
        drop(unused);
        Ok(())
    }

    /// Whether an access with a key is allowed, but for overrides.
    pub(crate) fn allows(&self, gfn: Gfn, access: u8, is_store: bool) -> bool {
        access == 0 || self.store.lock().get(gfn).allows(access, is_store)
    }
}

/// The keys of a VM.
pub(crate) fn of(vm: &Vm<Sie>) -> &Keys {
    vm.memory().tables().tags()
}

/// The map section of ioctls of the VM, there as soon as keys are in use.
pub(crate) type Section = Option<VcpuMemory<Sie>>;

/// Lets the guest use keys. In a thread of the VM's process; sleeps.
///
/// # Errors
///
/// `ENOMEM`; `EFAULT` if pages can't be unshared.
pub(crate) fn enable(vm: &Vm<Sie>) -> Result {
    if of(vm).in_use() {
        return Ok(());
    }
    vm.with_creation_locked(|| {
        if of(vm).in_use() {
            return Ok(());
        }
        machine::disable_sharing()?;
        let mut section = vm.arch().section.lock();
        if section.is_none() {
            // One more than vCPUs have.
            *section = Some(vm.memory().vcpu(Sie::MAX_VCPUS)?);
        }
        vm.memory().while_unmapped(|| of(vm).in_use.store(true, Release));
        Ok(())
    })
}

/// A frame's key, while nobody else changes it and its page is mapped or not.
struct Held<'a> {
    store: Guard<'a, Store, SpinLockBackend>,
    gfn: Gfn,
    page: Option<Pfn>,
}

impl Held<'_> {
    fn get(&self) -> Key {
        match self.page {
            Some(page) => Key::new(machine::get(page)),
            None => self.store.get(self.gfn),
        }
    }

    fn set(&mut self, key: Key) {
        let mut kept = key;
        if let Some(page) = self.page {
            machine::set(page, key.byte(), Seen::AtOnce);
            kept = key.touched();
        }
        self.store.set(self.gfn, kept);
    }
}

/// Does something with a frame's key, in a map section.
fn with<R>(
    vm: &Vm<Sie>,
    me: &VcpuMemory<Sie>,
    gfn: Gfn,
    act: impl FnOnce(&mut Held<'_>) -> R,
) -> Result<R> {
    let tables = vm.memory().tables();
    let store = tables.tags().store.lock();
    vm.memory().inside(me, || act(&mut Held { store, gfn, page: tables.page(gfn) }))
}

/// A frame's key.
///
/// # Errors
///
/// Those of [`kvm_core::memory::Memory::inside`].
pub(crate) fn insert(vm: &Vm<Sie>, me: &VcpuMemory<Sie>, gfn: Gfn) -> Result<Key> {
    with(vm, me, gfn, |held| held.get())
}

/// Sets a frame's key, if it differs by the condition; the old one.
///
/// # Errors
///
/// As [`insert`]; `ENOMEM`.
pub(crate) fn set(
    vm: &Vm<Sie>,
    me: &VcpuMemory<Sie>,
    gfn: Gfn,
    key: Key,
    condition: Condition,
) -> Result<Key> {
    of(vm).make_room(gfn)?;
    with(vm, me, gfn, |held| {
        let old = held.get();
        if !condition.exists() || condition.wants(old, key) {
            held.set(key);
        }
        old
    })
}

/// Resets a frame's reference bit; the old reference and change bits.
///
/// # Errors
///
/// As [`set`].
pub(crate) fn reset_reference(vm: &Vm<Sie>, me: &VcpuMemory<Sie>, gfn: Gfn) -> Result<u8> {
    of(vm).make_room(gfn)?;
    with(vm, me, gfn, |held| match held.page {
        Some(page) => machine::reset_reference(page) << 1,
        None => {
            let key = held.store.get(gfn);
            held.store.set(gfn, key.unreferenced());
            key.records()
        }
    })
}
