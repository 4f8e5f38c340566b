// SPDX-License-Identifier: GPL-2.0
//! Files of memory for guests (guest_memfd): pages that a hypervisor maps straight from
//! the file, whether a process has them mapped or not.
//!
//! - `filesystem`: what the inodes live in, and what each has.
//! - `operations`: what userspace can do with the file and mappings of it.
//! - `folio`: its pages. `policy`: on which memory nodes they are.
//!
//! Who owns whom: the file owns its [`Holder`] until it is closed, and with that the
//! module that the holder's code is in; the pages belong to the inode, which the kernel
//! drops a little later. A holder knows its file by a [`WeakFile`], which takes a
//! reference for as long as a page is looked for.
//!
//! The inode's `invalidate_lock` is held while pages are taken away; [`Holder`] is called
//! inside it.
//!
//! C: `include/linux/fs.h`, `include/linux/pagemap.h`.

mod filesystem;
mod folio;
mod operations;
mod policy;

use crate::gup::HostPage;
use core::{
    any::Any,
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, Ordering},
};
use filesystem::{ModuleReference, NewInode, State};
use kernel::{
    bindings,
    error::Result,
    fs::{file::FileDescriptorReservation, File},
    module::{this_module, ModuleMetadata},
    prelude::*,
    sync::{aref::ARef, Arc},
};

/// Who has pages of a file mapped in ways that the kernel doesn't know.
pub trait Holder: Send + Sync + 'static {
    /// Where the holder knows the file by.
    fn file(&self) -> &WeakFile;

    /// The pages from `first` up to `end` (both in pages from the file's begin) go away.
    /// On return nothing maps them, and nothing will until [`Self::invalidate_end`].
    /// Sleeps.
    fn invalidate_start(&self, first: u64, end: u64);

    /// They are gone. Called once for each start.
    fn invalidate_end(&self);

    /// The holder itself, for whoever knows its type.
    fn as_any(&self) -> &dyn Any;
}

/// What processes may do with the file's pages.
#[derive(Clone, Copy, Debug)]
pub struct Modes {
    /// The file can be mapped.
    pub mappable: bool,
    /// Mappings of it have its pages; without it, touching them raises SIGBUS.
    pub shared: bool,
}

/// Makes a file of `size` bytes, a multiple of the page size, and opens it for reading
/// and writing; the number of the descriptor, which stays open over exec. `holder` hears
/// of its pages until the file is closed; its code is in the module `M`.
///
/// # Errors
///
/// `EMFILE`, `ENFILE` or `ENOMEM`; `holder` is dropped.
pub fn create<M: ModuleMetadata>(size: u64, modes: Modes, holder: Arc<dyn Holder>) -> Result<u32> {
    create_for(this_module::<M>().as_ptr(), size, modes, holder)
}

fn create_for(
    module: *mut bindings::module,
    size: u64,
    modes: Modes,
    holder: Arc<dyn Holder>,
) -> Result<u32> {
    let module = ModuleReference::new(module)?;
    let descriptor = FileDescriptorReservation::get_unused_fd_flags(0)?;
    let inode = NewInode::new(size, State::new(modes, holder.clone(), module)?)?;
    let file = inode.open()?;
    holder.file().0.store(file.as_ptr(), Ordering::Release);
    let number = descriptor.reserved_fd();
    // SAFETY: The file is new and its one reference is ours to give away; nobody uses
    // its position.
    descriptor.fd_install(unsafe { ARef::from_raw(file.cast::<File>()) });
    Ok(number)
}

/// A file while it is open, for a holder that doesn't keep it open.
///
/// # Invariants
///
/// Null, or a file that [`create`] made and that isn't released yet.
pub struct WeakFile(AtomicPtr<bindings::file>);

impl WeakFile {
    /// No file yet.
    pub const fn new() -> Self {
        // INVARIANT: null.
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// The file, unless it was closed.
    pub fn get(&self) -> Option<OpenFile> {
        // SAFETY: By the type invariant the pointer leads to a file or to the memory of
        // one that was closed; the function can tell, for such memory stays a file's
        // until the end of an RCU section, and the pointer is cleared before.
        let file = unsafe { bindings::get_file_active(self.0.as_ptr()) };
        // INVARIANT: the reference just taken.
        NonNull::new(file).map(OpenFile)
    }

    /// The file is being closed.
    fn clear(&self) {
        // INVARIANT: null.
        self.0.store(ptr::null_mut(), Ordering::Release);
    }
}

impl Default for WeakFile {
    fn default() -> Self {
        Self::new()
    }
}

/// A file of memory, kept open.
///
/// # Invariants
///
/// A file that [`create`] made, with a reference to it.
pub struct OpenFile(NonNull<bindings::file>);

impl OpenFile {
    /// The file behind a descriptor of the current process.
    ///
    /// # Errors
    ///
    /// `EBADF` if it isn't open; `EINVAL` if it isn't such a file.
    pub fn from_descriptor(number: u32) -> Result<Self> {
        // SAFETY: Takes any number.
        let file = NonNull::new(unsafe { bindings::fget(number) }).ok_or(EBADF)?;
        // SAFETY: The file is referenced.
        if !operations::are_of(unsafe { file.as_ref() }) {
            // SAFETY: The reference is ours.
            unsafe { bindings::fput(file.as_ptr()) };
            return Err(EINVAL);
        }
        // INVARIANT: as just found out; only `create` makes files with these operations.
        Ok(Self(file))
    }

    fn inode(&self) -> *mut bindings::inode {
        // SAFETY: By the type invariant; a file's inode doesn't change.
        unsafe { (*self.0.as_ptr()).f_inode }
    }

    fn state(&self) -> &State {
        // SAFETY: By the type invariant the inode is one of ours, and the file keeps it.
        unsafe { State::of(self.inode()) }
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        // SAFETY: The file keeps the inode, whose size doesn't change.
        unsafe { (*self.inode()).i_size as u64 }
    }

    /// What processes may do with it.
    pub fn modes(&self) -> Modes {
        self.state().modes
    }

    /// Who holds its pages.
    pub fn holder(&self) -> Option<&dyn Holder> {
        // SAFETY: The holder is taken away when the last reference is gone.
        unsafe { self.state().holder() }.map(|holder| &**holder)
    }

    /// A page by its number, which is made if it isn't there. Sleeps.
    ///
    /// # Errors
    ///
    /// `EHWPOISON` if it is broken; `ENOMEM`; `EINTR`.
    pub fn page(&self, number: u64) -> Result<HostPage> {
        // SAFETY: By the type invariant the inode is one of ours, and the file keeps it.
        let folio = unsafe { folio::get(self.inode(), number) }?;
        if folio.is_poisoned() {
            return Err(EHWPOISON);
        }
        folio.fill();
        Ok(folio.into_host_page())
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { bindings::fput(self.0.as_ptr()) };
    }
}
