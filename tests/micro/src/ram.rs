// SPDX-License-Identifier: GPL-2.0
//! Memory of the test process that guests have as theirs.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::mman::{
    MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap,
};

/// A mapping. Guests and threads change it at any time: it is only read and written whole values at a
/// time, never borrowed.
///
/// # Invariants
/// `start` is the start of a mapping of `size` bytes that belongs to this value.
pub struct Ram {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: the mapping belongs to the process, and every access is volatile.
unsafe impl Send for Ram {}
// SAFETY: as above.
unsafe impl Sync for Ram {}

/// Alignment of mappings: that of the largest page they may come to lie in.
const ALIGN: usize = 2 << 20;

impl Ram {
    /// Zeroed memory of the process's own.
    pub fn new(size: usize) -> Result<Self> {
        Self::with_flags(size, MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE)
    }

    /// The same with other flags of mmap. It is aligned to 2 MiB.
    pub fn with_flags(size: usize, flags: MapFlags) -> Result<Self> {
        let whole = NonZeroUsize::new(size + ALIGN).context("no size")?;
        // SAFETY: a new mapping at an address of the kernel's choice harms nothing.
        let start = unsafe { mmap_anonymous(None, whole, READ_WRITE, flags) }.context("mmap")?;
        let address = start.as_ptr() as usize;
        let aligned = address.next_multiple_of(ALIGN);
        // SAFETY: the pieces before and behind the aligned one are this function's own.
        unsafe {
            if aligned > address {
                munmap(start, aligned - address).context("munmap")?;
            }
            let end = aligned + size;
            let rest = NonNull::new(end as *mut libc::c_void).context("null")?;
            munmap(rest, address + whole.get() - end).context("munmap")?;
        }
        let start = NonNull::new(aligned as *mut u8).context("null")?;
        // INVARIANT: what is left of the mapping is [aligned, aligned + size).
        Ok(Self { start, size })
    }

    /// `size` bytes of a file.
    pub fn of_file(file: &File, size: usize, flags: MapFlags) -> Result<Self> {
        Self::of_file_at(file, 0, size, READ_WRITE, flags)
    }

    /// `size` bytes of a file from `offset` on. Only what `protection` allows may be done with them.
    pub fn of_file_at(
        file: &File,
        offset: i64,
        size: usize,
        protection: ProtFlags,
        flags: MapFlags,
    ) -> Result<Self> {
        let length = NonZeroUsize::new(size).context("no size")?;
        // SAFETY: a new mapping at an address of the kernel's choice harms nothing.
        let start = unsafe { mmap(None, length, protection, flags, file.as_fd(), offset) };
        // INVARIANT: a mapping of this size was just made for this value.
        Ok(Self { start: start.context("mmap of a file")?.cast(), size })
    }

    /// `size` bytes of a file, shared with it, as many `times` in a row.
    pub fn repeated(file: &File, size: usize, times: usize) -> Result<Self> {
        let ram = Self::new(size * times)?;
        let length = NonZeroUsize::new(size).context("no size")?;
        for at in (0..ram.size).step_by(size) {
            let place = NonZeroUsize::new(ram.start.as_ptr() as usize + at);
            let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
            // SAFETY: it replaces a part of the mapping that was just made, which nobody uses yet.
            unsafe { mmap(place, length, READ_WRITE, flags, file.as_fd(), 0) }
                .context("mmap of a file again")?;
        }
        Ok(ram)
    }

    /// Where it lies in the process.
    pub fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Gives the kernel advice about all of it.
    pub fn advise(&self, advice: MmapAdvise) -> Result<()> {
        // SAFETY: no reference into the mapping exists that could see its contents change.
        unsafe { madvise(self.start.cast(), self.size, advice) }.context("madvise")
    }

    /// The same with advice that has no name yet.
    pub fn advise_number(&self, advice: libc::c_int) -> Result<(), Errno> {
        // SAFETY: as above.
        let result = unsafe { libc::madvise(self.start.as_ptr().cast(), self.size, advice) };
        Errno::result(result).map(|_| ())
    }

    /// Changes what may be done with all of it. Nobody here may do the rest then.
    pub fn protect(&self, protection: ProtFlags) -> Result<()> {
        self.protect_part(0, self.size, protection)
    }

    /// Changes what may be done with a part.
    pub fn protect_part(&self, offset: usize, size: usize, protection: ProtFlags) -> Result<()> {
        ensure!(offset + size <= self.size, "a part beyond the end");
        // SAFETY: the part is within the mapping, and nobody holds a reference into it.
        unsafe { mprotect(self.start.add(offset).cast(), size, protection) }.context("mprotect")
    }

    /// Unmaps it; nobody may use it until [`Self::map_again`].
    pub fn unmap(&self) -> Result<()> {
        // SAFETY: the mapping is this value's own, and nobody holds a reference into it.
        unsafe { munmap(self.start.cast(), self.size) }.context("munmap")
    }

    /// Maps zeroed memory to where it was unmapped.
    pub fn map_again(&self) -> Result<()> {
        let address = NonZeroUsize::new(self.start.as_ptr() as usize);
        let size = NonZeroUsize::new(self.size).context("no size")?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED_NOREPLACE;
        // SAFETY: the flags don't let it replace another mapping.
        unsafe { mmap_anonymous(address, size, READ_WRITE, flags) }.context("mapping again")?;
        Ok(())
    }

    /// The address of a `T` at `offset`.
    fn at<T>(&self, offset: u64) -> Result<*mut T> {
        let offset = usize::try_from(offset)?;
        let end = offset.checked_add(size_of::<T>()).context("an offset too high")?;
        ensure!(end <= self.size, "offset {offset:#x} is not within {:#x} bytes", self.size);
        ensure!(offset % align_of::<T>() == 0, "offset {offset:#x} is not aligned");
        // SAFETY: the offset was just compared with the mapping's size.
        Ok(unsafe { self.start.as_ptr().add(offset) }.cast())
    }

    /// Reads a number.
    pub fn read<T: Number>(&self, offset: u64) -> Result<T> {
        let place = self.at::<T>(offset)?;
        // SAFETY: `at` gives aligned addresses within the mapping, and every bit pattern is a number.
        Ok(unsafe { place.read_volatile() })
    }

    /// Writes a number.
    pub fn write<T: Number>(&self, offset: u64, value: T) -> Result<()> {
        let place = self.at::<T>(offset)?;
        // SAFETY: `at` gives aligned addresses within the mapping.
        unsafe { place.write_volatile(value) };
        Ok(())
    }

    /// Reads bytes.
    pub fn read_bytes(&self, offset: u64, count: usize) -> Result<Vec<u8>> {
        (offset..).take(count).map(|at| self.read(at)).collect()
    }

    /// Writes bytes.
    pub fn write_bytes(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        bytes.iter().zip(offset..).try_for_each(|(byte, at)| self.write(at, *byte))
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nobody holds a reference into it.
        let _ = unsafe { munmap(self.start.cast(), self.size) };
    }
}

const READ_WRITE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

/// What memory is read and written as.
pub trait Number: Copy {}

impl Number for u8 {}
impl Number for u16 {}
impl Number for u32 {}
impl Number for u64 {}
