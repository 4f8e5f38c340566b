// SPDX-License-Identifier: GPL-2.0
//! Ioctls of 32-bit programs whose structures have pointers.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::sys::mman::MapFlags;

use super::*;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-compat-msr-filter", msr_filter),
    Case::guest("x86/micro-compat-dirty-log", dirty_log),
];

/// Memory that a 32-bit program can have.
fn low_memory() -> Result<Ram> {
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE | MapFlags::MAP_32BIT;
    Ram::with_flags(4096, flags)
}

/// An ioctl as a 32-bit program makes it, with a structure at an offset of `memory`.
fn ioctl(file: &File, request: u32, memory: &Ram, offset: u64) -> Result<(), Errno> {
    const IOCTL: i64 = 54;
    let answer: i64;
    // SAFETY: the kernel reads and writes nothing but `memory`, whose contents nobody relies on. The
    // entry for 32-bit programs clears r8 to r11.
    unsafe {
        std::arch::asm!(
            "xchg {descriptor}, rbx",
            "int 0x80",
            "xchg {descriptor}, rbx",
            descriptor = inout(reg) i64::from(file.as_raw_fd()) => _,
            inout("rax") IOCTL => answer,
            in("rcx") u64::from(request),
            in("rdx") memory.address() + offset,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    match answer as i32 {
        error @ ..0 => Err(Errno::from_raw(-error)),
        _ => Ok(()),
    }
}

/// The filter's structure is another one: 260 bytes.
fn msr_filter() -> Result<()> {
    const SET_MSR_FILTER: u32 = request::X86_SET_MSR_FILTER & !(0x3fff << 16) | 260 << 16;
    const BITMAP: u64 = 1024;
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER")?;
    let memory = low_memory()?;
    let refused = request::call(vm.file(), SET_MSR_FILTER, memory.address());
    check_eq!(refused, Err(Errno::ENOTTY), "a 64-bit program");
    let mut vcpu = vm.long(guest!(64;
        "mov ecx, 0xc0000101", "rdmsr", "mov ecx, 0xc0000100", "rdmsr", "hlt"
    ))?;
    // Reads of FS.base are denied, those of GS.base are not.
    let bitmap = (memory.address() + BITMAP) as u32;
    for (word, value) in (0..).zip([0, 1, 2, 0xc000_0100, bitmap]) {
        memory.write::<u32>(4 * word, value)?;
    }
    memory.write::<u64>(BITMAP, 2)?;
    ioctl(vm.file(), SET_MSR_FILTER, &memory, 0).context("KVM_X86_SET_MSR_FILTER")?;
    let trap = vcpu.expect_trap(13, 0)?;
    check_eq!(trap.rip, CODE + 12);
    // A flag that there isn't.
    memory.write::<u32>(0, 4)?;
    check_eq!(ioctl(vm.file(), SET_MSR_FILTER, &memory, 0), Err(Errno::EINVAL));
    Ok(())
}

/// Whatever is in the upper half of a pointer, it isn't part of it.
fn dirty_log() -> Result<()> {
    const BITMAP: u64 = 1024;
    const GARBAGE: u64 = 0xdead_beef << 32;
    const PLACE: u64 = 0x1000_0000;
    let vm = Vm::new()?;
    let ram = Ram::new(64 * 4096)?;
    let slot = abi::kvm_userspace_memory_region {
        flags: abi::KVM_MEM_LOG_DIRTY_PAGES,
        ..vm.slot(1, PLACE, &ram)
    };
    vm.set_slot(&slot).context("a logged slot")?;
    let mut vcpu = vm.long(guest!(64; "mov [{page}], eax", "hlt"; page = PLACE + 5 * 4096))?;
    vcpu.expect(&Exit::Hlt)?;
    let memory = low_memory()?;
    memory.write::<u32>(0, 1)?;
    memory.write::<u64>(8, memory.address() + BITMAP | GARBAGE)?;
    ioctl(vm.file(), request::GET_DIRTY_LOG, &memory, 0).context("KVM_GET_DIRTY_LOG")?;
    check_eq!(memory.read::<u64>(BITMAP)?, 1 << 5);
    Ok(())
}
