// SPDX-License-Identifier: GPL-2.0
//! The VMM's memory changes below a guest, and comes from all sorts of places.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::super::thread::beside;
use super::super::userfault::Userfault;
use super::super::vcpu::Vcpu;
use super::super::vm::RAM_SIZE;
use super::*;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-mm-dontneed", dontneed),
    Case::guest("x86/micro-mm-unmap", unmap),
    Case::guest("x86/micro-mm-protect", protect),
    Case::guest("x86/micro-mm-fork", forked),
    Case::guest("x86/micro-mm-collapse", collapse),
    Case::guest("x86/micro-mm-hugetlb", hugetlb),
    Case::guest("x86/micro-mm-memfd", memfd),
    Case::guest("x86/micro-mm-file", file),
    Case::guest("x86/micro-mm-private-file", private_file),
    Case::guest("x86/micro-mm-userfault", userfault),
    Case::guest("x86/micro-mm-pre-fault", pre_fault),
    Case::guest("x86/micro-mm-slot-goes", slot_goes),
    Case::guest("x86/micro-mm-slots-change", slots_change),
];

const PLACE: u64 = 0x1000_0000;
const SIZE: usize = 4 << 20;

/// A guest that copies the word at [`PLACE`] to its own memory for ever, and counts.
fn copier(vm: &Vm) -> Result<Vcpu> {
    vm.long(guest!(64;
        "sti", "2:", "mov rax, [{place}]", "mov [{data}], rax", "inc qword ptr [{data} + 8]", "jmp 2b";
        place = PLACE, data = DATA
    ))
}

/// Waits until the guest has seen `value`.
fn wait_for(vm: &Vm, value: u64) -> Result<()> {
    let start = std::time::Instant::now();
    while vm.ram().read::<u64>(DATA)? != value {
        ensure!(
            start.elapsed().as_secs() < 10,
            "the guest sees {:x} instead of {value:x}; it looked {} times",
            vm.ram().read::<u64>(DATA)?,
            vm.ram().read::<u64>(DATA + 8)?
        );
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    Ok(())
}

/// Pages that are thrown away below a running guest are new to it at once.
fn dontneed() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(SIZE)?;
    vm.add_slot(1, PLACE, &ram)?;
    let mut vcpu = copier(&vm)?;
    beside(&mut vcpu, |_| {
        for round in 1..100 {
            ram.write(0, round)?;
            wait_for(&vm, round)?;
            ram.advise(MmapAdvise::MADV_DONTNEED)?;
            wait_for(&vm, 0)?;
        }
        Ok(())
    })
}

/// Where nothing is mapped KVM_RUN fails; when it is mapped again the guest goes on.
fn unmap() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(SIZE)?;
    vm.add_slot(1, PLACE, &ram)?;
    let mut vcpu = vm.long(guest!(64;
        "2:", "mov rax, [{place}]", "out 0xe8, eax", "jmp 2b"; place = PLACE
    ))?;
    for round in 1..20u32 {
        ram.write(0, round)?;
        vcpu.expect_report(round)?;
        ram.unmap()?;
        check_eq!(vcpu.try_run()?, Err(Errno::EFAULT), "round {round}");
        check_eq!(vcpu.try_run()?, Err(Errno::EFAULT), "round {round}, again");
        ram.map_again()?;
        vcpu.expect_report(0)?;
    }
    Ok(())
}

/// What the VMM may not do, the guest may not do: none of it, or no writing.
fn protect() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(SIZE)?;
    vm.add_slot(1, PLACE, &ram)?;
    let mut vcpu = vm.long(guest!(64;
        "2:", "mov rax, [{place}]", "out 0xe8, eax", "inc qword ptr [{place}]", "jmp 2b"; place = PLACE
    ))?;
    vcpu.expect_report(0)?;
    for round in 1..20 {
        vcpu.expect_report(round)?;
        ram.protect(ProtFlags::PROT_READ)?;
        check_eq!(vcpu.try_run()?, Err(Errno::EFAULT), "round {round}: writing");
        ram.protect(ProtFlags::PROT_NONE)?;
        check_eq!(vcpu.try_run()?, Err(Errno::EFAULT), "round {round}: anything");
        ram.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
    }
    // Reading alone.
    vm.ram().write_bytes(
        CODE,
        guest!(64;
            "2:", "mov rax, [{place}]", "out 0xe8, eax", "jmp 2b"; place = PLACE
        ),
    )?;
    vcpu.enter_mode(Mode::Long)?;
    ram.protect(ProtFlags::PROT_READ)?;
    vcpu.expect_report(19)?;
    vcpu.expect_report(19)
}

/// After a fork the guest writes to its own process's pages, not to the child's.
fn forked() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(SIZE)?;
    vm.add_slot(1, PLACE, &ram)?;
    let mut vcpu = vm.long(guest!(64;
        "2:", "inc qword ptr [{place}]", "mov rax, [{place}]", "out 0xe8, eax", "jmp 2b"; place = PLACE
    ))?;
    for round in 1..10u32 {
        vcpu.expect_report(2 * round - 1)?;
        let (mine, childs) = std::os::unix::net::UnixDatagram::pair()?;
        // SAFETY: the child makes system calls and reads memory only.
        match unsafe { fork() }? {
            ForkResult::Child => {
                let _ = childs.recv(&mut [0]);
                let same = ram.read::<u32>(0).is_ok_and(|value| value == 2 * round - 1);
                // SAFETY: ends the child without running anything of the parent's.
                unsafe { libc::_exit(if same { 0 } else { 1 }) }
            }
            ForkResult::Parent { child } => {
                let ran = vcpu.expect_report(2 * round);
                mine.send(&[0])?;
                let ended = waitpid(child, None)?;
                ran?;
                check_eq!(ended, WaitStatus::Exited(child, 0), "the child's page changed");
                check_eq!(ram.read::<u32>(0)?, 2 * round);
            }
        }
    }
    Ok(())
}

/// Small pages become huge ones and the other way round, below a running guest.
fn collapse() -> Result<()> {
    const MADV_COLLAPSE: i32 = 25;
    let vm = Vm::new()?;
    let ram = Ram::with_flags(SIZE, MapFlags::MAP_PRIVATE)?;
    ram.advise(MmapAdvise::MADV_NOHUGEPAGE)?;
    vm.add_slot(1, PLACE, &ram)?;
    // Adds up all pages' words, which must be the same each time.
    let mut vcpu = vm.long(guest!(64;
        "2:", "mov ebx, {place}", "xor eax, eax",
        "3:", "add eax, [rbx]", "add ebx, 4096", "cmp ebx, {end}", "jne 3b",
        "inc qword ptr [{place} + 8]",
        "out 0xe8, eax", "jmp 2b"; place = PLACE, end = PLACE + SIZE as u64
    ))?;
    let pages = (SIZE / 4096) as u32;
    for page in 0..pages {
        ram.write(4096 * u64::from(page), page + 1)?;
    }
    let sum = pages * (pages + 1) / 2;
    vcpu.expect_report(sum)?;
    for round in 0..10 {
        ram.advise(MmapAdvise::MADV_HUGEPAGE)?;
        let collapsed = ram.advise_number(MADV_COLLAPSE);
        if round == 0 && collapsed == Err(Errno::EINVAL) {
            return Err(Skip("this kernel has no transparent huge pages".into()).into());
        }
        vcpu.expect_report(sum)?;
        // Splits them.
        ram.protect_part(4096, 4096, ProtFlags::PROT_READ)?;
        vcpu.expect_report(sum)?;
        ram.protect_part(4096, 4096, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
        vcpu.expect_report(sum)?;
        check_eq!(ram.read::<u64>(8)?, 1 + 3 * (round + 1));
    }
    Ok(())
}

/// Memory of hugetlbfs.
fn hugetlb() -> Result<()> {
    let path = "/proc/sys/vm/nr_hugepages";
    let before = fs::read_to_string(path).unwrap_or_default();
    if fs::write(path, "8").is_err() {
        return Err(Skip("this kernel has no hugetlbfs".into()).into());
    }
    let result = (|| {
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_HUGETLB;
        let Ok(ram) = Ram::with_flags(SIZE, flags) else {
            return Err(Skip("there are no huge pages to be had".into()).into());
        };
        let vm = Vm::new()?;
        vm.add_slot(1, PLACE, &ram)?;
        let mut vcpu = vm.long(guest!(64;
            "mov ebx, {place}", "xor eax, eax",
            "3:", "add eax, [rbx]", "mov [rbx + 8], ebx", "add ebx, 4096", "cmp ebx, {end}", "jne 3b",
            "out 0xe8, eax"; place = PLACE, end = PLACE + SIZE as u64
        ))?;
        ram.write(0x12_3000, 0x1111u32)?;
        vcpu.expect_report(0x1111)?;
        check_eq!(ram.read::<u32>(0x12_3008)?, PLACE as u32 + 0x12_3000);
        drop(vcpu);
        drop(vm);
        Ok(())
    })();
    fs::write(path, before.trim())?;
    result
}

/// Shared memory without a name: another mapping sees it, and holes in it are zero.
fn memfd() -> Result<()> {
    let vm = Vm::new()?;
    let file = File::from(memfd_create(c"guest", MFdFlags::MFD_CLOEXEC)?);
    file.set_len(SIZE as u64)?;
    let ram = Ram::of_file(&file, SIZE, MapFlags::MAP_SHARED)?;
    let other = Ram::of_file(&file, SIZE, MapFlags::MAP_SHARED)?;
    vm.add_slot(1, PLACE, &ram)?;
    let mut vcpu = vm.long(guest!(64;
        "2:", "mov rax, [{place}]", "mov [{place} + 0x1008], rax", "out 0xe8, eax", "jmp 2b"; place = PLACE
    ))?;
    for round in 1..20u32 {
        other.write(0, round)?;
        vcpu.expect_report(round)?;
        check_eq!(other.read::<u32>(0x1008)?, round);
        let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        nix::fcntl::fallocate(
            file.as_fd(),
            nix::fcntl::FallocateFlags::from_bits_retain(hole),
            0,
            4096,
        )?;
        vcpu.expect_report(0)?;
    }
    // Beyond the file's end there is nothing.
    file.set_len(0)?;
    check_eq!(vcpu.try_run()?, Err(Errno::EFAULT));
    Ok(())
}

/// A temporary file, gone from its directory.
fn temporary() -> Result<File> {
    let path = format!("/tmp/micro-{}", std::process::id());
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).open(&path).context("a file")?;
    fs::remove_file(&path)?;
    file.set_len(SIZE as u64)?;
    Ok(file)
}

/// A file's pages, shared: what the guest writes is in the file.
fn file() -> Result<()> {
    let vm = Vm::new()?;
    let file = temporary()?;
    let ram = Ram::of_file(&file, SIZE, MapFlags::MAP_SHARED)?;
    vm.add_slot(1, PLACE, &ram)?;
    let mut vcpu = vm.long(guest!(64;
        "2:", "mov rax, [{place}]", "mov [{place} + 0x1000], rax", "out 0xe8, eax", "jmp 2b"; place = PLACE
    ))?;
    for round in 1..10u32 {
        file.write_all_at(&round.to_le_bytes(), 0)?;
        vcpu.expect_report(round)?;
        let mut seen = [0; 4];
        file.read_exact_at(&mut seen, 0x1000)?;
        check_eq!(u32::from_le_bytes(seen), round);
    }
    Ok(())
}

/// A file's pages, private: the guest's first write makes a copy of the page.
fn private_file() -> Result<()> {
    let vm = Vm::new()?;
    let file = temporary()?;
    file.write_all_at(&77u32.to_le_bytes(), 0)?;
    let ram = Ram::of_file(&file, SIZE, MapFlags::MAP_PRIVATE)?;
    vm.add_slot(1, PLACE, &ram)?;
    let mut vcpu = vm.long(guest!(64;
        "mov eax, [{place}]", "out 0xe8, eax", "mov dword ptr [{place}], 78",
        "2:", "mov eax, [{place}]", "out 0xe8, eax", "jmp 2b"; place = PLACE
    ))?;
    vcpu.expect_report(77)?;
    vcpu.expect_report(78)?;
    check_eq!(ram.read::<u32>(0)?, 78);
    let mut seen = [0; 4];
    file.read_exact_at(&mut seen, 0)?;
    check_eq!(u32::from_le_bytes(seen), 77, "the file");
    vcpu.expect_report(78)
}

/// Another thread provides the pages that the guest touches.
fn userfault() -> Result<()> {
    const PAGES: u32 = 64;
    let vm = Vm::new()?;
    let ram = Ram::new(SIZE)?;
    vm.add_slot(1, PLACE, &ram)?;
    let fault = Userfault::new(&ram)?;
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, {place}", "2:", "mov eax, [rbx]", "out 0xe8, eax", "add ebx, 4096", "jmp 2b";
        place = PLACE
    ))?;
    std::thread::scope(|scope| -> Result<()> {
        let provider = scope.spawn(|| -> Result<()> {
            for _ in 0..PAGES {
                let offset = fault.wait()?;
                fault.provide(offset, 1000 + (offset / 4096) as u32)?;
            }
            Ok(())
        });
        for page in 0..PAGES {
            vcpu.expect_report(1000 + page)?;
        }
        match provider.join() {
            Ok(result) => result,
            Err(_) => bail!("the other thread came to harm"),
        }
    })
}

/// Memory can be mapped before the guest touches it.
fn pre_fault() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_PRE_FAULT_MEMORY, "KVM_CAP_PRE_FAULT_MEMORY")?;
    let ram = Ram::new(SIZE)?;
    vm.add_slot(1, PLACE, &ram)?;
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, {place}", "xor eax, eax", "3:", "add eax, [rbx]", "mov [rbx + 8], ebx",
        "add ebx, 4096", "cmp ebx, {end}", "jne 3b", "out 0xe8, eax";
        place = PLACE, end = PLACE + SIZE as u64
    ))?;
    let fault = |gpa: u64, size: u64, flags: u64| {
        let mut range = abi::kvm_pre_fault_memory { gpa, size, flags, ..Default::default() };
        let result = request::exchange(vcpu.file(), request::PRE_FAULT_MEMORY, &mut range);
        (result, range.gpa, range.size)
    };
    let end = PLACE + SIZE as u64;
    check_eq!(fault(PLACE, SIZE as u64, 0), (Ok(0), end, 0));
    check_eq!(fault(PLACE, SIZE as u64, 0), (Ok(0), end, 0), "again");
    // As far as there is memory.
    let (result, gpa, size) = fault(end - 0x2000, 0x4000, 0);
    ensure!((gpa, size) == (end, 0x2000), "{result:?}, at {gpa:x}, {size:x} left");
    check_eq!(fault(PLACE + 1, 0x1000, 0).0, Err(Errno::EINVAL), "an odd address");
    check_eq!(fault(PLACE, 0x1001, 0).0, Err(Errno::EINVAL), "an odd size");
    check_eq!(fault(PLACE, 0x1000, 1).0, Err(Errno::EINVAL), "flags");
    check_eq!(fault(PLACE, 0, 0).0, Err(Errno::EINVAL), "nothing");
    ram.write(0x3000, 5u32)?;
    vcpu.expect_report(5)?;
    check_eq!(ram.read::<u32>(0x3008)?, PLACE as u32 + 0x3000);
    Ok(())
}

/// A slot is deleted and added below a running guest: it sees memory or a hole, nothing else.
fn slot_goes() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(SIZE)?;
    ram.write(0, 0x1234u32)?;
    let mut vcpu = vm.long(guest!(64;
        "sti", "2:", "mov eax, [{place}]", "cmp eax, 0x1234", "je 3f",
        "test eax, eax", "jnz 4f", "inc qword ptr [{data} + 8]", "jmp 2b",
        "3:", "inc qword ptr [{data}]", "jmp 2b",
        "4:", "out 0xe8, eax"; place = PLACE, data = DATA
    ))?;
    // Reads of the hole bring what the page held: zeroes.
    let gone = abi::kvm_userspace_memory_region { memory_size: 0, ..vm.slot(1, PLACE, &ram) };
    beside(&mut vcpu, |exits| {
        for _ in 0..100 {
            vm.add_slot(1, PLACE, &ram)?;
            std::thread::sleep(std::time::Duration::from_millis(1));
            vm.set_slot(&gone).context("deleting a slot")?;
            // Deleted is deleted: from here on all reads come out.
            ram.write(0, 0xbadu32)?;
            std::thread::sleep(std::time::Duration::from_micros(500));
            ram.write(0, 0x1234u32)?;
        }
        while let Some(exit) = exits.try_next() {
            check_eq!(exit, Exit::MmioRead { gpa: PLACE, len: 4 });
        }
        Ok(())
    })?;
    let memory: u64 = vm.ram().read(DATA)?;
    let hole: u64 = vm.ram().read(DATA + 8)?;
    ensure!(memory > 0 && hole > 0, "memory seen {memory} times, the hole {hole} times");
    Ok(())
}

/// Other slots come and go, which a running guest doesn't notice.
fn slots_change() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(SIZE)?;
    vm.add_slot(1, PLACE, &ram)?;
    let mut vcpu = copier(&vm)?;
    let other = Ram::new(RAM_SIZE)?;
    beside(&mut vcpu, |exits| {
        for round in 0..300u64 {
            let slot = (2 + round % 7) as u32;
            let region = vm.slot(slot, 0x4000_0000 + 0x100_0000 * u64::from(slot), &other);
            vm.set_slot(&region).context("adding a slot")?;
            ram.write(0, round + 1)?;
            if round % 20 == 0 {
                wait_for(&vm, round + 1)?;
            }
            let gone = abi::kvm_userspace_memory_region { memory_size: 0, ..region };
            vm.set_slot(&gone).context("deleting a slot")?;
        }
        ensure!(exits.try_next().is_none(), "the guest comes out");
        Ok(())
    })
}
