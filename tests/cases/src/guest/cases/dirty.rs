// SPDX-License-Identifier: GPL-2.0
//! The log of pages that a guest wrote to.

use nix::sys::mman::{MapFlags, MmapAdvise};

use micro::stats::Stats;

use super::super::thread::beside;
use super::super::vcpu::Vcpu;
use super::*;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-dirty-get", get),
    Case::guest("x86/micro-dirty-huge", huge),
    Case::guest("x86/micro-dirty-clear", clear),
    Case::guest("x86/micro-dirty-initially-set", initially_set),
    Case::guest("x86/micro-dirty-toggle", toggle),
    Case::guest("x86/micro-dirty-emulated", emulated),
    Case::guest("x86/micro-dirty-harvest", harvest),
    Case::guest("x86/micro-dirty-refused", refused),
];

/// Where the logged slot, number 1, lies.
const PLACE: u64 = 0x1000_0000;
const SIZE: usize = 8 << 20;
const PAGES: usize = SIZE / 4096;
const LOG: u32 = abi::KVM_MEM_LOG_DIRTY_PAGES;

type Bitmap = [u64; PAGES / 64];

fn log_slot(vm: &Vm, ram: &Ram, flags: u32) -> Result<()> {
    let slot = abi::kvm_userspace_memory_region { flags, ..vm.slot(1, PLACE, ram) };
    vm.set_slot(&slot).map(|_| ()).context("the logged slot")
}

/// The pages that KVM_GET_DIRTY_LOG names.
fn get_log(vm: &Vm) -> Result<Vec<usize>> {
    let mut bitmap: Bitmap = [u64::MAX; PAGES / 64];
    let mut log = abi::kvm_dirty_log { slot: 1, ..Default::default() };
    log.__bindgen_anon_1.dirty_bitmap = std::ptr::from_mut(&mut bitmap).cast();
    request::give(vm.file(), request::GET_DIRTY_LOG, &log).context("KVM_GET_DIRTY_LOG")?;
    Ok((0..PAGES).filter(|page| bitmap[page / 64] >> (page % 64) & 1 == 1).collect())
}

/// Clears the log of `count` pages from `first` on where `bitmap` says so.
fn clear_log(vm: &Vm, first: u64, count: u32, bitmap: &mut Bitmap) -> Result<(), Errno> {
    let mut log = abi::kvm_clear_dirty_log {
        slot: 1,
        num_pages: count,
        first_page: first,
        ..Default::default()
    };
    log.__bindgen_anon_1.dirty_bitmap = std::ptr::from_mut(bitmap).cast();
    request::exchange(vm.file(), request::CLEAR_DIRTY_LOG, &mut log).map(|_| ())
}

/// A guest that writes a word wherever it is told.
fn writer(vm: &Vm) -> Result<Vcpu> {
    vm.long(guest!(64; "2:", "mov [rbx], rcx", "mov rdx, [rbx + 8]", "out 0x10, al", "jmp 2b"))
}

fn touch(vcpu: &mut Vcpu, pages: &[usize]) -> Result<()> {
    for page in pages {
        vcpu.change_regs(|regs| regs.rbx = PLACE + 4096 * *page as u64 + 24)?;
        vcpu.expect_out(0x10, &[0])?;
    }
    Ok(())
}

/// Finishes what the last exit left open: registers are whole only after that.
fn complete(vcpu: &mut Vcpu) -> Result<()> {
    vcpu.run_page().immediate_exit = 1;
    check_eq!(vcpu.try_run()?, Err(Errno::EINTR));
    vcpu.run_page().immediate_exit = 0;
    Ok(())
}

/// Lets the guest read.
fn look(vm: &Vm, vcpu: &mut Vcpu, pages: &[usize]) -> Result<()> {
    vm.ram().write_bytes(0xa000, guest!(64; "2:", "mov rdx, [rbx]", "out 0x11, al", "jmp 2b"))?;
    complete(vcpu)?;
    let regs = vcpu.regs()?;
    vcpu.change_regs(|regs| regs.rip = 0xa000)?;
    for page in pages {
        vcpu.change_regs(|regs| regs.rbx = PLACE + 4096 * *page as u64)?;
        vcpu.expect_out(0x11, &[0])?;
    }
    complete(vcpu)?;
    vcpu.set_regs(&regs)
}

/// The log has the pages written since the last time, each time.
fn get() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(SIZE)?;
    log_slot(&vm, &ram, LOG)?;
    let mut vcpu = writer(&vm)?;
    check_eq!(get_log(&vm)?, vec![]);
    touch(&mut vcpu, &[3, 5, 100, 100, 2047])?;
    look(&vm, &mut vcpu, &[7, 8, 600])?;
    // A page that was only read may be mapped for writing, and count as written.
    let mut seen = get_log(&vm)?;
    seen.retain(|page| ![7, 8, 600].contains(page));
    check_eq!(seen, vec![3, 5, 100, 2047]);
    check_eq!(get_log(&vm)?, vec![], "the second time");
    touch(&mut vcpu, &[5, 600, 601])?;
    check_eq!(get_log(&vm)?, vec![5, 600, 601]);
    // Every page, and then every other one.
    let all: Vec<usize> = (0..PAGES).collect();
    touch(&mut vcpu, &all)?;
    check_eq!(get_log(&vm)?, all);
    let odd: Vec<usize> = (1..PAGES).step_by(2).collect();
    touch(&mut vcpu, &odd)?;
    check_eq!(get_log(&vm)?, odd);
    Ok(())
}

/// The same for memory that was mapped with huge pages before the log was turned on.
fn huge() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::with_flags(SIZE, MapFlags::MAP_PRIVATE)?;
    ram.advise(MmapAdvise::MADV_HUGEPAGE)?;
    log_slot(&vm, &ram, 0)?;
    let mut vcpu = writer(&vm)?;
    touch(&mut vcpu, &[0, 600, 1100, 1600])?;
    log_slot(&vm, &ram, LOG)?;
    check_eq!(get_log(&vm)?, vec![]);
    touch(&mut vcpu, &[3, 513])?;
    check_eq!(get_log(&vm)?, vec![3, 513]);
    touch(&mut vcpu, &[4, 5, 2000])?;
    check_eq!(get_log(&vm)?, vec![4, 5, 2000]);
    // Off and on again: huge pages may come back meanwhile.
    log_slot(&vm, &ram, 0)?;
    touch(&mut vcpu, &[9, 700])?;
    log_slot(&vm, &ram, LOG)?;
    check_eq!(get_log(&vm)?, vec![]);
    touch(&mut vcpu, &[9])?;
    check_eq!(get_log(&vm)?, vec![9]);
    Ok(())
}

/// With manual protection GET leaves the log as it is and CLEAR takes from it.
fn clear() -> Result<()> {
    let vm = Vm::new()?;
    let name = "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2";
    vm.need(abi::KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, name)?;
    check_eq!(vm.enable(abi::KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, [4, 0, 0, 0]), Err(Errno::EINVAL));
    vm.enable(abi::KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, [1, 0, 0, 0]).context(name)?;
    let ram = Ram::new(SIZE)?;
    log_slot(&vm, &ram, LOG)?;
    let mut vcpu = writer(&vm)?;
    touch(&mut vcpu, &[3, 64, 65, 130])?;
    check_eq!(get_log(&vm)?, vec![3, 64, 65, 130]);
    check_eq!(get_log(&vm)?, vec![3, 64, 65, 130], "the second time");
    // Pages 64 to 127, of which 65.
    let mut bitmap: Bitmap = [0; PAGES / 64];
    bitmap[0] = 2;
    clear_log(&vm, 64, 64, &mut bitmap).context("KVM_CLEAR_DIRTY_LOG")?;
    check_eq!(get_log(&vm)?, vec![3, 64, 130]);
    touch(&mut vcpu, &[65])?;
    check_eq!(get_log(&vm)?, vec![3, 64, 65, 130]);
    bitmap = [u64::MAX; PAGES / 64];
    clear_log(&vm, 0, PAGES as u32, &mut bitmap).context("KVM_CLEAR_DIRTY_LOG of all")?;
    check_eq!(get_log(&vm)?, vec![]);
    touch(&mut vcpu, &[64])?;
    check_eq!(get_log(&vm)?, vec![64]);
    for (what, first, count) in [
        ("a first page off 64", 32, 64),
        ("a number off 64", 0, 63),
        ("pages beyond", PAGES as u64, 64),
        ("too many pages", 64, PAGES as u32),
    ] {
        check_eq!(clear_log(&vm, first, count, &mut bitmap), Err(Errno::EINVAL), "{what}");
    }
    Ok(())
}

/// With the log initially set, each page is protected when it is cleared for the first time.
fn initially_set() -> Result<()> {
    let vm = Vm::new()?;
    let name = "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2";
    let modes = vm.capability(abi::KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)?;
    if modes & 2 == 0 {
        return Err(Skip("the modules can't set the log initially".into()).into());
    }
    vm.enable(abi::KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, [3, 0, 0, 0]).context(name)?;
    let ram = Ram::new(SIZE)?;
    log_slot(&vm, &ram, 0)?;
    let mut vcpu = writer(&vm)?;
    touch(&mut vcpu, &[1, 2, 700])?;
    log_slot(&vm, &ram, LOG)?;
    check_eq!(get_log(&vm)?.len(), PAGES);
    let mut bitmap: Bitmap = [u64::MAX; PAGES / 64];
    clear_log(&vm, 0, 1024, &mut bitmap).context("KVM_CLEAR_DIRTY_LOG")?;
    check_eq!(get_log(&vm)?, (1024..PAGES).collect::<Vec<_>>());
    touch(&mut vcpu, &[2, 700, 1500])?;
    check_eq!(get_log(&vm)?.len(), PAGES - 1024 + 2);
    clear_log(&vm, 1024, 1024, &mut bitmap).context("KVM_CLEAR_DIRTY_LOG")?;
    check_eq!(get_log(&vm)?, vec![2, 700]);
    Ok(())
}

/// The log goes on and off while the slot is there.
fn toggle() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(SIZE)?;
    let mut vcpu = writer(&vm)?;
    for round in 0..20 {
        log_slot(&vm, &ram, 0)?;
        touch(&mut vcpu, &[round, round + 700])?;
        log_slot(&vm, &ram, LOG)?;
        touch(&mut vcpu, &[round + 700, round + 900])?;
        check_eq!(get_log(&vm)?, vec![round + 700, round + 900], "round {round}");
    }
    Ok(())
}

/// What KVM writes for the guest is logged as well: strings from a port, and an access that reaches
/// into a page behind the end of memory.
fn emulated() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(SIZE)?;
    log_slot(&vm, &ram, LOG)?;
    let mut vcpu = vm.long(guest!(64;
        "mov edi, {page}", "mov edx, 0x300", "mov ecx, 1", "insd",
        "mov ebx, {end}", "mov rax, -1", "mov [rbx], rax", "hlt";
        page = PLACE + 5 * 4096, end = PLACE + SIZE as u64 - 4
    ))?;
    vcpu.expect(&Exit::In { port: 0x300, size: 4, count: 1 })?;
    vcpu.answer(&[1, 2, 3, 4])?;
    vcpu.expect(&Exit::MmioWrite { gpa: PLACE + SIZE as u64, data: vec![0xff; 4] })?;
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(get_log(&vm)?, vec![5, PAGES - 1]);
    Ok(())
}

/// A copy that is kept up to date by the log while the guest writes ends up equal: no write is lost.
fn harvest() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(SIZE)?;
    log_slot(&vm, &ram, LOG)?;
    let mut vcpu = vm.long(guest!(64;
        "sti", "mov eax, 12345",
        // A page at random gets another value.
        "2:", "imul eax, eax, 1103515245", "add eax, 12345", "mov ebx, eax", "shr ebx, 7",
        "and ebx, 0x7ff", "shl ebx, 12", "add ebx, {place}", "mov [rbx], eax", "jmp 2b";
        place = PLACE
    ))?;
    let mut copy = vec![0u32; PAGES];
    let mut update = |pages: Vec<usize>| -> Result<()> {
        for page in pages {
            copy[page] = ram.read(4096 * page as u64)?;
        }
        Ok(())
    };
    beside(&mut vcpu, |_| {
        for _ in 0..60 {
            update(get_log(&vm)?)?;
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
        Ok(())
    })?;
    update(get_log(&vm)?)?;
    let mut written = 0;
    for (page, value) in copy.iter().enumerate() {
        let now: u32 = ram.read(4096 * page as u64)?;
        check_eq!(*value, now, "page {page}");
        written += u32::from(now != 0);
    }
    ensure!(written > 100, "the guest wrote to {written} pages only");
    Ok(())
}

/// What there is no log of.
fn refused() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(SIZE)?;
    let mut bitmap: Bitmap = [0; PAGES / 64];
    let mut log = abi::kvm_dirty_log { slot: 1, ..Default::default() };
    log.__bindgen_anon_1.dirty_bitmap = std::ptr::from_mut(&mut bitmap).cast();
    let get = |log: &abi::kvm_dirty_log| request::give(vm.file(), request::GET_DIRTY_LOG, log);
    check_eq!(get(&log), Err(Errno::ENOENT), "a slot that isn't there");
    log_slot(&vm, &ram, 0)?;
    check_eq!(get(&log), Err(Errno::ENOENT), "a slot without a log");
    log_slot(&vm, &ram, LOG)?;
    log.__bindgen_anon_1.dirty_bitmap = std::ptr::null_mut();
    check_eq!(get(&log), Err(Errno::EFAULT), "no bitmap");
    log.slot = 99 << 16;
    check_eq!(get(&log), Err(Errno::EINVAL), "an address space too high");
    Ok(())
}

/// How often the guest faults that writes to pages which were written to, and logged, before.
pub(in super::super) fn faults_of_clean_pages(count: usize) -> Result<u64> {
    let vm = Vm::new()?;
    let ram = Ram::new(SIZE)?;
    log_slot(&vm, &ram, LOG)?;
    let mut vcpu = writer(&vm)?;
    let pages: Vec<usize> = (0..count).collect();
    touch(&mut vcpu, &pages)?;
    check_eq!(get_log(&vm)?, pages);
    let stats = Stats::open(vcpu.file())?;
    let before = stats.value("pf_taken")?;
    touch(&mut vcpu, &pages)?;
    let faults = stats.value("pf_taken")? - before;
    check_eq!(get_log(&vm)?, pages, "the second time");
    check_eq!(get_log(&vm)?, vec![], "the third time");
    Ok(faults)
}
