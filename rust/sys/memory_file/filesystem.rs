// SPDX-License-Identifier: GPL-2.0
//! The file system that files of memory live in. Nobody can mount it but this code.
//!
//! It is there while one of its inodes is. The superblock pins this module: neither
//! module's end nor anything else has to wait for inodes.

use super::{operations, policy::Policies, Holder, Modes};
use crate::bindings as own;
use core::{
    cell::UnsafeCell,
    mem::ManuallyDrop,
    ptr::{self, NonNull},
};
use kernel::{
    bindings,
    error::{from_err_ptr, to_result, Result},
    ffi::c_int,
    prelude::*,
    sync::Arc,
};

/// What userspace sees as the type of the file system (`GUEST_MEMFD_MAGIC`).
const MAGIC: usize = 0x474d_454d;

/// What /proc shows for a descriptor.
const NAME: &CStr = c"[kvm-gmem]";

/// A value that the kernel uses by its own rules.
#[repr(transparent)]
pub(super) struct Static<T>(UnsafeCell<T>);

// SAFETY: Only the kernel's functions, which take their own locks, and what they call
// reach the value.
unsafe impl<T> Sync for Static<T> {}

impl<T> Static<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    pub(super) const fn get(&self) -> *mut T {
        self.0.get()
    }
}

static TYPE: Static<bindings::file_system_type> = Static::new(bindings::file_system_type {
    name: kernel::str::as_char_ptr_in_const_context(c"guest_memfd"),
    init_fs_context: Some(init),
    kill_sb: Some(bindings::kill_anon_super),
    owner: this_module(),
    ..pin_init::zeroed()
});

static SUPER_OPERATIONS: Static<bindings::super_operations> =
    Static::new(bindings::super_operations {
        statfs: Some(bindings::simple_statfs),
        evict_inode: Some(evict),
        ..pin_init::zeroed()
    });

/// The one mount, and how many inodes want it. `simple_pin_fs()` has the lock.
static MOUNT: Static<*mut bindings::vfsmount> = Static::new(ptr::null_mut());
static PINS: Static<c_int> = Static::new(0);

/// This module, kvm.ko.
pub(super) const fn this_module() -> *mut bindings::module {
    (&raw const __this_module).cast_mut()
}

/// # Safety
///
/// `context` is one that is being set up for a file system of this type.
unsafe extern "C" fn init(context: *mut bindings::fs_context) -> c_int {
    // SAFETY: By this function's contract.
    let pseudo = unsafe { own::init_pseudo(context, MAGIC) };
    if pseudo.is_null() {
        return ENOMEM.to_errno();
    }
    // SAFETY: Just made for the context, which nobody else uses yet.
    unsafe { (*pseudo).ops = SUPER_OPERATIONS.get() };
    0
}

/// Nobody has the inode any more.
///
/// # Safety
///
/// `inode` is one of this file system's that is being dropped.
unsafe extern "C" fn evict(inode: *mut bindings::inode) {
    // SAFETY: By this function's contract; what every inode needs.
    unsafe {
        bindings::truncate_inode_pages_final(&raw mut (*inode).i_data);
        bindings::clear_inode(inode);
    }
    // SAFETY: By this function's contract nobody else uses the field.
    let state = unsafe { (*inode).i_private }.cast::<State>();
    // The root has none.
    if !state.is_null() {
        // SAFETY: `NewInode` left a box there, and a pin of the mount.
        unsafe {
            drop(KBox::from_raw(state));
            bindings::simple_release_fs(MOUNT.get(), PINS.get());
        }
    }
}

/// A reference to a module.
///
/// # Invariants
///
/// The reference is ours.
pub(super) struct ModuleReference(NonNull<bindings::module>);

// SAFETY: References may be given back by any thread.
unsafe impl Send for ModuleReference {}
// SAFETY: There is nothing to be done through a shared one.
unsafe impl Sync for ModuleReference {}

impl ModuleReference {
    /// To a module, whose code the caller runs.
    ///
    /// # Errors
    ///
    /// `ENOENT` if it is going away.
    pub(super) fn new(module: *mut bindings::module) -> Result<Self> {
        // SAFETY: Null, for what isn't a module, or a module that is there.
        if !unsafe { bindings::try_module_get(module) } {
            return Err(ENOENT);
        }
        // INVARIANT: just taken.
        NonNull::new(module).map(Self).ok_or(ENOENT)
    }
}

impl Drop for ModuleReference {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::module_put(self.0.as_ptr()) };
    }
}

/// What an inode of ours has.
pub(super) struct State {
    pub(super) modes: Modes,
    pub(super) policies: Policies,
    /// The holder, until the file is closed. Taken with the inode's `invalidate_lock`
    /// held for writing, after all references to the file.
    holder: UnsafeCell<Option<Held>>,
}

/// A holder, and the module that its code is in. Dropped in this order.
pub(super) struct Held {
    pub(super) holder: Arc<dyn Holder>,
    _module: ModuleReference,
}

impl State {
    /// For a new inode.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(
        modes: Modes,
        holder: Arc<dyn Holder>,
        module: ModuleReference,
    ) -> Result<KBox<Self>> {
        let held = Held { holder, _module: module };
        let state = Self { modes, policies: Policies::new(), holder: UnsafeCell::new(Some(held)) };
        let mut state = KBox::new(state, GFP_KERNEL_ACCOUNT)?;
        state.policies.set_up();
        Ok(state)
    }

    /// That of an inode.
    ///
    /// # Safety
    ///
    /// The inode is that of a file that [`NewInode::open`] made, and stays while the
    /// reference is used.
    pub(super) unsafe fn of<'a>(inode: *mut bindings::inode) -> &'a Self {
        // SAFETY: By this function's contract; `NewInode` left a box there.
        unsafe { &*(*inode).i_private.cast::<Self>() }
    }

    /// The holder.
    ///
    /// # Safety
    ///
    /// While the reference is used, the caller has a reference to the file or the
    /// inode's `invalidate_lock`.
    pub(super) unsafe fn holder(&self) -> Option<&Arc<dyn Holder>> {
        // SAFETY: By this function's contract nobody takes it.
        unsafe { &*self.holder.get() }.as_ref().map(|held| &held.holder)
    }

    /// Takes the holder away.
    ///
    /// # Safety
    ///
    /// The file has no references, and the caller has the inode's `invalidate_lock` for
    /// writing.
    pub(super) unsafe fn take_holder(&self) -> Option<Held> {
        // SAFETY: By this function's contract nobody looks.
        unsafe { (*self.holder.get()).take() }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.policies.tear_down();
    }
}

/// An inode that has no file yet.
///
/// # Invariants
///
/// An inode of this file system, with a reference to it. It has a [`State`] and a pin of
/// the mount, which [`evict`] takes.
pub(super) struct NewInode(NonNull<bindings::inode>);

impl NewInode {
    /// Makes an inode of `size` bytes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; what a security module says.
    pub(super) fn new(size: u64, state: KBox<State>) -> Result<Self> {
        // SAFETY: The type and both variables are there for this.
        to_result(unsafe { bindings::simple_pin_fs(TYPE.get(), MOUNT.get(), PINS.get()) })?;
        // SAFETY: The mount is there, for it is pinned.
        let inode = from_err_ptr(unsafe {
            own::anon_inode_make_secure_inode(
                (**MOUNT.get()).mnt_sb,
                NAME.as_char_ptr(),
                ptr::null(),
            )
        })
        .inspect_err(|_| {
            // SAFETY: The pin is ours.
            unsafe { bindings::simple_release_fs(MOUNT.get(), PINS.get()) };
        })?;
        // SAFETY: The inode is new, and nobody else sees it yet. The tables live as long
        // as this module.
        unsafe {
            (*inode).i_private = KBox::into_raw(state).cast();
            (*inode).i_op = operations::INODE.get();
            (*inode).i_mode |= bindings::S_IFREG as bindings::umode_t;
            (*inode).i_size = size as bindings::loff_t;
            (*(*inode).i_mapping).a_ops = operations::MAPPING.get();
            kvm_helper_set_inaccessible((*inode).i_mapping);
        }
        // INVARIANT: all that was just set up.
        NonNull::new(inode).map(Self).ok_or(ENOMEM)
    }

    /// A file on it, with one reference.
    ///
    /// # Errors
    ///
    /// `ENFILE`, `ENOMEM`.
    pub(super) fn open(self) -> Result<NonNull<bindings::file>> {
        let module = ModuleReference::new(this_module())?;
        // SAFETY: The inode and the mount are there, and the operations live as long as
        // this module, of which the file takes a reference.
        let file = from_err_ptr(unsafe {
            bindings::alloc_file_pseudo(
                self.0.as_ptr(),
                *MOUNT.get(),
                NAME.as_char_ptr(),
                bindings::O_RDWR as c_int,
                operations::FILE.get(),
            )
        })?;
        // The file has both now.
        let _ = (ManuallyDrop::new(self), ManuallyDrop::new(module));
        // SAFETY: The file is new, and nobody else sees it yet.
        unsafe { (*file).f_flags |= bindings::O_LARGEFILE };
        NonNull::new(file).ok_or(ENOMEM)
    }
}

impl Drop for NewInode {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { bindings::iput(self.0.as_ptr()) };
    }
}

#[allow(improper_ctypes, reason = "some member is empty in some configurations")]
extern "C" {
    static __this_module: bindings::module;
    fn kvm_helper_set_inaccessible(mapping: *mut bindings::address_space);
}
