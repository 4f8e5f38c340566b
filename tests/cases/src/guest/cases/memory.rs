// SPDX-License-Identifier: GPL-2.0
//! Memory of guests: faults, backings, slots that come and go.

use std::fs;
use std::time::Duration;

use nix::sys::mman::MmapAdvise;

use super::super::mode::BIG_DATA;
use super::*;
use crate::memory::sum;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-memory-shared", shared),
    Case::guest("x86/micro-memory-many-pages", many_pages),
    Case::guest("x86/micro-memory-execute", execute),
    Case::guest("x86/micro-memory-slot-edge", slot_edge),
    Case::guest("x86/micro-memory-delete", delete),
    Case::guest("x86/micro-memory-move", moved),
    Case::guest("x86/micro-memory-read-only", read_only),
    Case::guest("x86/micro-memory-tables", tables),
];

/// Where cases put memory of their own.
const PLACE: u64 = 0x1000_0000;

/// What the guest writes is seen here and the other way round, at once.
fn shared() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "2:", "mov eax, [{data}]", "add eax, 1", "mov [{data} + 8], eax", "out 0xe8, eax", "jmp 2b";
        data = BIG_DATA
    ))?;
    for value in [0u32, 41, 0xffff_fffe] {
        vm.ram().write(BIG_DATA, value)?;
        vcpu.expect_report(value + 1)?;
        check_eq!(vm.ram().read::<u32>(BIG_DATA + 8)?, value + 1);
    }
    Ok(())
}

/// 64 MiB: every page is read as zero, written, and read back; the host finds each value.
fn many_pages() -> Result<()> {
    const SIZE: usize = 64 << 20;
    let vm = Vm::new()?;
    let ram = Ram::new(SIZE)?;
    vm.add_slot(1, PLACE, &ram)?;
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, {place}", "xor eax, eax",
        "2:", "or rax, [rbx]", "mov [rbx], rbx", "add ebx, 4096", "cmp ebx, {end}", "jne 2b",
        "out 0xe8, eax",
        "mov ebx, {place}", "xor eax, eax",
        "3:", "cmp [rbx], rbx", "jne 4f", "inc eax", "4:", "add ebx, 4096", "cmp ebx, {end}", "jne 3b",
        "out 0xe8, eax";
        place = PLACE, end = PLACE + SIZE as u64
    ))?;
    vcpu.expect_report(0)?;
    vcpu.expect_report((SIZE / 4096) as u32)?;
    for offset in (0..SIZE as u64).step_by(4096) {
        check_eq!(ram.read::<u64>(offset)?, PLACE + offset);
    }
    Ok(())
}

/// Code that was just put into a page that was just added runs.
fn execute() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu =
        vm.long(guest!(64; "mov ebx, {place}", "out 0x10, al", "call rbx", "hlt"; place = PLACE))?;
    vcpu.expect_out(0x10, &[0])?;
    let ram = Ram::new(0x1000)?;
    vm.add_slot(1, PLACE, &ram)?;
    ram.write_bytes(0, guest!(64; "mov eax, 0x600d", "ret"))?;
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(vcpu.regs()?.rax, 0x600d);
    // And again after it was changed.
    vcpu.change_regs(|regs| regs.rip = CODE + 7)?;
    ram.write_bytes(0, guest!(64; "mov eax, 0xbeef", "ret"))?;
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(vcpu.regs()?.rax, 0xbeef);
    Ok(())
}

/// Slots that touch: an access across the edge, in both memories; none of either beyond.
fn slot_edge() -> Result<()> {
    let vm = Vm::new()?;
    let (low, high) = (Ram::new(0x3000)?, Ram::new(0x5000)?);
    vm.add_slot(1, PLACE, &low)?;
    vm.add_slot(2, PLACE + 0x3000, &high)?;
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, {place} + 0x3000 - 4", "mov rax, 0x1122334455667788", "mov [rbx], rax",
        "mov rcx, [rbx]", "mov ebx, {place} + 0x8000", "mov [rbx], al", "hlt";
        place = PLACE
    ))?;
    vcpu.expect(&Exit::MmioWrite { gpa: PLACE + 0x8000, data: vec![0x88] })?;
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(vcpu.regs()?.rcx, 0x1122_3344_5566_7788);
    check_eq!(low.read::<u32>(0x2ffc)?, 0x5566_7788);
    check_eq!(high.read::<u32>(0)?, 0x1122_3344);
    Ok(())
}

/// After a slot's deletion its memory is a hole, which it wasn't before; after it comes back, memory.
fn delete() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(2 << 20)?;
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, {place}", "mov eax, 1",
        "2:", "mov [rbx], eax", "inc eax", "out 0x10, al", "jmp 2b"; place = PLACE
    ))?;
    let mut value = 1u32;
    let mut expect = |memory: bool| -> Result<()> {
        if !memory {
            let data = value.to_le_bytes().to_vec();
            vcpu.expect(&Exit::MmioWrite { gpa: PLACE, data })?;
        }
        vcpu.expect_out(0x10, &[value as u8 + 1])?;
        if memory {
            check_eq!(ram.read::<u32>(0)?, value);
        }
        value += 1;
        Ok(())
    };
    let gone = abi::kvm_userspace_memory_region { memory_size: 0, ..vm.slot(1, PLACE, &ram) };
    expect(false)?;
    for _ in 0..5 {
        vm.add_slot(1, PLACE, &ram)?;
        expect(true)?;
        expect(true)?;
        vm.set_slot(&gone).context("deleting a slot")?;
        expect(false)?;
    }
    Ok(())
}

/// A slot that moves takes its memory along.
fn moved() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(2 << 20)?;
    const THERE: u64 = PLACE + (16 << 20);
    vm.add_slot(1, PLACE, &ram)?;
    let mut vcpu = vm.long(guest!(64;
        "2:", "mov eax, [{place}]", "out 0xe8, eax", "mov eax, [{there}]", "out 0xe8, eax", "jmp 2b";
        place = PLACE, there = THERE
    ))?;
    let hole = |gpa| Exit::MmioRead { gpa, len: 4 };
    ram.write(0, 0x600d_u32)?;
    for _ in 0..3 {
        vm.add_slot(1, PLACE, &ram)?;
        vcpu.expect_report(0x600d)?;
        vcpu.expect(&hole(THERE))?;
        vcpu.answer(&[1, 0, 0, 0])?;
        vcpu.expect_report(1)?;
        vm.add_slot(1, THERE, &ram)?;
        vcpu.expect(&hole(PLACE))?;
        vcpu.answer(&[2, 0, 0, 0])?;
        vcpu.expect_report(2)?;
        vcpu.expect_report(0x600d)?;
    }
    Ok(())
}

/// A read-only slot: reads and execution are as of memory, writes go to the VMM and change nothing.
fn read_only() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM")?;
    let ram = Ram::new(0x10000)?;
    ram.write_bytes(0, guest!(64; "mov rcx, [rip + 0x1000]", "mov [rip + 0x1000], ecx", "ret"))?;
    ram.write_bytes(0x1007, &[0xa5; 16])?;
    let slot = abi::kvm_userspace_memory_region {
        flags: abi::KVM_MEM_READONLY,
        ..vm.slot(1, PLACE, &ram)
    };
    vm.set_slot(&slot).context("a read-only slot")?;
    let mut vcpu =
        vm.long(guest!(64; "mov ebx, {place}", "call rbx", "call rbx", "hlt"; place = PLACE))?;
    for _ in 0..2 {
        vcpu.expect(&Exit::MmioWrite { gpa: PLACE + 0x100d, data: vec![0xa5; 4] })?;
        check_eq!(ram.read::<u8>(0x1007)?, 0xa5);
    }
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(vcpu.regs()?.rcx, 0xa5a5_a5a5_a5a5_a5a5);
    // The flag can't change while the slot is there.
    let writable = abi::kvm_userspace_memory_region { flags: 0, ..slot };
    check_eq!(vm.set_slot(&writable), Err(Errno::EINVAL));
    Ok(())
}

/// KiB of second-level tables, as /proc/meminfo has them.
fn tables_kib() -> Result<i64> {
    // What the processors counted each for themselves is added up.
    fs::read("/proc/sys/vm/stat_refresh").context("adding the statistics up")?;
    sum(&["SecPageTables:"])
}

/// The tables that map a guest's memory are counted for as long as there are any.
fn tables() -> Result<()> {
    const SIZE: usize = 64 << 20;
    let before = tables_kib()?;
    let vm = Vm::new()?;
    let ram = Ram::new(SIZE)?;
    ram.advise(MmapAdvise::MADV_NOHUGEPAGE)?;
    vm.add_slot(1, PLACE, &ram)?;
    let mut vcpu = vm.long(guest!(64;
        "out 0x10, al",
        "mov ebx, {place}", "2:", "mov [rbx], ebx", "add ebx, 4096", "cmp ebx, {end}", "jne 2b",
        "out 0x10, al"; place = PLACE, end = PLACE + SIZE as u64
    ))?;
    vcpu.expect_out(0x10, &[0])?;
    let without = tables_kib()?;
    vcpu.expect_out(0x10, &[0])?;
    // One page for each 2 MiB, and no more than one for all of them.
    let grown = tables_kib()? - without;
    ensure!((128..=132).contains(&grown), "{grown} KiB of tables for 64 MiB");
    drop(vcpu);
    drop(vm);
    // Tables are freed a while after they are cut off.
    for _ in 0..100 {
        if tables_kib()? <= before {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("{} KiB of tables are left, there were {before}", tables_kib()?)
}
