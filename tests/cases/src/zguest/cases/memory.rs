// SPDX-License-Identifier: GPL-2.0
//! Guest memory as the host has it.

use kvm_uapi::ioctl::{
    KVM_GET_DEVICE_ATTR, KVM_GET_DIRTY_LOG, KVM_HAS_DEVICE_ATTR, KVM_SET_DEVICE_ATTR,
};
use kvm_uapi::memory::DirtyLog;
use kvm_uapi::vcpu::DeviceAttr;
use micro::stats::Stats;
use nix::errno::Errno;
use nix::sys::mman::{MmapAdvise, ProtFlags};

use super::*;
use crate::device::ioctl_with as give;
use crate::ram::Ram;

pub(super) const CASES: &[Case] = &[
    case("micro-memory-dropped", dropped),
    case("micro-memory-protected", protected),
    case("micro-memory-absent", absent),
    case("micro-memory-slot-removed", slot_removed),
    case("micro-memory-dirty-log", dirty_log),
    case("micro-memory-prefix", prefix),
    case("micro-memory-prefix-dropped", prefix_dropped),
    case("micro-memory-move-page", move_page),
    case("micro-memory-large", large),
    case("micro-memory-release", release),
    case("micro-memory-last-slot", last_slot),
    case("micro-memory-limit", limit),
    case("micro-memory-prefix-nowhere", prefix_nowhere),
];

/// Where cases have a second slot.
const SLOT: u64 = 0x1000_0000;

/// The host takes a page away while it is mapped; the guest finds a new one.
fn dropped() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(0x10_0000)?;
    vm.add_slot(1, SLOT, &ram)?;
    let code = Code::new().load(2, SLOT as i32).load(1, 7).stg(1, 2, 0).lg(3, 2, 0).report(3);
    let vcpu = vm.start(&code.lg(3, 2, 0).report(3))?;
    check_eq!(vcpu.report()?, 7);
    ram.advise(MmapAdvise::MADV_DONTNEED)?;
    check_eq!(vcpu.report()?, 0);
    Ok(())
}

/// The host makes memory read-only and back: reads go on, a write fails in between.
fn protected() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(0x10_0000)?;
    vm.add_slot(1, SLOT, &ram)?;
    let code = Code::new().load(2, SLOT as i32).load(1, 7).stg(1, 2, 0).report(1);
    let vcpu = vm.start(&code.lg(3, 2, 0).report(3).stg(2, 2, 0).report(2))?;
    check_eq!(vcpu.report()?, 7);
    ram.protect(ProtFlags::PROT_READ)?;
    check_eq!(vcpu.report()?, 7);
    check_eq!(vcpu.try_run(), Err(Errno::EFAULT), "a write to read-only memory");
    ram.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
    check_eq!(vcpu.report()?, SLOT);
    Ok(())
}

/// A slot whose memory the host doesn't have.
fn absent() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(0x10_0000)?;
    vm.add_slot(1, SLOT, &ram)?;
    ram.unmap()?;
    let vcpu = vm.start(&Code::new().load(2, SLOT as i32).lg(3, 2, 0).report(3))?;
    check_eq!(vcpu.try_run(), Err(Errno::EFAULT));
    ram.map_again()?;
    check_eq!(vcpu.report()?, 0);
    Ok(())
}

/// Memory that goes with its slot is an addressing exception from then on.
fn slot_removed() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(0x10_0000)?;
    vm.add_slot(1, SLOT, &ram)?;
    let code = Code::new().load(2, SLOT as i32).stg(2, 2, 0).report(2).lg(3, 2, 0).report(3);
    let vcpu = vm.start(&code)?;
    check_eq!(vcpu.report()?, SLOT);
    vm.set_slot(1, 0, SLOT, &ram, 0)?;
    vcpu.expect_wait(vm::PROGRAM_TRAP)?;
    check_eq!(vm.read_u32(0x8c)? & 0xffff, 5, "addressing");
    Ok(())
}

/// The log has each page that was written to, once.
fn dirty_log() -> Result<()> {
    const LOG_DIRTY_PAGES: u32 = 1;
    let vm = Vm::new()?;
    let ram = Ram::new(0x10_0000)?;
    vm.set_slot(1, LOG_DIRTY_PAGES, SLOT, &ram, ram.size())?;
    let mut code = Code::new().load(2, SLOT as i32);
    for page in [1_i32, 3, 3, 7] {
        code = code.load(4, SLOT as i32 + page * 0x1000).stg(4, 4, 0).report(4);
    }
    let vcpu = vm.start(&code)?;
    let log = |expected: u64| -> Result<()> {
        let mut bitmap = [0_u64; 4];
        let request =
            DirtyLog { slot: 1, padding1: 0, __bindgen_anon_1: bitmap.as_mut_ptr() as u64 };
        give(vm.file(), KVM_GET_DIRTY_LOG, &request)?;
        // The first page is the lowest bit of the first byte.
        check_eq!(bitmap.map(u64::from_le), [expected, 0, 0, 0], "dirty log");
        Ok(())
    };
    vcpu.report()?;
    vcpu.report()?;
    log(1 << 1 | 1 << 3)?;
    log(0)?;
    vcpu.report()?;
    log(1 << 3)?;
    vcpu.report()?;
    log(1 << 7)
}

/// The guest moves its prefix area.
fn prefix() -> Result<()> {
    let vm = Vm::new()?;
    vm.ram().write(DATA, 0x0030_0000_u32.to_be())?;
    vm.write_psw(0x30_01d0, MASK | vm::WAIT, 0x4444)?;
    // SPX; STPX; an operation exception, which the new area gets.
    let code = Code::new().load(2, DATA as i32).s(0xb210, 2, 0).s(0xb211, 2, 8);
    let vcpu = vm.start(&code.rxy(0xe316, 1 << 4, 2, 8).report(1).raw(&[0, 0]))?;
    check_eq!(vcpu.report()?, 0x30_0000);
    vcpu.expect_wait(0x4444)?;
    check_eq!(vm.read_u32(0x30_008c)? & 0xffff, 1, "operation");
    Ok(())
}

/// The host takes the prefix area's pages while the guest is not in it.
fn prefix_dropped() -> Result<()> {
    let vm = Vm::new()?;
    let mut code = Code::new();
    for value in 0..20 {
        code = code.load(1, value).report(1);
    }
    let vcpu = vm.start(&code)?;
    for value in 0..20 {
        check_eq!(vcpu.report()?, value);
        // What the cases put there is gone, but it isn't needed.
        let first = vm.ram().read_bytes(CODE, 0x1000)?;
        vm.ram().advise(MmapAdvise::MADV_DONTNEED)?;
        vm.ram().write_bytes(CODE, &first)?;
    }
    Ok(())
}

/// MOVE PAGE between pages that the host hasn't mapped.
fn move_page() -> Result<()> {
    let vm = Vm::new()?;
    vm.write(0x20_0008, 0x1122_3344)?;
    let code = Code::new().load(0, 0).load(2, 0x30_0000).load(3, 0x20_0000).rre(0xb254, 2, 3);
    let vcpu = vm.start(&code.condition(1).report(1).lg(4, 2, 8).report(4))?;
    check_eq!(vcpu.report()?, 0, "condition code");
    check_eq!(vcpu.report()?, 0x1122_3344);
    Ok(())
}

/// Many pages, over the borders of tables.
fn large() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(8 << 20)?;
    // Across 2 GiB: two segment tables.
    let start = (2_u64 << 30) - (4 << 20);
    vm.add_slot(1, start, &ram)?;
    // Each page gets its own address.
    let mut code = Code::new().load64(2, start).load(3, 2048);
    // STG; AGFI of a page; BRCTG back over both.
    code = code.stg(2, 2, 0).raw(&[0xc2, 0x28, 0, 0, 0x10, 0]);
    code = code.raw(&[0xa7, 0x37]).raw(&(-6_i16).to_be_bytes()).report(3);
    let vcpu = vm.start(&code)?;
    check_eq!(vcpu.report()?, 0);
    for page in (0..2048).step_by(17) {
        let found = u64::from_be(ram.read(page * 0x1000)?);
        check_eq!(found, start + page * 0x1000, "page {page}");
    }
    Ok(())
}

/// The guest releases pages (DIAGNOSE 10): they are zeroes afterwards, those around them are not.
fn release() -> Result<()> {
    let vm = Vm::new()?;
    let page = |number: u64| DATA + number * 0x1000;
    for number in 0..4 {
        vm.write(page(number), 0x1111 * (number + 1))?;
    }
    let code = Code::new().load(2, page(1) as i32).load(3, page(2) as i32).diagnose(2, 3, 0x10);
    let code = [0, 1, 2, 3]
        .into_iter()
        .fold(code, |code, number| code.load(4, page(number) as i32).lg(5, 4, 0).report(5));
    // The first two pages can't be released.
    let vcpu = vm.start(&code.load(2, 0x1000).diagnose(2, 3, 0x10))?;
    let mut found = [0; 4];
    for word in &mut found {
        *word = vcpu.report()?;
    }
    check_eq!(found, [0x1111, 0, 0, 0x4444]);
    vcpu.expect_wait(vm::PROGRAM_TRAP)?;
    check_eq!(vm.read_u32(0x8c)?, 0x0004_0006, "specification");
    Ok(())
}

/// Slots have as many numbers as the capability says.
fn last_slot() -> Result<()> {
    let vm = Vm::new()?;
    let slots = vm.capability(kvm_uapi::cap::KVM_CAP_NR_MEMSLOTS)?;
    check_eq!(slots, 32766);
    let ram = Ram::new(0x10_0000)?;
    check_eq!(vm.set_slot(slots, 0, SLOT, &ram, ram.size()), Err(Errno::EINVAL));
    check_eq!(vm.set_slot(slots - 1, 0, SLOT, &ram, ram.size()), Ok(0));
    Ok(())
}

/// Userspace limits the memory that a VM can have.
fn limit() -> Result<()> {
    const MEMORY: u32 = 0;
    const LIMIT: u64 = 2;
    const ATTR: DeviceAttr = DeviceAttr { flags: 0, group: MEMORY, attr: LIMIT, addr: 0 };
    let vm = Vm::new()?;
    give(vm.file(), KVM_HAS_DEVICE_ATTR, &ATTR)?;
    let get = || -> Result<u64> {
        let mut limit = 0_u64;
        give(vm.file(), KVM_GET_DEVICE_ATTR, &DeviceAttr { addr: &raw mut limit as u64, ..ATTR })?;
        Ok(limit)
    };
    let set = |limit: u64| {
        give(vm.file(), KVM_SET_DEVICE_ATTR, &DeviceAttr { addr: &raw const limit as u64, ..ATTR })
    };
    let most = get()?;
    ensure!(most >= 1 << 31 && most % (1 << 20) == 0, "{most:x}");
    check_eq!(set(most + 1), Err(Errno::E2BIG), "more than there is");
    check_eq!(set(0), Err(Errno::EINVAL), "none");
    check_eq!(set(1 << 20), Err(Errno::EBUSY), "less than a slot has");
    check_eq!(set((8 << 20) - 1), Ok(0));
    check_eq!(get()?, 8 << 20, "whole segments");
    check_eq!(set(9 << 20), Err(Errno::E2BIG), "more than before");
    let ram = Ram::new(0x10_0000)?;
    check_eq!(vm.set_slot(1, 0, 8 << 20, &ram, ram.size()), Err(Errno::EINVAL), "a slot beyond");
    check_eq!(vm.set_slot(1, 0, 7 << 20, &ram, ram.size()), Ok(0), "the last one");
    let _vcpu = vm.vcpu(0)?;
    check_eq!(set(8 << 20), Err(Errno::EBUSY), "there is a CPU");
    Ok(())
}

/// The prefix area isn't memory: the guest can't run, and userspace is told.
fn prefix_nowhere() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.start(&Code::new().report(1).report(1))?;
    vcpu.set_prefix(0x1000_0000);
    let stats = Stats::open(vcpu.file())?;
    let before = stats.value("exit_validity")?;
    check_eq!(vcpu.try_run(), Err(Errno::EFAULT));
    // SIE refused the block: a validity interception, with reason 0x37.
    check_eq!(stats.value("exit_validity")?, before + 1, "validity interceptions");
    vcpu.set_prefix(0x20_0000);
    vcpu.report()?;
    Ok(())
}
