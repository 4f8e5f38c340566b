// SPDX-License-Identifier: GPL-2.0
//! Guests that use their memory as hard as they can while the VMM does what it likes with it.

use std::fs;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::super::thread::beside;
use super::super::vcpu::Vcpu;
use super::*;
use crate::memory;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-churn-zero-page", zero_page),
    Case::guest("x86/micro-churn-holes", holes),
    Case::guest("x86/micro-churn-all", churn),
    Case::guest("x86/micro-churn-migrate", || none_lost(false)),
    Case::guest("x86/micro-churn-migrate-by-hand", || none_lost(true)),
    Case::guest("x86/micro-churn-odd-log", odd_log),
    Case::guest("x86/micro-churn-counts", counts),
    Case::guest("x86/micro-churn-leaks", leaks),
    Case::guest("x86/micro-churn-killed", killed),
];

/// Where the memory in question lies.
const PLACE: u64 = 0x1000_0000;
const SIZE: usize = 8 << 20;
const PAGES: usize = SIZE / 4096;

/// A VM with a second slot of `ram` at [`PLACE`].
fn vm_with(ram: &Ram) -> Result<Vm> {
    let vm = Vm::new()?;
    vm.add_slot(1, PLACE, ram)?;
    Ok(vm)
}

fn advise(ram: &Ram, offset: u64, size: usize, advice: i32) -> Result<()> {
    // SAFETY: the range is within the mapping, whose contents nobody borrows.
    let result = unsafe { libc::madvise((ram.address() + offset) as *mut _, size, advice) };
    Errno::result(result).map(|_| ()).with_context(|| format!("madvise {advice}"))
}

/// A page that was read first is the zero page of all; a write makes it the guest's own.
fn zero_page() -> Result<()> {
    let ram = Ram::new(SIZE)?;
    advise(&ram, 0, SIZE, libc::MADV_NOHUGEPAGE)?;
    let vm = vm_with(&ram)?;
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, {place}", "2:", "mov eax, [rbx]", "mov ecx, [rbx + 4096]", "or eax, ecx",
        "out 0xe8, eax", "mov [rbx], ebx", "mov eax, [rbx + 4096]", "out 0xe8, eax", "mov eax, [rbx]",
        "out 0xe8, eax", "add ebx, 8192", "jmp 2b";
        place = PLACE
    ))?;
    for page in 0..100 {
        vcpu.expect_report(0)?;
        vcpu.expect_report(0)?;
        vcpu.expect_report(PLACE as u32 + page * 8192)?;
        check_eq!(ram.read::<u32>(u64::from(page) * 8192)?, PLACE as u32 + page * 8192);
    }
    Ok(())
}

/// A guest that writes each page's address into it, and reports how many pages held another number
/// but 0 before.
fn checker(vm: &Vm, size: usize) -> Result<Vcpu> {
    let mut vcpu = vm.long(guest!(64;
        "3:", "mov ebx, {place}", "xor eax, eax",
        "2:", "mov rcx, [rbx]", "test rcx, rcx", "jz 4f", "cmp rcx, rbx", "je 4f", "inc eax",
        "4:", "mov [rbx], rbx", "add ebx, 4096", "cmp ebx, edx", "jne 2b",
        "out 0xe8, eax", "jmp 3b";
        place = PLACE
    ))?;
    vcpu.set_limit(Duration::from_secs(60));
    vcpu.change_regs(|regs| regs.rdx = PLACE + size as u64)?;
    Ok(vcpu)
}

/// Transparent huge pages, split and collapsed below the guest.
fn holes() -> Result<()> {
    let ram = Ram::new(SIZE)?;
    advise(&ram, 0, SIZE, libc::MADV_HUGEPAGE)?;
    let vm = vm_with(&ram)?;
    let mut vcpu = checker(&vm, SIZE)?;
    vcpu.expect_report(0)?;
    for round in 0..8_u64 {
        // A page out of the middle of a large one.
        let hole = round % 4 * (2 << 20) + 0x5000 + round * 0x3000;
        advise(&ram, hole, 0x1000, libc::MADV_DONTNEED)?;
        vcpu.expect_report(0)?;
        check_eq!(ram.read::<u64>(hole)?, PLACE + hole);
        // Old kernels don't know it; what doesn't collapse stays small.
        let _ = advise(&ram, 0, SIZE, libc::MADV_COLLAPSE);
        vcpu.expect_report(0)?;
    }
    Ok(())
}

/// Everything at once for a few seconds: a guest that writes, its memory thrown away, replaced, split,
/// protected and moved meanwhile. No page may hold what the guest didn't write there.
fn churn() -> Result<()> {
    let ram = Ram::new(SIZE)?;
    let vm = vm_with(&ram)?;
    let mut vcpu = checker(&vm, SIZE)?;
    let junk = Ram::new(SIZE)?;
    let logged = abi::kvm_userspace_memory_region {
        flags: abi::KVM_MEM_LOG_DIRTY_PAGES,
        ..vm.slot(1, PLACE, &ram)
    };
    beside(&mut vcpu, |exits| {
        let end = Instant::now() + Duration::from_secs(4);
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        while Instant::now() < end {
            let page = next(SIZE as u64 / 4096) * 4096;
            let size = (1 + next(700)).min((SIZE as u64 - page) / 4096) * 4096;
            match next(8) {
                0 | 1 => advise(&ram, page, size as usize, libc::MADV_DONTNEED)?,
                2 => advise(&ram, page, size as usize, libc::MADV_HUGEPAGE)?,
                3 => advise(&ram, page, size as usize, libc::MADV_NOHUGEPAGE)?,
                4 => {
                    let _ = advise(&ram, 0, SIZE, libc::MADV_COLLAPSE);
                }
                5 => drop(vm.set_slot(&logged).context("logging")?),
                6 => drop(vm.set_slot(&vm.slot(1, PLACE, &ram)).context("not logging")?),
                _ => {
                    // Pages that were freed come back here, with something in them.
                    for at in (0..SIZE as u64 / 8).step_by(4096) {
                        junk.write(at, 0xdead_beef_dead_beef_u64)?;
                    }
                    advise(&junk, 0, SIZE, libc::MADV_DONTNEED)?;
                }
            }
        }
        exits.expect_reports(0)?;
        Ok(())
    })
}

/// Two ways to take a log.
struct Log<'a> {
    vm: &'a Vm,
    slot: u32,
    pages: usize,
}

impl Log<'_> {
    fn get(&self) -> Result<Vec<u64>> {
        // A word more: nothing may be written there.
        let mut words = vec![0x5555_5555_5555_5555; self.pages.div_ceil(64) + 1];
        let mut request = abi::kvm_dirty_log { slot: self.slot, ..Default::default() };
        request.__bindgen_anon_1.dirty_bitmap = words.as_mut_ptr().cast();
        request::give(self.vm.file(), request::GET_DIRTY_LOG, &request)
            .context("KVM_GET_DIRTY_LOG")?;
        check_eq!(words.pop(), Some(0x5555_5555_5555_5555), "the word behind the bitmap");
        Ok(words)
    }

    fn clear(&self, first: u64, count: u32, words: &[u64]) -> Result<()> {
        let mut request = abi::kvm_clear_dirty_log {
            slot: self.slot,
            first_page: first,
            num_pages: count,
            ..Default::default()
        };
        request.__bindgen_anon_1.dirty_bitmap = words.as_ptr() as *mut _;
        let result = request::give(self.vm.file(), request::CLEAR_DIRTY_LOG, &request);
        result.map(|_| ()).context("KVM_CLEAR_DIRTY_LOG")
    }
}

fn manual(vm: &Vm, mode: u64) -> Result<()> {
    let cap = abi::KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
    vm.need(cap, "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2")?;
    vm.enable(cap, [mode, 0, 0, 0]).map(|_| ()).context("manual protection")
}

/// A slot that is logged.
fn logged(vm: &Vm, slot: u32, gpa: u64, ram: &Ram) -> Result<()> {
    let slot = abi::kvm_userspace_memory_region {
        flags: abi::KVM_MEM_LOG_DIRTY_PAGES,
        ..vm.slot(slot, gpa, ram)
    };
    vm.set_slot(&slot).map(|_| ()).context("a logged slot")
}

/// Bits to numbers.
fn pages(words: &[u64]) -> Vec<u64> {
    (0..words.len() as u64 * 64)
        .filter(|page| words.get((page / 64) as usize).is_some_and(|w| w >> (page % 64) & 1 != 0))
        .collect()
}

/// A guest writes all over while its memory is copied, as a migration does: what the log named at last
/// is all that still differs.
fn none_lost(by_hand: bool) -> Result<()> {
    let ram = Ram::new(SIZE)?;
    let vm = vm_with(&ram)?;
    if by_hand {
        manual(&vm, 1)?;
    }
    let log = Log { vm: &vm, slot: 1, pages: PAGES };
    // Numbers to pseudo-random pages; every now and then a report.
    let mut vcpu = vm.long(guest!(64;
        "mov eax, 1", "xor ecx, ecx",
        "2:", "imul eax, eax, 1664525", "add eax, 1013904223", "mov ebx, eax", "shr ebx, 9",
        "and ebx, {mask}", "inc rcx", "mov [rbx + {place}], rcx",
        "test ecx, 0xfffff", "jnz 2b", "out 0xe8, eax", "jmp 2b";
        mask = SIZE - 8, place = PLACE
    ))?;
    vcpu.set_limit(Duration::from_secs(60));
    let mut copy = vec![0u64; SIZE / 8];
    let take = |copy: &mut [u64]| -> Result<usize> {
        let words = log.get()?;
        if by_hand {
            log.clear(0, PAGES as u32, &words)?;
        }
        let dirty = pages(&words);
        for page in &dirty {
            for at in page * 512..(page + 1) * 512 {
                if let Some(place) = copy.get_mut(at as usize) {
                    *place = ram.read(at * 8)?;
                }
            }
        }
        Ok(dirty.len())
    };
    let mut harvested = 0;
    beside(&mut vcpu, |exits| {
        exits.next()?;
        logged(&vm, 1, PLACE, &ram)?;
        for (at, place) in copy.iter_mut().enumerate() {
            *place = ram.read(at as u64 * 8)?;
        }
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            harvested += take(&mut copy)?;
        }
        exits.next()?;
        Ok(())
    })?;
    ensure!(harvested > 0, "the guest didn't write");
    take(&mut copy)?;
    for (at, place) in copy.iter().enumerate() {
        check_eq!(*place, ram.read::<u64>(at as u64 * 8)?, "offset {:#x}", at * 8);
    }
    check_eq!(pages(&log.get()?), []);
    Ok(())
}

/// A slot that doesn't end with a word of its log.
fn odd_log() -> Result<()> {
    let vm = Vm::new()?;
    manual(&vm, 3)?;
    let ram = Ram::new(70 * 4096)?;
    logged(&vm, 1, PLACE, &ram)?;
    let log = Log { vm: &vm, slot: 1, pages: 70 };
    check_eq!(log.get()?, [u64::MAX, 0x3f], "all is dirty at first");
    log.clear(64, 6, &[0x3f])?;
    check_eq!(log.get()?, [u64::MAX, 0]);
    Ok(())
}

/// The counters know how much is mapped, and in what sizes.
fn counts() -> Result<()> {
    let ram = Ram::new(SIZE)?;
    advise(&ram, 0, SIZE, libc::MADV_NOHUGEPAGE)?;
    let vm = vm_with(&ram)?;
    let directory =
        format!("/sys/kernel/debug/kvm/{}-{}", std::process::id(), vm.file().as_raw_fd());
    let count = |size: &str| -> Result<u64> {
        let path = format!("{directory}/pages_{size}");
        Ok(fs::read_to_string(&path).with_context(|| path.clone())?.trim().parse()?)
    };
    let mut vcpu = checker(&vm, SIZE)?;
    vcpu.expect_report(0)?;
    let rest = count("4k")?.checked_sub(PAGES as u64).context("not all pages are counted")?;
    let large = count("2m")?;
    advise(&ram, 0, SIZE / 2, libc::MADV_DONTNEED)?;
    check_eq!(count("4k")?, rest + PAGES as u64 / 2);
    advise(&ram, 0, SIZE, libc::MADV_HUGEPAGE)?;
    advise(&ram, 0, SIZE, libc::MADV_DONTNEED)?;
    check_eq!(count("4k")?, rest);
    vcpu.expect_report(0)?;
    check_eq!((count("2m")?, count("4k")?), (large + (SIZE as u64 >> 21), rest), "large pages");
    logged(&vm, 1, PLACE, &ram)?;
    vcpu.expect_report(0)?;
    check_eq!((count("2m")?, count("4k")?), (large, rest + PAGES as u64), "split for the log");
    vm.add_slot(1, PLACE, &ram)?;
    vcpu.expect_report(0)?;
    check_eq!((count("2m")?, count("4k")?), (large + (SIZE as u64 >> 21), rest), "formed again");
    Ok(())
}

/// VMs that had their memory mapped in all ways leave nothing behind.
fn leaks() -> Result<()> {
    memory::leaves_nothing(60, || {
        for round in 0..20 {
            let ram = Ram::new(SIZE)?;
            let advice = if round % 2 == 0 { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
            advise(&ram, 0, SIZE, advice)?;
            let vm = vm_with(&ram)?;
            let mut vcpu = checker(&vm, SIZE)?;
            vcpu.expect_report(0)?;
            logged(&vm, 1, PLACE, &ram)?;
            vcpu.expect_report(0)?;
            if round % 3 == 0 {
                // The memory goes before the VM.
                drop(ram);
            }
        }
        Ok(())
    })
}

/// A process that is killed at any moment takes its VM along, and leaves nothing behind.
fn killed() -> Result<()> {
    // A child can't say that guests don't run here.
    drop(Vm::new()?);
    memory::leaves_nothing(60, || {
        for round in 0..20 {
            // SAFETY: the child runs a guest until it is killed, with nothing of the parent's but its
            // memory; no other thread holds a lock.
            match unsafe { fork() }? {
                ForkResult::Child => {
                    let _ = (|| -> Result<()> {
                        let ram = Ram::new(SIZE)?;
                        let vm = vm_with(&ram)?;
                        let mut vcpu = checker(&vm, SIZE)?;
                        beside(&mut vcpu, |_| {
                            loop {
                                logged(&vm, 1, PLACE, &ram)?;
                                advise(&ram, 0, SIZE / 2, libc::MADV_DONTNEED)?;
                                vm.add_slot(1, PLACE, &ram)?;
                            }
                        })
                    })();
                    // SAFETY: ends the child without running anything of the parent's.
                    unsafe { libc::_exit(1) }
                }
                ForkResult::Parent { child } => {
                    thread::sleep(Duration::from_millis(20 + round * 7));
                    kill(child, Signal::SIGKILL)?;
                    let ended = waitpid(child, None)?;
                    ensure!(
                        ended == WaitStatus::Signaled(child, Signal::SIGKILL, false),
                        "the child ended by itself: {ended:?}"
                    );
                }
            }
        }
        Ok(())
    })
}
