// SPDX-License-Identifier: GPL-2.0
//! Directories of numbers in debugfs.
//!
//! The `kernel` crate's debugfs has a type and a function for each file; here the
//! files of a directory are known by a list only. Reading one gives its number,
//! writing 0 resets it. Where the kernel has no debugfs, all this is made and
//! nobody sees it. What is in a directory may be made at the first look only
//! ([`lazy`]).
//!
//! C header: `include/linux/debugfs.h`.

pub mod lazy;

use self::lazy::Gate;
use core::{
    marker::PhantomData,
    ptr::{self, NonNull},
};
use kernel::{
    bindings,
    error::from_err_ptr,
    ffi::{c_int, c_void},
    module::{this_module, ModuleMetadata},
    prelude::*,
    sync::Arc,
};

/// What files show, by index.
pub trait Numbers: Send + Sync + 'static {
    /// One of the numbers. May sleep.
    fn get(&self, index: usize) -> u64;

    /// Sets one of them to zero. May sleep.
    fn reset(&self, index: usize);
}

/// A file or directory that is removed when this is dropped; then nobody is in any
/// of its operations any more. It may be an error in their place, which debugfs
/// takes as well.
struct Dentry(*mut bindings::dentry);

// SAFETY: debugfs has its own locks.
unsafe impl Send for Dentry {}
// SAFETY: As above.
unsafe impl Sync for Dentry {}

impl Dentry {
    fn is_error(&self) -> bool {
        from_err_ptr(self.0).is_err()
    }

    /// Its inode, which lives as long as it does.
    fn inode(&self) -> Option<NonNull<bindings::inode>> {
        let dentry = from_err_ptr(self.0).ok()?;
        // SAFETY: No error, so it is one that debugfs made, with an inode.
        NonNull::new(unsafe { (*dentry).d_inode })
    }

    /// Whether nobody but debugfs has a reference to it.
    fn has_one_reference(&self) -> bool {
        let Ok(dentry) = from_err_ptr(self.0) else { return true };
        // SAFETY: No error, so it is one that debugfs made.
        unsafe { kvm_helper_dentry_count(dentry.cast()) == 1 }
    }
}

impl Drop for Dentry {
    fn drop(&mut self) {
        // SAFETY: debugfs made it, and what is in it holds this, so is gone.
        unsafe { bindings::debugfs_remove(self.0) };
    }
}

/// A directory.
pub struct Dir {
    // In this order: what is at the directory, itself, where it is.
    gate: Option<Gate>,
    dentry: Dentry,
    parent: Option<Arc<Dir>>,
}

impl Dir {
    /// A directory at the top, with a [`Gate`]: within it there may be some that are
    /// [`lazy`]. Sleeps for a while.
    ///
    /// # Errors
    ///
    /// Those of [`Self::new`].
    pub fn with_gate(name: &CStr) -> Result<Arc<Self>> {
        let mut this = Self::make(name, None)?;
        this.gate = Some(Gate::new(&this.dentry));
        Ok(Arc::new(this, GFP_KERNEL_ACCOUNT)?)
    }

    /// A directory within another one, or at the top.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is something of this name; `ENOMEM`. Whatever else debugfs
    /// has against it is none.
    pub fn new(name: &CStr, parent: Option<Arc<Self>>) -> Result<Arc<Self>> {
        Ok(Arc::new(Self::make(name, parent)?, GFP_KERNEL_ACCOUNT)?)
    }

    /// Whether who comes to it by a path has a reference to it.
    fn is_below_gate(&self) -> bool {
        let gate = self.parent.as_ref().and_then(|parent| parent.gate.as_ref());
        gate.is_some_and(Gate::is_shut)
    }

    /// Of something that was made in it: a directory that is there is to have it.
    fn check(&self, made: &Dentry) -> Result {
        if made.is_error() && !self.dentry.is_error() {
            return Err(ENOMEM);
        }
        Ok(())
    }

    fn make(name: &CStr, parent: Option<Arc<Self>>) -> Result<Self> {
        let at = parent.as_ref().map_or(ptr::null_mut(), |parent| parent.dentry.0);
        // SAFETY: The parent is one that debugfs made, or an error.
        let there = unsafe { bindings::debugfs_lookup(name.as_char_ptr(), at) };
        if !there.is_null() {
            // SAFETY: The function returned a reference.
            unsafe { bindings::dput(there) };
            return Err(EEXIST);
        }
        // SAFETY: The name is copied; the parent as above.
        let dentry = Dentry(unsafe { bindings::debugfs_create_dir(name.as_char_ptr(), at) });
        if let Some(parent) = &parent {
            parent.check(&dentry)?;
        }
        Ok(Self { gate: None, dentry, parent })
    }
}

/// What a file's operations find.
struct Entry<N: ?Sized> {
    numbers: Arc<N>,
    index: usize,
}

/// How a number is shown, and whether it can be reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Not negative; writing 0 resets it.
    Counter,
    /// Not negative.
    Unsigned,
    /// Of two's complement.
    Signed,
}

/// A file to be made.
#[derive(Clone, Copy)]
pub struct File<'a> {
    /// Its name.
    pub name: &'a CStr,
    /// Which of the numbers it shows.
    pub index: usize,
    /// How.
    pub shape: Shape,
}

/// Files in a directory, each for a number; gone when this is dropped. `M` is the
/// module whose code shows them; an open file pins it.
///
/// # Invariants
///
/// The files' data are elements of `entries`, which don't move.
pub struct Files<N: Numbers + ?Sized, M> {
    // In this order: the files before what they show, the directory last.
    files: KVVec<Dentry>,
    entries: KVVec<Entry<N>>,
    dir: Arc<Dir>,
    _module: PhantomData<fn() -> M>,
}

impl<N: Numbers + ?Sized, M: ModuleMetadata> Files<N, M> {
    /// Makes the files.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new<'a>(
        dir: Arc<Dir>,
        numbers: &Arc<N>,
        files: impl Iterator<Item = File<'a>> + Clone,
    ) -> Result<Self> {
        let count = files.clone().count();
        let mut this = Self {
            files: KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?,
            entries: KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?,
            dir,
            _module: PhantomData,
        };
        for File { index, .. } in files.clone() {
            this.entries.push(Entry { numbers: numbers.clone(), index }, GFP_KERNEL_ACCOUNT)?;
        }
        for (file, entry) in files.zip(&this.entries) {
            // SAFETY: The name is copied; the directory is one that debugfs made;
            // the operations are static and expect an `Entry<N>`.
            let dentry = unsafe {
                bindings::debugfs_create_file_full(
                    file.name.as_char_ptr(),
                    if file.shape == Shape::Counter { 0o644 } else { 0o444 },
                    this.dir.dentry.0,
                    ptr::from_ref(entry).cast_mut().cast(),
                    ptr::null(),
                    match file.shape {
                        Shape::Counter => &Self::COUNTER,
                        Shape::Unsigned => &Self::UNSIGNED,
                        Shape::Signed => &Self::SIGNED,
                    },
                )
            };
            let dentry = Dentry(dentry);
            this.dir.check(&dentry)?;
            // INVARIANT: the data is an element, and nothing is added any more.
            this.files.push(dentry, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(this)
    }

    const COUNTER: bindings::file_operations = bindings::file_operations {
        owner: this_module::<M>().as_ptr(),
        open: Some(Self::open::<true, false>),
        release: Some(bindings::simple_attr_release),
        read: Some(bindings::simple_attr_read),
        write: Some(bindings::simple_attr_write),
        ..pin_init::zeroed()
    };

    const UNSIGNED: bindings::file_operations =
        bindings::file_operations { open: Some(Self::open::<false, false>), ..Self::COUNTER };

    const SIGNED: bindings::file_operations =
        bindings::file_operations { open: Some(Self::open::<false, true>), ..Self::COUNTER };

    /// # Safety
    ///
    /// Called by debugfs for a file of this type.
    unsafe extern "C" fn open<const WRITE: bool, const SIGNED: bool>(
        inode: *mut bindings::inode,
        file: *mut bindings::file,
    ) -> c_int {
        let set: Option<unsafe extern "C" fn(*mut c_void, u64) -> c_int> =
            if WRITE { Some(Self::set) } else { None };
        let format = if SIGNED { c"%lld\n" } else { c"%llu\n" };
        // SAFETY: Both are what the caller got; the inode's data is an `Entry<N>`,
        // as the functions expect it.
        unsafe {
            bindings::simple_attr_open(inode, file, Some(Self::get), set, format.as_char_ptr())
        }
    }

    /// # Safety
    ///
    /// `entry` is an `Entry<N>` that exists during the call, which debugfs sees to
    /// until the file is removed; `value` is valid for writing.
    unsafe extern "C" fn get(entry: *mut c_void, value: *mut u64) -> c_int {
        // SAFETY: By this function's contract.
        let entry = unsafe { &*entry.cast_const().cast::<Entry<N>>() };
        // SAFETY: As above.
        unsafe { value.write(entry.numbers.get(entry.index)) };
        0
    }

    /// # Safety
    ///
    /// As for [`Self::get`].
    unsafe extern "C" fn set(entry: *mut c_void, value: u64) -> c_int {
        if value != 0 {
            return EINVAL.to_errno();
        }
        // SAFETY: By this function's contract.
        let entry = unsafe { &*entry.cast_const().cast::<Entry<N>>() };
        entry.numbers.reset(entry.index);
        0
    }
}

extern "C" {
    fn kvm_helper_dentry_count(dentry: *const c_void) -> c_int;
}
