// SPDX-License-Identifier: GPL-2.0
//! Directories that are empty until somebody looks into them.
//!
//! A path walk asks a directory's inode for permission before it goes through the
//! directory, and so does who opens it. Until the contents are made, this inode has
//! operations of ours: those of debugfs, and a [`permission`] that makes the contents and
//! puts debugfs' own back. Whoever may enter waits until all is there. The number of links,
//! which tells of directories within, is right before that ([`getattr`]).
//!
//! Walks under RCU can't sleep and aren't counted anywhere. A [`Gate`] at the directory
//! above turns them into walks that hold a reference to each dentry. So a directory's first
//! moment, when it has debugfs' operations yet, is over or known to have been seen.
//!
//! # Invariants
//!
//! The lock is [`Locked`].
//!
//! - **Slot**: the `i_private` of an inode with our operations is null or a [`Slot`] that
//!   is valid while the lock is held: it is taken out under the lock before it is freed.
//! - **Restored**: the inode of a directory that is removed has debugfs' operations: the
//!   [`Hook`] goes before the directory.
//! - **Counted**: code of ours that was called through an inode sleeps only while [`INSIDE`]
//!   counts it, and only if it saw a slot after it was counted. So once all directories are
//!   removed and `INSIDE` is 0, nobody sleeps in that code, now or later.
//!
//! C headers: `include/linux/fs.h`, `include/linux/rcupdate.h`.

use super::{Dentry, Dir};
use crate::rcu_cell;
use core::ptr::{self, NonNull};
use kernel::{
    bindings,
    ffi::{c_int, c_uint, c_void},
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        barrier::smp_mb,
        Arc, SetOnce,
    },
    time::{delay::fsleep, Delta},
};

/// What is in a directory.
pub trait Contents: Send {
    /// Makes what isn't there yet, under the lock of all such directories. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. What was made stays.
    fn make(&mut self) -> Result;

    /// How many directories it would make.
    fn directories(&self) -> u32;
}

/// What a thin pointer leads to.
struct Slot(KBox<dyn Contents>);

/// A directory whose contents are made at the first look into it. They are dropped with
/// it, before the directory.
pub struct LazyDir {
    // Goes first.
    hook: Option<Hook>,
    contents: NonNull<Slot>,
    dir: Arc<Dir>,
}

// SAFETY: `Contents` are `Send`, and used under the lock.
unsafe impl Send for LazyDir {}
// SAFETY: As above.
unsafe impl Sync for LazyDir {}

impl LazyDir {
    /// `dir`, fresh and empty, will have these contents. They are made at once if there is
    /// no gate above it, or if somebody may have been there already.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(dir: Arc<Dir>, contents: KBox<dyn Contents>) -> Result<Self> {
        let contents = KBox::into_raw(KBox::new(Slot(contents), GFP_KERNEL_ACCOUNT)?);
        let contents = NonNull::new(contents).ok_or(EFAULT)?;
        let mut this = Self { hook: None, contents, dir };
        this.hook = Hook::new(&this.dir.dentry, contents.as_ptr());
        let is_hidden = this.hook.as_ref().is_some_and(|hook| hook.is_unvisited);
        if !(is_hidden && this.dir.is_below_gate()) {
            this.make(&Locked::new())?;
        }
        Ok(this)
    }

    /// There may be more in it than before: makes that, if somebody has looked.
    ///
    /// # Errors
    ///
    /// Those of [`Contents::make`].
    pub fn update(&self) -> Result {
        let locked = Locked::new();
        match &self.hook {
            Some(hook) if !hook.inode.is_restored() => Ok(()),
            _ => self.make(&locked),
        }
    }

    fn make(&self, _locked: &Locked) -> Result {
        // SAFETY: It lives as long as `self`, and the lock is held.
        unsafe { (*self.contents.as_ptr()).0.make()? };
        if let Some(hook) = &self.hook {
            hook.inode.restore();
        }
        Ok(())
    }
}

impl Drop for LazyDir {
    fn drop(&mut self) {
        drop(self.hook.take());
        // SAFETY: It came from a box. By the invariant `Slot` nobody else has it any more.
        drop(unsafe { KBox::from_raw(self.contents.as_ptr()) });
    }
}

/// What lets nobody go on from a directory without a reference to where he goes.
pub(super) struct Gate {
    hook: Option<Hook>,
}

impl Gate {
    /// At a fresh and empty directory.
    pub(super) fn new(dentry: &Dentry) -> Self {
        let mut hook = Hook::new(dentry, ptr::null_mut());
        if let Some(hook) = &mut hook {
            // Who came before and is under RCU yet may note that the inode needn't be asked:
            // that has to be over, and then the walks of those who have seen that note.
            rcu_cell::wait_for_readers();
            hook.is_unvisited &= hook.inode.ask_again(dentry);
            rcu_cell::wait_for_readers();
        }
        Self { hook }
    }

    /// Whether nobody gets through.
    pub(super) fn is_shut(&self) -> bool {
        self.hook.as_ref().is_some_and(|hook| hook.is_unvisited)
    }
}

/// Our operations at an inode. They go when this is dropped, or sooner; who has this drops
/// it before the directory.
struct Hook {
    inode: Inode,
    /// Nobody had a reference to the dentry when they came.
    is_unvisited: bool,
}

impl Hook {
    /// `None` if there is no directory, or if its operations aren't what they should be.
    fn new(dentry: &Dentry, slot: *mut Slot) -> Option<Self> {
        // INVARIANT: by this type's contract it is gone before the directory is.
        let inode = Inode(dentry.inode()?);
        let operations = Operations::of(&inode)?;
        inode.private().store(slot.cast(), Release);
        inode.operations().store(&operations.ours, Release);
        let is_unvisited = inode.ask_again(dentry);
        Some(Self { inode, is_unvisited })
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        let _locked = Locked::new();
        self.inode.restore();
    }
}

/// The inode of a directory of debugfs.
///
/// # Invariants
///
/// It is alive.
struct Inode(NonNull<bindings::inode>);

// SAFETY: What is done with it is atomic, or under a lock.
unsafe impl Send for Inode {}
// SAFETY: As above.
unsafe impl Sync for Inode {}

impl Inode {
    fn operations(&self) -> &Atomic<*const bindings::inode_operations> {
        // SAFETY: It is alive. Nobody changes this field but by way of this reference;
        // walks read it once.
        unsafe { Atomic::from_ptr(&raw mut (*self.0.as_ptr()).i_op) }
    }

    /// debugfs doesn't use this field of a directory.
    fn private(&self) -> &Atomic<*mut c_void> {
        // SAFETY: As above; it is a pointer whatever it leads to.
        unsafe { Atomic::from_ptr(&raw mut (*self.0.as_ptr()).i_private) }
    }

    /// Has the inode asked for permission even if somebody who saw debugfs' operations has
    /// noted that it needn't. Whether that is for good: it isn't if such a walk has a
    /// reference to the dentry now, or is under RCU.
    fn ask_again(&self, dentry: &Dentry) -> bool {
        let inode = self.0.as_ptr();
        // SAFETY: It is alive; the lock is the one for these flags.
        unsafe {
            bindings::spin_lock(&raw mut (*inode).i_lock);
            let flags = &raw mut (*inode).i_opflags;
            flags.write_volatile(flags.read_volatile() & !(bindings::IOP_FASTPERM as u16));
            bindings::spin_unlock(&raw mut (*inode).i_lock);
        }
        // Whose reference isn't seen below sees our operations. Taking one is a full
        // barrier on x86 and s390.
        smp_mb(Full);
        dentry.has_one_reference()
    }

    /// Whether it has debugfs' operations again.
    fn is_restored(&self) -> bool {
        let ours = OPERATIONS.as_ref().map(|operations| &raw const operations.ours);
        ours != Some(self.operations().load(Relaxed))
    }

    /// Gives it debugfs' operations back. Who sees that sees what was made before. Under the
    /// lock.
    fn restore(&self) {
        self.private().store(ptr::null_mut(), Release);
        if let Some(operations) = OPERATIONS.as_ref() {
            self.operations().store(operations.plain, Release);
        }
    }
}

/// What directories of debugfs can do; the same for all.
struct Operations {
    /// debugfs' own, which are the kernel's for good.
    plain: &'static bindings::inode_operations,
    /// Those of a directory with a hook.
    ours: bindings::inode_operations,
}

static OPERATIONS: SetOnce<Operations> = SetOnce::new();

impl Operations {
    /// For an inode that has debugfs' own; `None` if they are none that ours can stand for.
    fn of(inode: &Inode) -> Option<&'static Self> {
        let now = inode.operations().load(Relaxed).cast_mut();
        if OPERATIONS.as_ref().is_none() {
            // SAFETY: debugfs, which isn't a module, gave the inode this static.
            let plain = unsafe { &*now };
            if plain.permission.is_some() || plain.getattr.is_some() {
                return None;
            }
            let ours = bindings::inode_operations {
                permission: Some(permission),
                getattr: Some(getattr),
                ..*plain
            };
            OPERATIONS.populate(Self { plain, ours });
        }
        OPERATIONS.as_ref().filter(|operations| ptr::eq(operations.plain, now))
    }
}

/// How many are in code of ours that was called through an inode.
static INSIDE: Atomic<i32> = Atomic::new(0);

/// Somebody is to go through a directory, to list it, or to change it.
///
/// # Safety
///
/// The contract of the operation; the inode has, or had, our operations.
unsafe extern "C" fn permission(
    idmap: *mut bindings::mnt_idmap,
    inode: *mut bindings::inode,
    mask: c_int,
) -> c_int {
    if mask & bindings::MAY_NOT_BLOCK as c_int != 0 {
        return ECHILD.to_errno();
    }
    // SAFETY: These are the arguments of this function.
    let refused = unsafe { bindings::generic_permission(idmap, inode, mask) };
    if refused != 0 {
        return refused;
    }
    if mask & (bindings::MAY_EXEC | bindings::MAY_READ) as c_int == 0 {
        // Its times are to be changed, under the inode's lock, which making files takes.
        return 0;
    }
    let make = |contents: &mut dyn Contents, inode: &Inode| -> Result {
        contents.make()?;
        inode.restore();
        Ok(())
    };
    // SAFETY: By this function's contract.
    match unsafe { with_contents(inode, make) } {
        Some(Err(error)) => error.to_errno(),
        _ => 0,
    }
}

/// Somebody asks what a directory is.
///
/// # Safety
///
/// As for [`permission`].
unsafe extern "C" fn getattr(
    idmap: *mut bindings::mnt_idmap,
    path: *const bindings::path,
    stat: *mut bindings::kstat,
    request_mask: u32,
    _flags: c_uint,
) -> c_int {
    // SAFETY: The path is valid, and leads to the inode whose operation this is.
    let inode = unsafe { (*(*path).dentry).d_inode };
    // SAFETY: These are the arguments of this function.
    unsafe { bindings::generic_fillattr(idmap, request_mask, inode, stat) };
    // SAFETY: By this function's contract.
    let more = unsafe { with_contents(inode, |contents, _| contents.directories()) };
    // SAFETY: The caller lets this function fill it.
    let links = unsafe { &mut (*stat).nlink };
    *links = links.saturating_add(more.unwrap_or(0));
    0
}

/// Uses what is to be made in a directory, if there still is something.
///
/// # Safety
///
/// The inode is alive and has, or had, our operations.
unsafe fn with_contents<R>(
    inode: *mut bindings::inode,
    body: impl FnOnce(&mut dyn Contents, &Inode) -> R,
) -> Option<R> {
    // INVARIANT: by this function's contract.
    let inode = Inode(NonNull::new(inode)?);
    INSIDE.fetch_add(1, Full);
    let mut result = None;
    // Most who come are on their way through a gate.
    if !inode.private().load(Acquire).is_null() {
        let _locked = Locked::new();
        let slot: *mut Slot = inode.private().load(Relaxed).cast();
        // SAFETY: By the invariant `Slot`; the lock is held until the reference is gone.
        result = unsafe { slot.as_mut() }.map(|slot| body(&mut *slot.0, &inode));
    }
    INSIDE.fetch_sub(1, Release);
    result
}

/// Waits until nobody is, or is about to be, in code of this module by way of
/// a directory's inode. At the module's end, when all directories are removed. Sleeps.
pub fn wait_for_lookers() {
    // Without them nothing of ours was ever at an inode.
    if OPERATIONS.as_ref().is_none() {
        return;
    }
    // Pairs with the counting: who isn't seen below sees no slot.
    smp_mb(Full);
    while INSIDE.load(Acquire) != 0 {
        fsleep(Delta::from_millis(1));
    }
    // By the invariant `Restored` nobody comes any more but who has read the operations
    // already. By the invariant `Counted` he doesn't sleep until he is out again.
    // SAFETY: No preconditions but that the caller may sleep.
    unsafe { kvm_helper_synchronize_rcu_tasks() };
}

/// The lock of all such directories, a mutex. Inodes of debugfs are locked inside of it.
struct Locked(());

impl Locked {
    fn new() -> Self {
        // SAFETY: Dropping undoes it.
        unsafe { kvm_helper_lock_looks() };
        Self(())
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: Pairs with the call in `new`.
        unsafe { kvm_helper_unlock_looks() };
    }
}

extern "C" {
    fn kvm_helper_lock_looks();
    fn kvm_helper_unlock_looks();
    fn kvm_helper_synchronize_rcu_tasks();
}
