// SPDX-License-Identifier: GPL-2.0
//! What userspace can do with a file of memory: close it, make and take pages
//! (fallocate), map it. And what the kernel does with its pages.

use super::{
    filesystem::{this_module, State, Static},
    folio,
};
use crate::process;
use kernel::{
    bindings, current,
    error::Result,
    ffi::{c_int, c_long},
    mm::virt,
    page::{PAGE_MASK, PAGE_SHIFT},
    prelude::*,
};

/// `FALLOC_FL_KEEP_SIZE` and `FALLOC_FL_PUNCH_HOLE` (`include/uapi/linux/falloc.h`).
const KEEP_SIZE: c_int = 1 << 0;
const PUNCH_HOLE: c_int = 1 << 1;

pub(super) static FILE: Static<bindings::file_operations> =
    Static::new(bindings::file_operations {
        owner: this_module(),
        open: Some(bindings::generic_file_open),
        release: Some(release),
        fallocate: Some(fallocate),
        mmap: Some(mmap),
        ..pin_init::zeroed()
    });

pub(super) static INODE: Static<bindings::inode_operations> =
    Static::new(bindings::inode_operations {
        setattr: Some(refuse_attributes),
        ..pin_init::zeroed()
    });

pub(super) static MAPPING: Static<bindings::address_space_operations> =
    Static::new(bindings::address_space_operations {
        dirty_folio: Some(bindings::noop_dirty_folio),
        migrate_folio: Some(refuse_migration),
        error_remove_folio: Some(page_broke),
        ..pin_init::zeroed()
    });

static AREA: Static<bindings::vm_operations_struct> = Static::new(bindings::vm_operations_struct {
    fault: Some(fault),
    #[cfg(CONFIG_NUMA)]
    set_policy: Some(set_policy),
    #[cfg(CONFIG_NUMA)]
    get_policy: Some(get_policy),
    ..pin_init::zeroed()
});

/// Whether a file is one of memory.
pub(super) fn are_of(file: &bindings::file) -> bool {
    core::ptr::eq(file.f_op, FILE.get())
}

/// An inode's `invalidate_lock`: pages aren't taken away meanwhile, or, held for writing,
/// aren't made by fallocate either.
///
/// # Invariants
///
/// The lock is held, and the inode stays.
struct Invalidation {
    inode: *mut bindings::inode,
    writing: bool,
}

impl Invalidation {
    /// # Safety
    ///
    /// The inode is there until the guard is dropped.
    unsafe fn lock(inode: *mut bindings::inode, writing: bool) -> Self {
        // SAFETY: By this function's contract.
        unsafe {
            let lock = &raw mut (*(*inode).i_mapping).invalidate_lock;
            if writing {
                bindings::down_write(lock);
            } else {
                bindings::down_read(lock);
            }
        }
        // INVARIANT: as just done.
        Self { inode, writing }
    }
}

impl Drop for Invalidation {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe {
            let lock = &raw mut (*(*self.inode).i_mapping).invalidate_lock;
            if self.writing {
                bindings::up_write(lock);
            } else {
                bindings::up_read(lock);
            }
        }
    }
}

/// The last reference to the file is gone. Its pages go with the inode.
///
/// # Safety
///
/// `inode` is that of `file`, which `NewInode::open` made and nobody uses afterwards.
unsafe extern "C" fn release(inode: *mut bindings::inode, _file: *mut bindings::file) -> c_int {
    // SAFETY: By this function's contract the inode is one of ours and still there.
    let (state, locked) = unsafe { (State::of(inode), Invalidation::lock(inode, true)) };
    // SAFETY: As both say.
    let held = unsafe { state.take_holder() };
    if let Some(held) = &held {
        held.holder.file().clear();
        held.holder.invalidate_start(0, u64::MAX);
        held.holder.invalidate_end();
    }
    drop(locked);
    // It may be the last that there is of a VM.
    drop(held);
    0
}

/// # Safety
///
/// `file` is one that `NewInode::open` made, and stays open.
unsafe extern "C" fn fallocate(
    file: *mut bindings::file,
    mode: c_int,
    offset: bindings::loff_t,
    length: bindings::loff_t,
) -> c_long {
    if mode & !PUNCH_HOLE != KEEP_SIZE {
        return EOPNOTSUPP.to_errno() as c_long;
    }
    // The kernel checked that neither is negative nor the sum too large.
    let (first, size) = (offset as u64, length as u64);
    if (first | size) & !(PAGE_MASK as u64) != 0 {
        return EINVAL.to_errno() as c_long;
    }
    let end = first.saturating_add(size);
    // SAFETY: By this function's contract; as the callees want it.
    let result = unsafe {
        let inode = (*file).f_inode;
        if mode & PUNCH_HOLE != 0 {
            punch_hole(inode, first, end);
            Ok(())
        } else {
            fill(inode, first, end)
        }
    };
    match result {
        Ok(()) => {
            // SAFETY: By this function's contract. Only the times change.
            unsafe { bindings::file_modified(file) };
            0
        }
        Err(error) => error.to_errno() as c_long,
    }
}

/// Takes the pages between two offsets away.
///
/// # Safety
///
/// `inode` is that of a file that `NewInode::open` made and that stays open.
unsafe fn punch_hole(inode: *mut bindings::inode, first: u64, end: u64) {
    // SAFETY: By this function's contract.
    let (state, _locked) = unsafe { (State::of(inode), Invalidation::lock(inode, true)) };
    // SAFETY: The file stays open.
    let holder = unsafe { state.holder() };
    if let Some(holder) = holder {
        holder.invalidate_start(first >> PAGE_SHIFT, end >> PAGE_SHIFT);
    }
    let last = end.wrapping_sub(1) as bindings::uoff_t;
    // SAFETY: The mapping is the inode's, which stays.
    unsafe {
        bindings::truncate_inode_pages_range((*inode).i_mapping, first as bindings::loff_t, last)
    };
    if let Some(holder) = holder {
        holder.invalidate_end();
    }
}

/// Makes the pages between two offsets.
///
/// # Errors
///
/// `EINVAL` beyond the end of the file; `EINTR` after a signal; `ENOMEM`.
///
/// # Safety
///
/// `inode` is that of a file that `NewInode::open` made and that stays open.
unsafe fn fill(inode: *mut bindings::inode, first: u64, end: u64) -> Result {
    // SAFETY: By this function's contract; the size doesn't change.
    if end > unsafe { (*inode).i_size } as u64 {
        return Err(EINVAL);
    }
    // SAFETY: By this function's contract.
    let _locked = unsafe { Invalidation::lock(inode, false) };
    for number in first >> PAGE_SHIFT..end >> PAGE_SHIFT {
        if current!().signal_pending() {
            return Err(EINTR);
        }
        // SAFETY: By this function's contract.
        drop(unsafe { folio::get(inode, number) }?);
        process::cond_resched();
    }
    Ok(())
}

/// # Safety
///
/// `vma` is an area that is being set up for `file`, which `NewInode::open` made.
unsafe extern "C" fn mmap(file: *mut bindings::file, vma: *mut bindings::vm_area_struct) -> c_int {
    // SAFETY: By this function's contract; the file keeps its inode.
    if !unsafe { State::of((*file).f_inode) }.modes.mappable {
        return ENODEV.to_errno();
    }
    // SAFETY: By this function's contract nobody else looks at the area yet; both variants
    // of the flags are numbers.
    let flags = unsafe { (*vma).__bindgen_anon_2.vm_flags };
    let shared = virt::flags::SHARED | virt::flags::MAYSHARE;
    if flags & shared != shared {
        return EINVAL.to_errno();
    }
    // SAFETY: As above.
    unsafe { (*vma).vm_ops = AREA.get() };
    0
}

/// The file of an area that [`mmap`] set up: its inode.
///
/// # Safety
///
/// `area` is such an area, and stays.
unsafe fn inode_of(area: *mut bindings::vm_area_struct) -> *mut bindings::inode {
    // SAFETY: By this function's contract; the area keeps its file open.
    unsafe { (*(*area).vm_file).f_inode }
}

/// A process touches a page.
///
/// # Safety
///
/// `fault` describes a fault in an area that [`mmap`] set up.
unsafe extern "C" fn fault(fault: *mut bindings::vm_fault) -> bindings::vm_fault_t {
    // SAFETY: By this function's contract.
    let (inode, number) = unsafe {
        let place = &(*fault).__bindgen_anon_1;
        (inode_of(place.vma), place.pgoff as u64)
    };
    // SAFETY: As above; the size doesn't change.
    let (state, size) = unsafe { (State::of(inode), (*inode).i_size as u64) };
    if number >= size >> PAGE_SHIFT || !state.modes.shared {
        return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
    }
    // SAFETY: As above.
    match unsafe { folio::get(inode, number) } {
        Ok(folio) => {
            folio.fill();
            // SAFETY: The caller wants a page in this field, locked as the result says.
            unsafe { (*fault).page = folio.into_page() };
            bindings::vm_fault_reason_VM_FAULT_LOCKED
        }
        Err(error) if error == ENOMEM => bindings::vm_fault_reason_VM_FAULT_OOM,
        Err(_) => bindings::vm_fault_reason_VM_FAULT_SIGBUS,
    }
}

/// A process chooses memory nodes for what it mapped.
///
/// # Safety
///
/// `area` is one that [`mmap`] set up; `policy` is null or a policy.
#[cfg(CONFIG_NUMA)]
unsafe extern "C" fn set_policy(
    area: *mut bindings::vm_area_struct,
    policy: *mut bindings::mempolicy,
) -> c_int {
    // SAFETY: By this function's contract.
    unsafe { State::of(inode_of(area)).policies.choose(area, policy) }
}

/// What was chosen for an address; null if nothing was, and not what the task chose for
/// itself, so that asking can tell.
///
/// # Safety
///
/// `area` is one that [`mmap`] set up and contains the address; `interleave` is writable.
#[cfg(CONFIG_NUMA)]
unsafe extern "C" fn get_policy(
    area: *mut bindings::vm_area_struct,
    address: kernel::ffi::c_ulong,
    interleave: *mut kernel::ffi::c_ulong,
) -> *mut bindings::mempolicy {
    // SAFETY: By this function's contract; nobody changes an area whose policy is asked for.
    let (inode, begin, first) = unsafe {
        let begin = (*area).__bindgen_anon_1.__bindgen_anon_1.vm_start;
        (inode_of(area), begin, (*area).vm_pgoff)
    };
    // SAFETY: As above.
    unsafe { *interleave = (*inode).i_ino as kernel::ffi::c_ulong };
    let page = first.wrapping_add(address.wrapping_sub(begin) >> PAGE_SHIFT);
    // SAFETY: As above.
    unsafe { State::of(inode) }.policies.at(page as u64).into_raw()
}

/// Size, mode and owner stay as they are.
extern "C" fn refuse_attributes(
    _map: *mut bindings::mnt_idmap,
    _entry: *mut bindings::dentry,
    _attributes: *mut bindings::iattr,
) -> c_int {
    EINVAL.to_errno()
}

/// What maps a page knows where it is.
extern "C" fn refuse_migration(
    _mapping: *mut bindings::address_space,
    _to: *mut bindings::folio,
    _from: *mut bindings::folio,
    _mode: bindings::migrate_mode,
) -> c_int {
    EINVAL.to_errno()
}

/// The hardware reported a page as broken: nothing maps it from now on. It stays in the
/// file, so that who touches it is told.
///
/// # Safety
///
/// `mapping` is that of an inode of ours, and has `folio`, which is locked.
unsafe extern "C" fn page_broke(
    mapping: *mut bindings::address_space,
    folio: *mut bindings::folio,
) -> c_int {
    // SAFETY: By this function's contract; the locked folio keeps the inode.
    let (state, _locked) = unsafe {
        let inode = (*mapping).host;
        (State::of(inode), Invalidation::lock(inode, false))
    };
    // SAFETY: The lock is held.
    if let Some(holder) = unsafe { state.holder() } {
        // SAFETY: By this function's contract.
        let number = unsafe { kvm_helper_folio_index(folio) };
        holder.invalidate_start(number, number.saturating_add(1));
        holder.invalidate_end();
    }
    bindings::mf_result_MF_DELAYED as c_int
}

#[allow(improper_ctypes, reason = "some member is empty in some configurations")]
extern "C" {
    fn kvm_helper_folio_index(folio: *mut bindings::folio) -> u64;
}
