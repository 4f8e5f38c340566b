// SPDX-License-Identifier: GPL-2.0
//! The rings in which vCPUs say which pages they wrote to.

use nix::sys::mman::{MapFlags, ProtFlags};

use super::super::thread::beside;
use super::super::vcpu::Vcpu;
use super::trace::Trace;
use super::*;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-ring-pages", pages),
    Case::guest("x86/micro-ring-full", full),
    Case::guest("x86/micro-ring-two", two),
    Case::guest("x86/micro-ring-emulated", emulated),
    Case::guest("x86/micro-ring-nonsense", nonsense),
    Case::guest("x86/micro-ring-harvest", harvest),
    Case::guest("x86/micro-ring-refused", refused),
    Case::guest("x86/micro-ring-trace", trace),
    Case::guest("x86/micro-ring-hypercall", hypercall),
];

/// Where the logged slot, number 1, lies.
const PLACE: u64 = 0x1000_0000;
const SIZE: usize = 8 << 20;
const PAGES: usize = SIZE / 4096;
const LOG: u32 = abi::KVM_MEM_LOG_DIRTY_PAGES;

/// Entries of the rings of these cases: some more than a processor can have on its way.
const ENTRIES: usize = 1024;
const BYTES: usize = ENTRIES * size_of::<abi::kvm_dirty_gfn>();
/// Where a ring lies in a vCPU's file.
const OFFSET: i64 = 64 * 4096;

const DIRTY: u32 = 1;
const RESET: u32 = 2;

/// A VM whose vCPUs have rings, and a logged slot.
fn logged_vm(ram: &Ram) -> Result<Vm> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_DIRTY_LOG_RING, "KVM_CAP_DIRTY_LOG_RING")?;
    vm.enable(abi::KVM_CAP_DIRTY_LOG_RING, [BYTES as u64, 0, 0, 0]).context("turning rings on")?;
    let slot = abi::kvm_userspace_memory_region { flags: LOG, ..vm.slot(1, PLACE, ram) };
    vm.set_slot(&slot).context("the logged slot")?;
    Ok(vm)
}

/// A vCPU's ring, as userspace has it.
struct Ring {
    entries: Ram,
    next: usize,
}

impl Ring {
    fn of(vcpu: &Vcpu) -> Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let entries =
            Ram::of_file_at(vcpu.file(), OFFSET, BYTES, protection, MapFlags::MAP_SHARED)?;
        Ok(Self { entries, next: 0 })
    }

    /// The next entry, if the kernel filled it: slot and page. It is harvested then.
    fn harvest_one(&mut self) -> Result<Option<(u32, u64)>> {
        let at = (self.next % ENTRIES * 16) as u64;
        if self.entries.read::<u32>(at)? & DIRTY == 0 {
            return Ok(None);
        }
        let entry = (self.entries.read(at + 4)?, self.entries.read(at + 8)?);
        self.entries.write(at, RESET)?;
        self.next += 1;
        Ok(Some(entry))
    }

    /// The pages of slot 1 that wait, in the order of the ring.
    fn harvest(&mut self) -> Result<Vec<usize>> {
        let mut pages = Vec::new();
        while let Some((slot, page)) = self.harvest_one()? {
            check_eq!(slot, 1);
            pages.push(page as usize);
        }
        Ok(pages)
    }
}

/// Hands harvested entries back; how many.
fn reset(vm: &Vm) -> Result<usize, Errno> {
    request::call(vm.file(), request::RESET_DIRTY_RINGS, 0).map(|count| count as usize)
}

/// What the guest wrote to since the last time, in order.
fn written(vm: &Vm, ring: &mut Ring) -> Result<Vec<usize>> {
    let pages = ring.harvest()?;
    check_eq!(reset(vm)?, pages.len(), "entries that were reset");
    Ok(pages)
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

/// Who traces sees entries come and go, and the vCPU leave.
fn trace() -> Result<()> {
    let ram = Ram::new(SIZE)?;
    let vm = logged_vm(&ram)?;
    let mut vcpu = writer(&vm)?;
    let mut ring = Ring::of(&vcpu)?;
    let trace =
        Trace::new(&["kvm_dirty_ring_push", "kvm_dirty_ring_reset", "kvm_dirty_ring_exit"])?;
    touch(&mut vcpu, &[5, 7])?;
    trace.expect("kvm_dirty_ring_push", &["ring 0: ", "slot 1 offset 0x5 "])?;
    trace.expect("kvm_dirty_ring_push", &["ring 0: ", "slot 1 offset 0x7 "])?;
    check_eq!(written(&vm, &mut ring)?, [5, 7]);
    trace.expect("kvm_dirty_ring_reset", &["ring 0: dirty 0x2 reset 0x2 (used 0)"])?;
    for page in 0..ENTRIES {
        vcpu.change_regs(|regs| regs.rbx = PLACE + 4096 * page as u64)?;
        if vcpu.run()? != (Exit::Out { port: 0x10, size: 1, data: vec![0] }) {
            check_eq!(vcpu.run_page().exit_reason, 31, "KVM_EXIT_DIRTY_RING_FULL");
            return trace.expect("kvm_dirty_ring_exit", &["vcpu 0"]);
        }
    }
    bail!("the ring was never full")
}

/// Who traces sees a hypercall before what it does: here, to write to memory.
fn hypercall() -> Result<()> {
    let ram = Ram::new(SIZE)?;
    let vm = logged_vm(&ram)?;
    // KVM_HC_CLOCK_PAIRING
    let vcpu = vm.long(guest!(64;
        "mov eax, 9", "mov ebx, {place}", "xor ecx, ecx", "vmmcall", "nop", "out 0xe8, eax";
        place = PLACE + 4096
    ))?;
    let trace = Trace::new(&["kvm_hypercall", "kvm_dirty_ring_push"])?;
    vcpu.enter()?;
    if vcpu.regs()?.rax as u32 as i32 == -95 {
        return Err(Skip("the host's clock can't be paired".into()).into());
    }
    check_eq!(vcpu.regs()?.rax, 0);
    trace.expect_order(&[
        ("kvm_hypercall", "nr 0x9 a0 0x10001000 "),
        ("kvm_dirty_ring_push", "slot 1 offset 0x1 "),
    ])
}

/// The ring has the pages that were written to, each once, and again after it was reset.
fn pages() -> Result<()> {
    let ram = Ram::new(SIZE)?;
    let vm = logged_vm(&ram)?;
    let mut vcpu = writer(&vm)?;
    let mut ring = Ring::of(&vcpu)?;
    check_eq!(written(&vm, &mut ring)?, vec![]);
    touch(&mut vcpu, &[3, 700, 5, 5, 3, 2047])?;
    check_eq!(written(&vm, &mut ring)?, vec![3, 700, 5, 2047]);
    touch(&mut vcpu, &[3, 5, 4])?;
    check_eq!(written(&vm, &mut ring)?, vec![3, 5, 4], "the second time");
    // Harvested, but not reset: the page isn't noted again.
    touch(&mut vcpu, &[9, 10])?;
    check_eq!(ring.harvest()?, vec![9, 10]);
    touch(&mut vcpu, &[9, 11])?;
    check_eq!(ring.harvest()?, vec![11]);
    check_eq!(reset(&vm)?, 3);
    // Once around, in both directions.
    let up: Vec<usize> = (100..400).collect();
    let down: Vec<usize> = up.iter().rev().copied().collect();
    for round in 0..3 {
        for pages in [&up, &down] {
            touch(&mut vcpu, pages)?;
            check_eq!(written(&vm, &mut ring)?, *pages, "round {round}");
        }
    }
    Ok(())
}

/// A vCPU whose ring is nearly full comes out, again and again, until there is room.
fn full() -> Result<()> {
    let ram = Ram::new(SIZE)?;
    let vm = logged_vm(&ram)?;
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, {place}",
        "2:", "mov [rbx], rbx", "add ebx, 4096", "cmp ebx, {end}", "jb 2b", "hlt";
        place = PLACE, end = PLACE + SIZE as u64
    ))?;
    let mut ring = Ring::of(&vcpu)?;
    let full = Exit::Other(abi::KVM_EXIT_DIRTY_RING_FULL);
    let mut all = Vec::new();
    for round in 0..20 {
        match vcpu.run()? {
            Exit::Hlt => {
                all.extend(written(&vm, &mut ring)?);
                // The write that it came out before is made, and noted, again.
                all.dedup();
                ensure!(all.iter().copied().eq(0..PAGES), "{} pages instead of all", all.len());
                return Ok(());
            }
            exit => check_eq!(exit, full, "round {round}"),
        }
        // Nothing but a reset makes room.
        vcpu.expect(&full)?;
        let pages = ring.harvest()?;
        ensure!(
            (ENTRIES / 4..=ENTRIES).contains(&pages.len()),
            "it came out with {} of {ENTRIES} entries in use",
            pages.len()
        );
        vcpu.expect(&full)?;
        check_eq!(reset(&vm)?, pages.len());
        all.extend(pages);
    }
    bail!("the guest doesn't get through")
}

/// Each vCPU has its own, and one reset is for all.
fn two() -> Result<()> {
    let ram = Ram::new(SIZE)?;
    let vm = logged_vm(&ram)?;
    let code = guest!(64; "2:", "mov [rbx], rcx", "out 0x10, al", "jmp 2b");
    let mut vcpus = Vec::new();
    for id in 0..2 {
        let vcpu = vm.vcpu(id)?;
        vcpu.start(Mode::Long, code)?;
        let ring = Ring::of(&vcpu)?;
        vcpus.push((vcpu, ring));
    }
    for _ in 0..3 {
        for (vcpu, _) in &mut vcpus {
            // The third page is the same for both.
            let own = vcpu.id() as usize * 100;
            touch(vcpu, &[own, own + 1, 555])?;
        }
        let first = vcpus[0].1.harvest()?;
        let second = vcpus[1].1.harvest()?;
        // The first write made it writable for both.
        check_eq!((first, second), (vec![0, 1, 555], vec![100, 101]));
        check_eq!(reset(&vm)?, 5);
    }
    Ok(())
}

/// What KVM writes for the guest is noted as well.
fn emulated() -> Result<()> {
    let ram = Ram::new(SIZE)?;
    let vm = logged_vm(&ram)?;
    let mut vcpu = vm.long(guest!(64;
        "mov edi, {page}", "mov edx, 0x300", "mov ecx, 1", "insd",
        "mov ebx, {end}", "mov rax, -1", "mov [rbx], rax", "hlt";
        page = PLACE + 5 * 4096, end = PLACE + SIZE as u64 - 4
    ))?;
    let mut ring = Ring::of(&vcpu)?;
    vcpu.expect(&Exit::In { port: 0x300, size: 4, count: 1 })?;
    vcpu.answer(&[1, 2, 3, 4])?;
    vcpu.expect(&Exit::MmioWrite { gpa: PLACE + SIZE as u64, data: vec![0xff; 4] })?;
    vcpu.expect(&Exit::Hlt)?;
    let mut pages = ring.harvest()?;
    pages.dedup();
    check_eq!(pages, vec![5, PAGES - 1]);
    Ok(())
}

/// What userspace writes to entries leads nowhere but to what it says.
fn nonsense() -> Result<()> {
    let ram = Ram::new(SIZE)?;
    let vm = logged_vm(&ram)?;
    let mut vcpu = writer(&vm)?;
    let mut ring = Ring::of(&vcpu)?;
    touch(&mut vcpu, &[1, 2, 3, 4, 5, 6])?;
    for (index, (slot, page)) in [
        (1, u64::MAX),
        (1, PAGES as u64),
        (7, 0),
        (u32::MAX, 1),
        (1, 0u64.wrapping_sub(PAGES as u64)),
        (1 << 16 | 1, 3),
    ]
    .into_iter()
    .enumerate()
    {
        ring.entries.write(index as u64 * 16 + 4, slot)?;
        ring.entries.write(index as u64 * 16 + 8, page)?;
        ring.entries.write(index as u64 * 16, RESET)?;
        ring.next += 1;
    }
    check_eq!(reset(&vm)?, 6);
    // None of the pages was protected again.
    touch(&mut vcpu, &[1, 2, 3, 4, 5, 6, 7])?;
    check_eq!(written(&vm, &mut ring)?, vec![7]);
    Ok(())
}

/// A copy that is kept up to date by the ring while the guest writes ends up equal: no write is lost.
fn harvest() -> Result<()> {
    let ram = Ram::new(SIZE)?;
    let vm = logged_vm(&ram)?;
    let mut vcpu = vm.long(guest!(64;
        "sti", "mov eax, 12345",
        // A page at random gets another value.
        "2:", "imul eax, eax, 1103515245", "add eax, 12345", "mov ebx, eax", "shr ebx, 7",
        "and ebx, 0x7ff", "shl ebx, 12", "add ebx, {place}", "mov [rbx], eax", "jmp 2b";
        place = PLACE
    ))?;
    let mut ring = Ring::of(&vcpu)?;
    let mut copy = vec![0u32; PAGES];
    let mut update = |ring: &mut Ring| -> Result<()> {
        let pages = ring.harvest()?;
        reset(&vm)?;
        for page in pages {
            copy[page] = ram.read(4096 * page as u64)?;
        }
        Ok(())
    };
    beside(&mut vcpu, |_| {
        for _ in 0..60 {
            update(&mut ring)?;
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
        Ok(())
    })?;
    update(&mut ring)?;
    let mut written = 0;
    for (page, value) in copy.iter().enumerate() {
        let now: u32 = ram.read(4096 * page as u64)?;
        check_eq!(*value, now, "page {page}");
        written += u32::from(now != 0);
    }
    ensure!(written > 100, "the guest wrote to {written} pages only");
    Ok(())
}

/// Sizes that can't be, rings too late, mappings that may not be, and logs without a bitmap.
fn refused() -> Result<()> {
    let ram = Ram::new(SIZE)?;
    let vm = Vm::new()?;
    let most = vm.capability(abi::KVM_CAP_DIRTY_LOG_RING)?;
    vm.need(abi::KVM_CAP_DIRTY_LOG_RING, "KVM_CAP_DIRTY_LOG_RING")?;
    check_eq!(most, 65536 * 16);
    check_eq!(vm.capability(abi::KVM_CAP_DIRTY_LOG_RING_ACQ_REL)?, most);
    check_eq!(vm.capability(abi::KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP)?, 0);
    check_eq!(reset(&vm), Err(Errno::EINVAL), "without rings");
    let size = |bytes: u64| vm.enable(abi::KVM_CAP_DIRTY_LOG_RING, [bytes, 0, 0, 0]);
    for bytes in [0, 2048, 4096 * 3, u64::from(most) + 16] {
        check_eq!(size(bytes), Err(Errno::EINVAL), "{bytes} bytes");
    }
    check_eq!(size(u64::from(most) * 2), Err(Errno::E2BIG));
    check_eq!(
        vm.enable(abi::KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, [0; 4]),
        Err(Errno::EINVAL),
        "a bitmap as well"
    );
    check_eq!(size(BYTES as u64), Ok(0));
    check_eq!(size(BYTES as u64), Err(Errno::EINVAL), "twice");
    let slot = abi::kvm_userspace_memory_region { flags: LOG, ..vm.slot(1, PLACE, &ram) };
    vm.set_slot(&slot).context("the logged slot")?;
    let mut bitmap = [0u64; PAGES / 64];
    let mut log = abi::kvm_dirty_log { slot: 1, ..Default::default() };
    log.__bindgen_anon_1.dirty_bitmap = std::ptr::from_mut(&mut bitmap).cast();
    check_eq!(request::give(vm.file(), request::GET_DIRTY_LOG, &log), Err(Errno::ENXIO));
    let mut clear = abi::kvm_clear_dirty_log { slot: 1, num_pages: 64, ..Default::default() };
    clear.__bindgen_anon_1.dirty_bitmap = std::ptr::from_mut(&mut bitmap).cast();
    let cleared = request::exchange(vm.file(), request::CLEAR_DIRTY_LOG, &mut clear);
    check_eq!(cleared, Err(Errno::ENXIO));

    let vcpu = vm.vcpu(0)?;
    let map = |offset: i64, protection: ProtFlags, flags: MapFlags| {
        Ram::of_file_at(vcpu.file(), offset, 4096, protection, flags).is_ok()
    };
    let (read, exec) = (ProtFlags::PROT_READ, ProtFlags::PROT_READ | ProtFlags::PROT_EXEC);
    let last = OFFSET + BYTES as i64 - 4096;
    for offset in [OFFSET, last] {
        check_eq!(map(offset, read, MapFlags::MAP_SHARED), true, "as it should be");
        check_eq!(map(offset, read, MapFlags::MAP_PRIVATE), false, "private");
        check_eq!(map(offset, exec, MapFlags::MAP_SHARED), false, "for code");
    }
    // What lies behind is no ring.
    check_eq!(map(last + 4096, read, MapFlags::MAP_PRIVATE), true);

    let late = Vm::new()?;
    let _vcpu = late.vcpu(0)?;
    let enabled = late.enable(abi::KVM_CAP_DIRTY_LOG_RING, [BYTES as u64, 0, 0, 0]);
    check_eq!(enabled, Err(Errno::EINVAL), "after a vCPU");
    Ok(())
}
