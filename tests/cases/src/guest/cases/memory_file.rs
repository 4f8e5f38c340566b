// SPDX-License-Identifier: GPL-2.0
//! Files of memory (guest_memfd): made, mapped, bound to slots, and gone.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, FcntlArg, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::MapFlags;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::statfs::fstatfs;
use nix::unistd::pipe;

use super::super::thread::beside;
use super::super::vcpu::Vcpu;
use super::*;
use crate::module;
use crate::processor::Processor;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-memory-file-make", make),
    Case::guest("x86/micro-memory-file-allocate", allocate),
    Case::guest("x86/micro-memory-file-map", map),
    Case::guest("x86/micro-memory-file-policy", policy),
    Case::guest("x86/micro-memory-file-bind", bind),
    Case::guest("x86/micro-memory-file-guest", guest_memory),
    Case::guest("x86/micro-memory-file-unmapped", unmapped),
    Case::guest("x86/micro-memory-file-pre-fault", pre_fault),
    Case::guest("x86/micro-memory-file-punch", punch),
    Case::guest("x86/micro-memory-file-close", close),
    Case::guest("x86/micro-memory-file-slot-goes", slot_goes),
    Case::guest("x86/micro-memory-file-outlives", outlives),
    Case::guest("x86/micro-memory-file-poison", poison),
];

const PAGE: u64 = 4096;
const SIZE: u64 = 16 * PAGE;
const PLACE: u64 = 0x1000_0000;

/// `KVM_CAP_GUEST_MEMFD_FLAGS`, and the flags: the crate is older.
const CAP_FLAGS: u32 = 244;
const MMAP: u64 = 1 << 0;
const SHARED: u64 = 1 << 1;

/// A VM, if files can be had.
fn vm_with_files() -> Result<Vm> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_GUEST_MEMFD, "KVM_CAP_GUEST_MEMFD")?;
    vm.need(CAP_FLAGS, "KVM_CAP_GUEST_MEMFD_FLAGS")?;
    Ok(vm)
}

fn try_file(vm: &Vm, size: u64, flags: u64) -> Result<File, Errno> {
    let mut wanted = abi::kvm_create_guest_memfd { size, flags, ..Default::default() };
    let number = request::exchange(vm.file(), request::CREATE_GUEST_MEMFD, &mut wanted)?;
    // SAFETY: the ioctl just made this descriptor, and nobody else knows it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(number) }))
}

fn file(vm: &Vm, size: u64, flags: u64) -> Result<File> {
    try_file(vm, size, flags).context("KVM_CREATE_GUEST_MEMFD")
}

/// Slot 1 at [`PLACE`] with all of a file of [`SIZE`]. The hypervisor finds it at address 0, that is,
/// nowhere.
fn region(file: &File) -> abi::kvm_userspace_memory_region2 {
    abi::kvm_userspace_memory_region2 {
        slot: 1,
        flags: abi::KVM_MEM_GUEST_MEMFD,
        guest_phys_addr: PLACE,
        memory_size: SIZE,
        guest_memfd: file.as_raw_fd() as u32,
        ..Default::default()
    }
}

fn set(vm: &Vm, region: &abi::kvm_userspace_memory_region2) -> Result<(), Errno> {
    request::give(vm.file(), request::SET_USER_MEMORY_REGION2, region).map(drop)
}

/// A file of [`SIZE`] in slot 1, and a mapping of it.
fn bound(vm: &Vm) -> Result<(File, Ram)> {
    let file = file(vm, SIZE, MMAP | SHARED)?;
    set(vm, &region(&file)).context("the slot")?;
    let ram = mapping(&file)?;
    Ok((file, ram))
}

fn mapping(file: &File) -> Result<Ram> {
    Ram::of_file(file, SIZE as usize, MapFlags::MAP_SHARED)
}

fn keep_size(file: &File, offset: u64, size: u64) -> Result<(), Errno> {
    fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, offset as i64, size as i64)
}

fn punch_hole(file: &File, offset: u64, size: u64) -> Result<(), Errno> {
    let flags = FallocateFlags::FALLOC_FL_KEEP_SIZE | FallocateFlags::FALLOC_FL_PUNCH_HOLE;
    fallocate(file, flags, offset as i64, size as i64)
}

/// The kernel reads a byte as this process would; `EFAULT` where that would be SIGBUS.
fn touch(address: u64) -> Result<(), Errno> {
    let (_reader, writer) = pipe()?;
    // SAFETY: the kernel checks the address; nothing of this process changes.
    let count = unsafe { libc::write(writer.as_raw_fd(), address as *const libc::c_void, 1) };
    Errno::result(count).map(drop)
}

/// A guest that adds the words of the pages, leaves the address of each in it, and reports the sum, each
/// time it is entered.
fn adder(vm: &Vm) -> Result<Vcpu> {
    vm.long(guest!(64;
        "2:", "mov ebx, {place}", "xor eax, eax", "3:", "add eax, [rbx]", "mov [rbx + 8], ebx",
        "add ebx, 4096", "cmp ebx, {end}", "jne 3b", "out 0xe8, eax", "jmp 2b";
        place = PLACE, end = PLACE + SIZE
    ))
}

/// The guest touches memory of slot 1 that can't be had.
fn expect_fault(vcpu: &mut Vcpu, errno: Errno, gpa: u64) -> Result<()> {
    check_eq!(vcpu.try_run()?, Err(errno));
    check_eq!(vcpu.exit(), Exit::MemoryFault { flags: 0, gpa, size: PAGE });
    Ok(())
}

/// What can be made, and what the file says of itself.
fn make() -> Result<()> {
    let vm = vm_with_files()?;
    check_eq!(vm.capability(abi::KVM_CAP_GUEST_MEMFD)?, 1);
    let flags = u64::from(vm.capability(CAP_FLAGS)?);
    check_eq!(flags, MMAP | SHARED, "what a VM without private memory can have");
    for bit in 0..64 {
        let made = try_file(&vm, PAGE, 1 << bit).map(drop);
        let wanted = if flags >> bit & 1 == 1 { Ok(()) } else { Err(Errno::EINVAL) };
        check_eq!(made, wanted, "flag {bit}");
    }
    for size in [0, 1, PAGE - 1, PAGE + 1, 1 << 63, u64::MAX - PAGE + 1] {
        check_eq!(try_file(&vm, size, 0).map(drop), Err(Errno::EINVAL), "{size:#x} bytes");
    }

    let (one, other) = (file(&vm, SIZE, 0)?, file(&vm, 1 << 40, MMAP)?);
    let (about, about_other) = (one.metadata()?, other.metadata()?);
    check_eq!((about.len(), about.blksize(), about.nlink()), (SIZE, PAGE, 1));
    check_eq!(about.mode() & libc::S_IFMT, libc::S_IFREG, "a regular file");
    check_eq!(about_other.len(), 1 << 40);
    ensure!(about.ino() != about_other.ino(), "two files are one");
    check_eq!(about.dev(), about_other.dev(), "where they are");
    check_eq!(fstatfs(&one)?.filesystem_type().0, 0x474d_454d);
    let name = fs::read_link(format!("/proc/self/fd/{}", one.as_raw_fd()))?;
    check_eq!(name.to_string_lossy(), "/[kvm-gmem] (deleted)");
    check_eq!(fcntl(&one, FcntlArg::F_GETFD)?, 0, "it stays open over exec");
    check_eq!(fcntl(&one, FcntlArg::F_GETFL)? & libc::O_ACCMODE, libc::O_RDWR);

    let errno = |result: std::io::Result<usize>| result.map_err(|error| error.raw_os_error());
    check_eq!(errno(one.read_at(&mut [0], 0)), Err(Some(libc::ESPIPE)));
    check_eq!(errno(one.write_at(&[0], 0)), Err(Some(libc::ESPIPE)));
    check_eq!(errno((&one).write(&[0])), Err(Some(libc::EINVAL)));
    let length = one.set_len(2 * SIZE).map_err(|error| error.raw_os_error());
    check_eq!(length, Err(Some(libc::EINVAL)), "the size is as it is");
    check_eq!(request::call(&one, request::CHECK_EXTENSION, 0), Err(Errno::ENOTTY));
    Ok(())
}

/// Pages are made and taken by fallocate.
fn allocate() -> Result<()> {
    let vm = vm_with_files()?;
    let file = file(&vm, SIZE, 0)?;
    check_eq!(keep_size(&file, 0, SIZE), Ok(()));
    check_eq!(keep_size(&file, 0, SIZE), Ok(()), "again");
    check_eq!(keep_size(&file, SIZE, PAGE), Err(Errno::EINVAL), "behind the end");
    check_eq!(keep_size(&file, PAGE, SIZE), Err(Errno::EINVAL), "over the end");
    check_eq!(punch_hole(&file, SIZE, PAGE), Ok(()), "behind the end");
    check_eq!(punch_hole(&file, PAGE, 2 * SIZE), Ok(()), "over the end");
    for (offset, size) in [(1, PAGE), (0, 1), (PAGE, PAGE + 1), (PAGE - 1, 1)] {
        check_eq!(keep_size(&file, offset, size), Err(Errno::EINVAL), "{size} bytes at {offset}");
        check_eq!(punch_hole(&file, offset, size), Err(Errno::EINVAL), "no {size} at {offset}");
    }
    let empty = FallocateFlags::empty();
    check_eq!(fallocate(&file, empty, 0, SIZE as i64), Err(Errno::EOPNOTSUPP));
    for other in [
        FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
        FallocateFlags::FALLOC_FL_COLLAPSE_RANGE,
    ] {
        check_eq!(fallocate(&file, other, 0, SIZE as i64), Err(Errno::EOPNOTSUPP), "{other:?}");
    }
    Ok(())
}

/// Processes map the file, if it was made for that.
fn map() -> Result<()> {
    let vm = vm_with_files()?;
    let try_map = |file: &File, flags| {
        Ram::of_file(file, SIZE as usize, flags)
            .map_err(|error| error.root_cause().downcast_ref::<Errno>().copied())
    };
    for flags in [0, SHARED] {
        let hidden = file(&vm, SIZE, flags)?;
        check_eq!(try_map(&hidden, MapFlags::MAP_SHARED).map(drop), Err(Some(Errno::ENODEV)));
    }

    let private = file(&vm, SIZE, MMAP)?;
    let ram = mapping(&private)?;
    check_eq!(touch(ram.address()), Err(Errno::EFAULT), "memory that is the guest's alone");

    let shared = file(&vm, SIZE, MMAP | SHARED)?;
    check_eq!(try_map(&shared, MapFlags::MAP_PRIVATE).map(drop), Err(Some(Errno::EINVAL)));
    let (ram, again) = (mapping(&shared)?, mapping(&shared)?);
    check_eq!(ram.read::<u64>(0)?, 0, "new memory");
    ram.write(8, 0x1234_u64)?;
    ram.write(PAGE, 5_u64)?;
    check_eq!(again.read::<u64>(8)?, 0x1234, "the same by another mapping");
    check_eq!(punch_hole(&shared, 0, PAGE), Ok(()));
    check_eq!((ram.read::<u64>(8)?, again.read::<u64>(PAGE)?), (0, 5), "one page went");
    ram.write(8, 6_u64)?;
    check_eq!(again.read::<u64>(8)?, 6);
    let long = Ram::of_file(&shared, 2 * SIZE as usize, MapFlags::MAP_SHARED)?;
    check_eq!(touch(long.address() + SIZE - 1), Ok(()));
    check_eq!(touch(long.address() + SIZE), Err(Errno::EFAULT), "behind the end");
    // A mapping keeps the memory.
    drop(shared);
    check_eq!(again.read::<u64>(8)?, 6);
    Ok(())
}

/// Processes choose memory nodes for what they mapped: that is kept with the file.
fn policy() -> Result<()> {
    let vm = vm_with_files()?;
    let file = file(&vm, SIZE, MMAP | SHARED)?;
    let (ram, again) = (mapping(&file)?, mapping(&file)?);
    let bind = |address: u64, size: u64, mode: libc::c_int, nodes: u64| {
        let nodes = if nodes == 0 { std::ptr::null() } else { &raw const nodes };
        // SAFETY: the mask outlives the call, which changes where memory comes from and nothing in it.
        let result = unsafe { libc::syscall(libc::SYS_mbind, address, size, mode, nodes, 64, 0) };
        Errno::result(result).map(drop)
    };
    let policy = |address: u64| {
        let (mut mode, mut nodes) = (-1_i32, 0_u64);
        // `MPOL_F_ADDR`.
        let by_address = 1 << 1;
        // SAFETY: both places are writable and as large as the call wants them.
        let result = unsafe {
            libc::syscall(
                libc::SYS_get_mempolicy,
                &raw mut mode,
                &raw mut nodes,
                64,
                address,
                by_address,
            )
        };
        Errno::result(result).map(|_| (mode, nodes))
    };
    if bind(ram.address(), PAGE, libc::MPOL_DEFAULT, 0) == Err(Errno::ENOSYS) {
        return Err(Skip("the kernel knows no memory nodes".into()).into());
    }
    check_eq!(policy(ram.address()), Ok((libc::MPOL_DEFAULT, 0)), "at first");
    check_eq!(bind(ram.address(), 2 * PAGE, libc::MPOL_BIND, 1), Ok(()));
    check_eq!(policy(ram.address() + PAGE), Ok((libc::MPOL_BIND, 1)));
    check_eq!(policy(again.address() + PAGE), Ok((libc::MPOL_BIND, 1)), "the file's");
    check_eq!(policy(ram.address() + 2 * PAGE), Ok((libc::MPOL_DEFAULT, 0)), "and no more");
    ram.write(0, 7_u64)?;
    check_eq!(again.read::<u64>(0)?, 7);
    check_eq!(bind(ram.address(), SIZE, libc::MPOL_DEFAULT, 0), Ok(()));
    check_eq!(policy(ram.address()), Ok((libc::MPOL_DEFAULT, 0)), "at last");
    check_eq!(bind(ram.address(), PAGE, 999, 1), Err(Errno::EINVAL), "a policy that isn't");
    Ok(())
}

/// Which slots can be bound to which files.
fn bind() -> Result<()> {
    let (vm, other) = (vm_with_files()?, vm_with_files()?);
    let (file, foreign) = (file(&vm, 4 * SIZE, 0)?, file(&other, SIZE, 0)?);
    let good = region(&file);
    let with = |file: u32| abi::kvm_userspace_memory_region2 { guest_memfd: file, ..good };
    let at = |offset| abi::kvm_userspace_memory_region2 { guest_memfd_offset: offset, ..good };
    let memory = File::from(memfd_create(c"", MFdFlags::empty())?);
    let number = |file: &File| file.as_raw_fd() as u32;
    for (file, errno) in [
        (u32::MAX, Errno::EBADF),
        (number(vm.kvm()), Errno::EINVAL),
        (number(vm.file()), Errno::EINVAL),
        (number(&memory), Errno::EINVAL),
        (number(&foreign), Errno::EINVAL),
    ] {
        check_eq!(set(&vm, &with(file)), Err(errno), "descriptor {file}");
    }
    for offset in [1, PAGE - 1, 4 * SIZE, 3 * SIZE + PAGE, i64::MAX as u64 & !0xfff, !0xfff] {
        check_eq!(set(&vm, &at(offset)), Err(Errno::EINVAL), "offset {offset:#x}");
    }
    for flags in [abi::KVM_MEM_READONLY, abi::KVM_MEM_LOG_DIRTY_PAGES] {
        let wanted = abi::kvm_userspace_memory_region2 { flags: good.flags | flags, ..good };
        check_eq!(set(&vm, &wanted), Err(Errno::EINVAL), "flags {flags:x}");
    }
    let older = abi::kvm_userspace_memory_region {
        flags: good.flags,
        ..vm.slot(1, PLACE, &Ram::new(SIZE as usize)?)
    };
    check_eq!(vm.set_slot(&older), Err(Errno::EINVAL), "by the older ioctl");

    check_eq!(set(&vm, &at(SIZE)), Ok(()));
    // Another slot, and pages of the first one's.
    let second = |offset| abi::kvm_userspace_memory_region2 {
        slot: 2,
        guest_phys_addr: PLACE + 16 * SIZE,
        ..at(offset)
    };
    for offset in [PAGE, SIZE, 2 * SIZE - PAGE] {
        check_eq!(set(&vm, &second(offset)), Err(Errno::EEXIST), "pages from {offset:#x} on");
    }
    check_eq!(set(&vm, &second(2 * SIZE)), Ok(()), "pages behind");
    let over = abi::kvm_userspace_memory_region2 { slot: 3, ..at(0) };
    check_eq!(set(&vm, &over), Err(Errno::EEXIST), "frames of another slot's");
    // What is bound doesn't change.
    let moved = abi::kvm_userspace_memory_region2 { guest_phys_addr: PLACE + SIZE, ..at(SIZE) };
    for change in [at(SIZE), moved, abi::kvm_userspace_memory_region2 { flags: 0, ..at(SIZE) }] {
        check_eq!(set(&vm, &change), Err(Errno::EINVAL), "{change:x?}");
    }
    let gone = abi::kvm_userspace_memory_region2 { memory_size: 0, guest_memfd: u32::MAX, ..good };
    check_eq!(set(&vm, &gone), Ok(()));
    check_eq!(set(&vm, &gone), Err(Errno::EINVAL), "gone already");
    check_eq!(set(&vm, &second(SIZE)), Err(Errno::EINVAL), "still there");
    let third = abi::kvm_userspace_memory_region2 { slot: 3, ..at(SIZE) };
    check_eq!(set(&vm, &third), Ok(()), "the pages are free again");
    // A slot that isn't bound can't be later.
    let ram = Ram::new(SIZE as usize)?;
    vm.add_slot(4, PLACE + 32 * SIZE, &ram)?;
    let late = abi::kvm_userspace_memory_region2 {
        slot: 4,
        guest_phys_addr: PLACE + 32 * SIZE,
        userspace_addr: ram.address(),
        ..at(0)
    };
    check_eq!(set(&vm, &late), Err(Errno::EINVAL));
    Ok(())
}

/// A guest's memory is the file's: what is in one is in the other.
fn guest_memory() -> Result<()> {
    let vm = vm_with_files()?;
    let (file, ram) = bound(&vm)?;
    let mut vcpu = adder(&vm)?;
    vcpu.expect_report(0)?;
    for page in 0..SIZE / PAGE {
        check_eq!(ram.read::<u32>(page * PAGE + 8)?, (PLACE + page * PAGE) as u32);
        ram.write(page * PAGE, page as u32 + 1)?;
    }
    vcpu.expect_report((1..17).sum())?;
    check_eq!(punch_hole(&file, PAGE, 2 * PAGE), Ok(()));
    vcpu.expect_report((1..17).sum::<u32>() - 2 - 3)?;
    check_eq!(ram.read::<u32>(PAGE + 8)?, (PLACE + PAGE) as u32, "written to again");
    // The mapping is not what the guest has.
    drop(ram);
    vcpu.expect_report((1..17).sum::<u32>() - 2 - 3)?;
    check_eq!(mapping(&file)?.read::<u32>(5 * PAGE)?, 6);
    Ok(())
}

/// With a file that can't be mapped, the guest has the VMM's memory: none of it was made private.
fn unmapped() -> Result<()> {
    let vm = vm_with_files()?;
    let file = file(&vm, SIZE, 0)?;
    let ram = Ram::new(SIZE as usize)?;
    let slot = abi::kvm_userspace_memory_region2 { userspace_addr: ram.address(), ..region(&file) };
    set(&vm, &slot).context("the slot")?;
    let mut vcpu = adder(&vm)?;
    ram.write(PAGE, 5_u32)?;
    vcpu.expect_report(5)?;
    check_eq!(ram.read::<u32>(8)?, PLACE as u32);
    check_eq!(punch_hole(&file, 0, SIZE), Ok(()));
    vcpu.expect_report(5)?;
    drop(file);
    ram.write(PAGE, 6_u32)?;
    vcpu.expect_report(6)
}

/// The file's memory is mapped before the guest touches it, page by page.
fn pre_fault() -> Result<()> {
    let vm = vm_with_files()?;
    let (file, ram) = bound(&vm)?;
    let mut vcpu = adder(&vm)?;
    let fault = |vcpu: &Vcpu, gpa: u64, size: u64| {
        let mut range = abi::kvm_pre_fault_memory { gpa, size, ..Default::default() };
        let result = request::exchange(vcpu.file(), request::PRE_FAULT_MEMORY, &mut range);
        (result, range.gpa, range.size)
    };
    check_eq!(fault(&vcpu, PLACE, SIZE), (Ok(0), PLACE + SIZE, 0));
    ram.write(0, 9_u32)?;
    vcpu.expect_report(9)?;
    check_eq!(punch_hole(&file, 0, SIZE), Ok(()));
    check_eq!(fault(&vcpu, PLACE + PAGE, PAGE), (Ok(0), PLACE + 2 * PAGE, 0));
    vcpu.expect_report(0)?;
    drop((file, ram));
    check_eq!(fault(&vcpu, PLACE, PAGE), (Err(Errno::EFAULT), PLACE, PAGE), "a closed file");
    Ok(())
}

/// Pages are taken and made while the guest runs: it sees what was written last, or zeroes.
fn punch() -> Result<()> {
    let vm = vm_with_files()?;
    let (file, ram) = bound(&vm)?;
    // Reports a value that is neither the last one nor none.
    let mut vcpu = vm.long(guest!(64;
        "sti", "xor ecx, ecx", "2:", "mov eax, [{place}]", "test eax, eax", "jz 3f", "cmp eax, ecx",
        "jb 4f", "mov ecx, eax", "mov [{data}], eax", "jmp 2b",
        "3:", "inc qword ptr [{data} + 8]", "jmp 2b", "4:", "out 0xe8, eax", "jmp 2b";
        place = PLACE, data = DATA
    ))?;
    beside(&mut vcpu, |exits| {
        for round in 1..=200_u32 {
            ram.write(0, round)?;
            let start = Instant::now();
            while vm.ram().read::<u32>(DATA)? != round {
                ensure!(start.elapsed() < Duration::from_secs(20), "the guest misses {round}");
                std::thread::yield_now();
            }
            check_eq!(punch_hole(&file, 0, SIZE), Ok(()));
            check_eq!(ram.read::<u32>(0)?, 0, "round {round}");
        }
        ensure!(exits.try_next().is_none(), "the guest sees what was taken");
        Ok(())
    })?;
    ensure!(vm.ram().read::<u64>(DATA + 8)? > 0, "the guest never saw zeroes");
    Ok(())
}

/// A file is closed: its memory is gone from the guest, and the slot is an empty place.
fn close() -> Result<()> {
    let vm = vm_with_files()?;
    let (file, ram) = bound(&vm)?;
    let slot = region(&file);
    let mut vcpu = adder(&vm)?;
    vcpu.expect_report(0)?;
    drop(file);
    ram.write(0, 3_u32)?;
    vcpu.expect_report(3)?;
    // The mapping was what kept it open.
    drop(ram);
    expect_fault(&mut vcpu, Errno::EFAULT, PLACE)?;
    expect_fault(&mut vcpu, Errno::EFAULT, PLACE)?;
    let second = self::file(&vm, SIZE, MMAP | SHARED)?;
    check_eq!(set(&vm, &region(&second)), Err(Errno::EINVAL), "the slot is there");
    let gone = abi::kvm_userspace_memory_region2 { memory_size: 0, ..slot };
    check_eq!(set(&vm, &gone), Ok(()));
    check_eq!(vcpu.run()?, Exit::MmioRead { gpa: PLACE, len: 4 });
    check_eq!(set(&vm, &region(&second)), Ok(()));
    vcpu.answer(&[0; 4])?;
    vcpu.expect_report(0)
}

/// A slot is deleted and made again below a running guest, at another place of the file.
fn slot_goes() -> Result<()> {
    let vm = vm_with_files()?;
    let file = file(&vm, 2 * SIZE, MMAP | SHARED)?;
    let ram = Ram::of_file(&file, 2 * SIZE as usize, MapFlags::MAP_SHARED)?;
    ram.write(0, 1_u32)?;
    ram.write(SIZE, 2_u32)?;
    // Reads of the hole bring zeroes.
    let mut vcpu = vm.long(guest!(64;
        "sti", "2:", "mov eax, [{place}]", "mov [{data}], eax", "jmp 2b";
        place = PLACE, data = DATA
    ))?;
    beside(&mut vcpu, |exits| {
        for round in 0..60 {
            let offset = SIZE * (round & 1);
            let slot =
                abi::kvm_userspace_memory_region2 { guest_memfd_offset: offset, ..region(&file) };
            check_eq!(set(&vm, &slot), Ok(()), "round {round}");
            let start = Instant::now();
            while vm.ram().read::<u32>(DATA)? != ram.read::<u32>(offset)? {
                ensure!(start.elapsed() < Duration::from_secs(20), "round {round}");
                std::thread::yield_now();
            }
            check_eq!(
                set(&vm, &abi::kvm_userspace_memory_region2 { memory_size: 0, ..slot }),
                Ok(()),
                "round {round}"
            );
        }
        while let Some(exit) = exits.try_next() {
            check_eq!(exit, Exit::MmioRead { gpa: PLACE, len: 4 });
        }
        Ok(())
    })
}

/// References to both modules.
fn references() -> Result<(u32, u32)> {
    let vendor = Processor::current()?.vendor_module();
    Ok((module::references(vendor)?, module::references(module::CORE)?))
}

/// A file outlives its VM and keeps what it needs of the modules, and no more.
fn outlives() -> Result<()> {
    let before = references()?;
    let vm = vm_with_files()?;
    let (file, ram) = bound(&vm)?;
    let mut vcpu = adder(&vm)?;
    ram.write(PAGE, 4_u32)?;
    vcpu.expect_report(4)?;
    drop((vcpu, vm));
    let now = references()?;
    ensure!(now.0 + now.1 > before.0 + before.1, "the modules could go: {now:?}");
    check_eq!(ram.read::<u32>(PAGE + 8)?, (PLACE + PAGE) as u32);
    check_eq!(punch_hole(&file, 0, SIZE), Ok(()));
    check_eq!(keep_size(&file, 0, SIZE), Ok(()));
    check_eq!(ram.read::<u32>(PAGE + 8)?, 0);
    drop(ram);
    drop(file);
    let start = Instant::now();
    while references()? != before {
        ensure!(start.elapsed() < Duration::from_secs(10), "something keeps the modules");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

extern "C" fn note(_signal: libc::c_int) {}

/// A page of the file breaks: the guest can't have it any more, nor again before it was taken.
fn poison() -> Result<()> {
    let vm = vm_with_files()?;
    let (file, ram) = bound(&vm)?;
    let mut vcpu = adder(&vm)?;
    vcpu.expect_report(0)?;
    let broken = Ram::of_file_at(
        &file,
        (2 * PAGE) as i64,
        PAGE as usize,
        nix::sys::mman::ProtFlags::PROT_READ,
        MapFlags::MAP_SHARED,
    )?;
    // Who has the page mapped is told by a signal.
    let noted = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    let before = unsafe { sigaction(Signal::SIGBUS, &noted) }.context("SIGBUS")?;
    let advised = broken.advise_number(libc::MADV_HWPOISON);
    // SAFETY: as it was.
    unsafe { sigaction(Signal::SIGBUS, &before) }.context("SIGBUS")?;
    match advised {
        // The file keeps the page, which the host calls busy.
        Ok(()) | Err(Errno::EBUSY) => {}
        Err(Errno::EINVAL) => return Err(Skip("the kernel breaks no pages".into()).into()),
        Err(error) => bail!("MADV_HWPOISON: {error}"),
    }
    check_eq!(touch(ram.address() + 2 * PAGE), Err(Errno::EFAULT));
    expect_fault(&mut vcpu, Errno::EHWPOISON, PLACE + 2 * PAGE)?;
    check_eq!(punch_hole(&file, 2 * PAGE, PAGE), Ok(()));
    vcpu.expect_report(0)
}
