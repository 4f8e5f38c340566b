// SPDX-License-Identifier: GPL-2.0
//! Files without a name: what VM, vCPU, device and statistics fds are.
//!
//! C header: `include/linux/anon_inodes.h`.

use crate::{bindings as own, shared_page::SharedPage};
use core::{marker::PhantomData, ptr};
use kernel::{
    bindings,
    error::{from_err_ptr, Result},
    ffi::{c_char, c_int, c_long, c_uint, c_ulong},
    fs::{
        file::flags::{O_CLOEXEC, O_RDONLY, O_RDWR},
        file::FileDescriptorReservation,
        File,
    },
    mm::virt,
    module::{this_module, ModuleMetadata},
    page::PAGE_SHIFT,
    prelude::*,
    sync::{aref::ARef, Arc, ArcBorrow},
    types::ForeignOwnable,
    uaccess::{UserPtr, UserSlice, UserSliceWriter},
};

/// What a nameless file does. The file holds a reference to the object; closing
/// the last descriptor drops it.
pub trait AnonFile: Send + Sync + 'static {
    /// The module that is pinned while the file exists.
    type Module: ModuleMetadata;
    /// Whether 32-bit processes of a 64-bit kernel may use the file, with the
    /// same requests.
    const COMPAT: bool;
    /// Whether the file has pages to map; see [`Self::page`].
    const MAPPABLE: bool = false;
    /// Whether the file can be read, at any position, instead of being opened for
    /// reading and writing; see [`Self::read`].
    const READABLE: bool = false;

    /// Answers a request; `arg` is whatever userspace passed, a number or an
    /// unchecked user address.
    ///
    /// # Errors
    ///
    /// `ENOTTY` for an unknown request.
    fn ioctl(_this: ArcBorrow<'_, Self>, _request: u32, _arg: usize) -> Result<u32> {
        Err(ENOTTY)
    }

    /// Copies what the file holds from `position` on, as much as fits; the number
    /// of bytes, 0 at the end.
    ///
    /// # Errors
    ///
    /// `EFAULT` if userspace's buffer can't be written.
    fn read(
        _this: ArcBorrow<'_, Self>,
        _buffer: &mut UserSliceWriter,
        _position: usize,
    ) -> Result<usize> {
        Err(EINVAL)
    }

    /// The last descriptor was closed. Others may still hold the object.
    fn released(_this: ArcBorrow<'_, Self>) {}

    /// The page that userspace sees at an offset, in pages. Touching an offset
    /// without a page raises SIGBUS.
    fn page(&self, _offset: usize) -> Option<&SharedPage> {
        None
    }

    /// Whether userspace may map pages in this way.
    fn may_map(&self, _mapping: &Mapping) -> bool {
        true
    }
}

/// How userspace wants to map pages of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Offset of the first page, in pages.
    pub first: usize,
    /// Offset of the last page, in pages.
    pub last: usize,
    /// Writes reach the file's pages.
    pub is_shared: bool,
    /// Code may run there.
    pub is_executable: bool,
}

/// A file and a descriptor for it that userspace can't see yet. Dropping it
/// closes both; nothing can fail between here and [`Opening::finish`].
pub struct Opening {
    descriptor: FileDescriptorReservation,
    file: ARef<File>,
}

impl Opening {
    /// Makes a file on `object`, close-on-exec. `name` is what /proc shows.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE` or `ENOMEM`; the reference to `object` is dropped.
    pub fn new<T: AnonFile>(name: &CStr, object: Arc<T>) -> Result<Self> {
        let descriptor = FileDescriptorReservation::get_unused_fd_flags(O_CLOEXEC)?;
        Ok(Self { descriptor, file: new_file(name, object)? })
    }

    /// The number that the descriptor will have.
    pub fn number(&self) -> u32 {
        self.descriptor.reserved_fd()
    }

    /// Lets userspace have it; the descriptor's number.
    pub fn finish(self) -> u32 {
        let number = self.number();
        self.descriptor.fd_install(self.file);
        number
    }
}

fn new_file<T: AnonFile>(name: &CStr, object: Arc<T>) -> Result<ARef<File>> {
    let object = object.into_foreign();
    let (flags, mode) = if T::READABLE { (O_RDONLY, own::ABI_FMODE_PREAD) } else { (O_RDWR, 0) };
    // SAFETY: The name is copied; the operations live as long as the module,
    // which they pin, and expect a foreign `Arc<T>` as private data.
    let file = from_err_ptr(unsafe {
        own::anon_inode_getfile_fmode(
            name.as_char_ptr(),
            &Operations::<T>::TABLE,
            object,
            flags as c_int,
            mode,
        )
    })
    .inspect_err(|_| {
        // SAFETY: No file was made, so the reference is still ours.
        drop(unsafe { Arc::<T>::from_foreign(object) });
    })?;
    // SAFETY: The file is new and its one reference is ours to give away.
    Ok(unsafe { ARef::from_raw(ptr::NonNull::new_unchecked(file.cast::<File>())) })
}

struct Operations<T>(PhantomData<T>);

impl<T: AnonFile> Operations<T> {
    const TABLE: bindings::file_operations = bindings::file_operations {
        owner: this_module::<T::Module>().as_ptr(),
        release: Some(Self::release),
        read: if T::READABLE { Some(Self::read) } else { None },
        unlocked_ioctl: Some(Self::ioctl),
        compat_ioctl: if T::COMPAT { Some(Self::ioctl) } else { None },
        mmap: if T::MAPPABLE { Some(Self::mmap) } else { None },
        llseek: Some(bindings::noop_llseek),
        ..pin_init::zeroed()
    };

    const PAGES: bindings::vm_operations_struct =
        bindings::vm_operations_struct { fault: Some(Self::fault), ..pin_init::zeroed() };

    /// # Safety
    ///
    /// `file` is one that [`new_file`] made, and isn't used afterwards.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: By this function's contract the private data is the foreign
        // `Arc<T>`, and nobody borrows it any more.
        let object = unsafe { Arc::<T>::from_foreign((*file).private_data) };
        T::released(object.as_arc_borrow());
        0
    }

    /// # Safety
    ///
    /// `file` is one that [`new_file`] made and stays open during the call;
    /// `position` is valid for reading and writing.
    unsafe extern "C" fn read(
        file: *mut bindings::file,
        buffer: *mut c_char,
        length: usize,
        position: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: By this function's contract the private data is the foreign
        // `Arc<T>`, and isn't released during the call.
        let object = unsafe { Arc::<T>::borrow((*file).private_data) };
        // SAFETY: By this function's contract.
        let position = unsafe { &mut *position };
        let Ok(from) = usize::try_from(*position) else {
            return EINVAL.to_errno() as isize;
        };
        let mut to = UserSlice::new(UserPtr::from_ptr(buffer.cast()), length).writer();
        match T::read(object, &mut to, from) {
            Ok(count) => {
                *position = position.saturating_add(count as bindings::loff_t);
                count as isize
            }
            Err(err) => err.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// `file` is one that [`new_file`] made and stays open during the call.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, request: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: By this function's contract the private data is the foreign
        // `Arc<T>`, and isn't released during the call.
        let object = unsafe { Arc::<T>::borrow((*file).private_data) };
        match T::ioctl(object, request, arg) {
            Ok(value) => value as c_long,
            Err(err) => err.to_errno() as c_long,
        }
    }

    /// # Safety
    ///
    /// `vma` is an area that is being set up for `file`, which [`new_file`] made.
    unsafe extern "C" fn mmap(
        file: *mut bindings::file,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: By this function's contract the private data is the foreign
        // `Arc<T>`, and isn't released during the call.
        let object = unsafe { Arc::<T>::borrow((*file).private_data) };
        // SAFETY: By this function's contract nobody else looks at the area yet.
        let vma = unsafe { &mut *vma };
        // SAFETY: Both variants of the flags are numbers.
        let (first, flags) = (vma.vm_pgoff, unsafe { vma.__bindgen_anon_2.vm_flags });
        // SAFETY: As above, of the addresses.
        let range = unsafe { vma.__bindgen_anon_1.__bindgen_anon_1 };
        let pages = range.vm_end.wrapping_sub(range.vm_start) >> PAGE_SHIFT;
        let mapping = Mapping {
            first,
            last: first.saturating_add(pages.saturating_sub(1)),
            is_shared: flags & virt::flags::SHARED != 0,
            is_executable: flags & virt::flags::EXEC != 0,
        };
        if !object.may_map(&mapping) {
            return EINVAL.to_errno();
        }
        vma.vm_ops = &Self::PAGES;
        0
    }

    /// # Safety
    ///
    /// `fault` describes a fault in an area that [`Self::mmap`] set up.
    unsafe extern "C" fn fault(fault: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: By this function's contract the area belongs to a file that
        // `new_file` made; the area keeps it open.
        let (object, offset) = unsafe {
            let place = &(*fault).__bindgen_anon_1;
            (Arc::<T>::borrow((*(*place.vma).vm_file).private_data), place.pgoff)
        };
        let Some(page) = object.page(offset) else {
            return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
        };
        // SAFETY: The caller wants a referenced page in this field.
        unsafe { (*fault).page = page.take_reference() };
        0
    }
}
