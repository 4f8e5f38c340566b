// SPDX-License-Identifier: GPL-2.0
//! What the threads of an episode share: files by kind, and memory for guests.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};
use rand::Rng;

/// Bytes of memory for guests.
pub(crate) const MEMORY: usize = 8 << 20;

/// Bytes of a vCPU's pages that are written to: the run page.
const RUN: usize = 4096;

/// Files of one kind, at most eight; a new one takes the place of an old one, which is closed, while others
/// may be using it.
pub(crate) struct Files([AtomicI32; 8]);

impl Files {
    fn new() -> Self {
        Self([const { AtomicI32::new(-1) }; 8])
    }

    /// One of them, or -1.
    pub(crate) fn any(&self, random: &mut impl Rng) -> RawFd {
        let start = random.random_range(0..8);
        (0..8)
            .filter_map(|step| self.0.get((start + step) % 8))
            .map(|file| file.load(Relaxed))
            .find(|file| *file >= 0)
            .unwrap_or(-1)
    }

    /// Puts a new one in.
    pub(crate) fn put(&self, random: &mut impl Rng, file: RawFd) {
        if let Some(place) = self.0.get(random.random_range(0..8)) {
            close(place.swap(file, Relaxed));
        }
    }

    /// Closes one.
    pub(crate) fn close_any(&self, random: &mut impl Rng) {
        if let Some(place) = self.0.get(random.random_range(0..8)) {
            close(place.swap(-1, Relaxed));
        }
    }
}

fn close(file: RawFd) {
    if file >= 0 {
        // SAFETY: whoever else uses the number gets an error or another of this program's files.
        unsafe { libc::close(file) };
    }
}

/// Memory that guests get and that changes below them.
pub(crate) struct Memory(u64);

impl Memory {
    fn new() -> Result<Self> {
        let address = map(std::ptr::null_mut(), MEMORY, 0, -1)?;
        Ok(Self(address as u64))
    }

    pub(crate) fn address(&self) -> u64 {
        self.0
    }

    /// The first pages, for code.
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        for (offset, byte) in bytes.iter().enumerate() {
            // SAFETY: the range is mapped writable for the life of the process, but for moments in which it
            // is mapped anew; only raw writes go there.
            unsafe { ((self.0 as usize + at + offset) as *mut u8).write_volatile(*byte) };
        }
    }

    /// Takes a part of it away, or gives another.
    pub(crate) fn shake(&self, random: &mut impl Rng) {
        let pages = MEMORY / 4096;
        let first = random.random_range(4..pages);
        let count = random.random_range(1..=pages - first);
        let (at, length) = ((self.0 as usize + first * 4096) as *mut libc::c_void, count * 4096);
        // SAFETY: the range is this program's, and no reference into it exists.
        unsafe {
            match random.random_range(0..7) {
                0 => libc::madvise(at, length, libc::MADV_DONTNEED),
                1 => libc::madvise(at, length, libc::MADV_HUGEPAGE),
                2 => libc::madvise(at, length, libc::MADV_NOHUGEPAGE),
                3 => libc::mprotect(at, length, libc::PROT_READ),
                4 => libc::mprotect(at, length, libc::PROT_READ | libc::PROT_WRITE),
                5 => libc::munmap(at, length),
                _ => map(at, length, libc::MAP_FIXED, -1).map_or(-1, |_| 0),
            };
        }
    }
}

fn map(at: *mut libc::c_void, length: usize, flags: i32, file: RawFd) -> Result<*mut libc::c_void> {
    let (protection, kind) = (
        libc::PROT_READ | libc::PROT_WRITE,
        if file < 0 { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS } else { libc::MAP_SHARED },
    );
    // SAFETY: a new mapping, or one in place of what nobody refers to.
    let address = unsafe { libc::mmap(at, length, protection, kind | flags, file, 0) };
    if address == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error()).context("mapping memory");
    }
    Ok(address)
}

/// Touches the first bytes of a file, as far as there are any: what isn't there is an error and no signal.
fn touch(file: RawFd, length: usize) -> i32 {
    let Ok(at) = map(std::ptr::null_mut(), length, 0, file) else { return -1 };
    // SAFETY: the mapping is this function's own.
    unsafe {
        libc::madvise(at, length, libc::MADV_POPULATE_WRITE);
        libc::munmap(at, length)
    }
}

/// All of it.
pub(crate) struct World {
    pub(crate) system: RawFd,
    pub(crate) vms: Files,
    pub(crate) vcpus: Files,
    pub(crate) devices: Files,
    pub(crate) events: Files,
    /// Files of memory.
    pub(crate) files: Files,
    pub(crate) memory: Memory,
    /// Addresses of run pages.
    runs: [AtomicU64; 8],
}

impl World {
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: a constant path.
        let system = unsafe { libc::open(c"/dev/kvm".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        if system < 0 {
            return Err(std::io::Error::last_os_error()).context("opening /dev/kvm");
        }
        Ok(Self {
            system,
            vms: Files::new(),
            vcpus: Files::new(),
            devices: Files::new(),
            events: Files::new(),
            files: Files::new(),
            memory: Memory::new()?,
            runs: [const { AtomicU64::new(0) }; 8],
        })
    }

    /// Makes holes in some file of memory, gives it pages, or has the VMM touch them.
    pub(crate) fn shake_file(&self, random: &mut impl Rng) {
        const PAGE: i64 = 4096;
        const HOLE: i32 = libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE;
        let file = self.files.any(random);
        if file < 0 {
            return;
        }
        let pages = MEMORY as i64 / PAGE;
        let first = random.random_range(0..pages);
        let count = random.random_range(1..=pages - first);
        // SAFETY: the file's pages are nobody's here.
        unsafe {
            match random.random_range(0..3) {
                0 => libc::fallocate(file, HOLE, first * PAGE, count * PAGE),
                1 => libc::fallocate(file, libc::FALLOC_FL_KEEP_SIZE, first * PAGE, count * PAGE),
                _ => touch(file, (count * PAGE) as usize),
            };
        }
    }

    /// Maps the run page of a new vCPU.
    pub(crate) fn map_run(&self, random: &mut impl Rng, vcpu: RawFd) {
        if let Ok(address) = map(std::ptr::null_mut(), RUN, 0, vcpu) {
            if let Some(place) = self.runs.get(random.random_range(0..8)) {
                // The old mapping stays: another thread may be writing to it.
                place.store(address as u64, Relaxed);
            }
        }
    }

    /// Writes what userspace may write, and what it may not, to some vCPU's run page.
    pub(crate) fn scribble(&self, random: &mut impl Rng) {
        let Some(address) = self.runs.get(random.random_range(0..8)) else { return };
        let address = address.load(Relaxed);
        if address == 0 {
            return;
        }
        let (at, value) = match random.random_range(0..4) {
            // request_interrupt_window and immediate_exit.
            0 => (0, random.random_range(0..2)),
            1 => (1, u8::from(random.random_range(0..8) == 0)),
            _ => (random.random_range(0..RUN as u64), random.random()),
        };
        // SAFETY: run pages stay mapped until the process ends, and only raw writes go there.
        unsafe { ((address + at) as *mut u8).write_volatile(value) };
    }
}
