// SPDX-License-Identifier: GPL-2.0
//! Event descriptors for interrupts and for a guest's writes, and writes that are collected.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::super::thread::beside;
use super::super::vcpu::Vcpu;
use super::irqchip::{Routes, to_message};
use super::lapic::with_irqchip;
use super::*;
use crate::processor::Processor;
use micro::stats::Stats;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-event-irqfd", irqfd),
    Case::guest("x86/micro-event-irqfd-resample", resample),
    Case::guest("x86/micro-event-irqfd-refused", irqfd_refused),
    Case::guest("x86/micro-event-ioeventfd-port", ioeventfd_port),
    Case::guest("x86/micro-event-ioeventfd-memory", ioeventfd_memory),
    Case::guest("x86/micro-event-ioeventfd-steps", ioeventfd_steps),
    Case::guest("x86/micro-event-ioeventfd-refused", ioeventfd_refused),
    Case::guest("x86/micro-event-coalesced", coalesced),
    Case::guest("x86/micro-event-coalesced-port", coalesced_port),
    Case::guest("x86/micro-event-stats", stats),
];

fn eventfd() -> Result<EventFd> {
    EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).context("eventfd")
}

/// How often it was signalled since the last time.
fn count(event: &EventFd) -> Result<u64> {
    match event.read() {
        Ok(count) => Ok(count),
        Err(Errno::EAGAIN) => Ok(0),
        Err(error) => Err(error).context("reading an eventfd"),
    }
}

/// Waits until it is signalled.
fn wait(event: &EventFd) -> Result<()> {
    let timeout = PollTimeout::try_from(Duration::from_secs(10))?;
    let ready = poll(&mut [PollFd::new(event.as_fd(), PollFlags::POLLIN)], timeout)?;
    ensure!(ready == 1, "the eventfd is not signalled");
    Ok(())
}

fn bind_irq(vm: &Vm, event: &EventFd, gsi: u32, flags: u32, resample: u32) -> Result<(), Errno> {
    let argument = abi::kvm_irqfd {
        fd: event.as_raw_fd() as u32,
        gsi,
        flags,
        resamplefd: resample,
        ..Default::default()
    };
    request::give(vm.file(), request::IRQFD, &argument).map(|_| ())
}

/// A guest that halts and reports how many interrupts it took.
fn halting() -> Result<(Vm, Vcpu)> {
    let (vm, vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov dword ptr [rbx + 0x350], 0x10000",
        "mov ebp, 0xfec00000", "mov dword ptr [rbp], 0x25", "mov dword ptr [rbp + 0x10], 0",
        "mov dword ptr [rbp], 0x24", "mov dword ptr [rbp + 0x10], 0x8061",
        "2:", "mov eax, r15d", "out 0xe8, eax", "sti", "hlt", "cli", "jmp 2b"
    ))?;
    let handler = guest!(64; "inc r15d", "mov dword ptr [rbx + 0xb0], 0", "iretq");
    for vector in [0x51, 0x52, 0x61] {
        vcpu.handle(vector, handler)?;
    }
    Ok((vm, vcpu))
}

/// An eventfd wakes a guest from HLT, by a message's route and by a pin; unbound it doesn't.
fn irqfd() -> Result<()> {
    let (vm, mut vcpu) = halting()?;
    vm.need(abi::KVM_CAP_IRQFD, "KVM_CAP_IRQFD")?;
    Routes::new(&[to_message(70, 0xfee0_0000, 0x51), to_message(71, 0xfee0_0000, 0x52)])
        .set(&vm)
        .context("KVM_SET_GSI_ROUTING")?;
    let (first, second) = (eventfd()?, eventfd()?);
    bind_irq(&vm, &first, 70, 0, 0).context("KVM_IRQFD")?;
    beside(&mut vcpu, |exits| {
        exits.expect_report(0)?;
        for round in 1..=50 {
            first.write(1)?;
            exits.expect_report(round)?;
        }
        check_eq!(count(&first)?, 0, "the kernel takes the count");
        // Signalled before it is bound.
        second.write(3)?;
        bind_irq(&vm, &second, 71, 0, 0).context("KVM_IRQFD")?;
        exits.expect_report(51)?;
        // Another route.
        Routes::new(&[to_message(70, 0xfee0_0000, 0x52)]).set(&vm).context("new routes")?;
        first.write(1)?;
        exits.expect_report(52)?;
        // No route.
        second.write(1)?;
        ensure!(exits.is_quiet(), "a line without a route interrupts");
        bind_irq(&vm, &first, 70, abi::KVM_IRQFD_FLAG_DEASSIGN, 0).context("unbinding")?;
        first.write(1)?;
        ensure!(exits.is_quiet(), "an eventfd that isn't bound any more interrupts");
        check_eq!(count(&first)?, 1);
        Ok(())
    })
}

/// A level interrupt by eventfd: its end is told, and if the source still wants it, it comes again.
fn resample() -> Result<()> {
    let (vm, mut vcpu) = halting()?;
    vm.need(abi::KVM_CAP_IRQFD_RESAMPLE, "KVM_CAP_IRQFD_RESAMPLE")?;
    let (trigger, ended) = (eventfd()?, eventfd()?);
    let flags = abi::KVM_IRQFD_FLAG_RESAMPLE;
    bind_irq(&vm, &trigger, 10, flags, ended.as_raw_fd() as u32).context("KVM_IRQFD")?;
    beside(&mut vcpu, |exits| {
        exits.expect_report(0)?;
        for round in 1..=20 {
            trigger.write(1)?;
            exits.expect_report(round)?;
            wait(&ended)?;
            check_eq!(count(&ended)?, 1, "round {round}");
        }
        ensure!(exits.is_quiet(), "the line stays high after its end");
        Ok(())
    })
}

/// What can't be bound.
fn irqfd_refused() -> Result<()> {
    let (vm, _vcpu) = halting()?;
    let event = eventfd()?;
    check_eq!(bind_irq(&vm, &event, 5, 1 << 8, 0), Err(Errno::EINVAL), "unknown flags");
    bind_irq(&vm, &event, 5, 0, 0).context("KVM_IRQFD")?;
    check_eq!(bind_irq(&vm, &event, 5, 0, 0), Err(Errno::EBUSY), "twice");
    let file = std::fs::File::open("/dev/null")?;
    let argument = abi::kvm_irqfd { fd: file.as_raw_fd() as u32, gsi: 6, ..Default::default() };
    let refused = request::give(vm.file(), request::IRQFD, &argument);
    check_eq!(refused, Err(Errno::EINVAL), "a file that is no eventfd");
    let argument = abi::kvm_irqfd { fd: 9999, gsi: 6, ..Default::default() };
    let refused = request::give(vm.file(), request::IRQFD, &argument);
    check_eq!(refused, Err(Errno::EBADF), "no file");
    Ok(())
}

fn bind_io(
    vm: &Vm,
    event: &EventFd,
    addr: u64,
    len: u32,
    flags: u32,
    datamatch: u64,
) -> Result<(), Errno> {
    let fd = event.as_raw_fd();
    let argument = abi::kvm_ioeventfd { datamatch, addr, len, fd, flags, ..Default::default() };
    request::give(vm.file(), request::IOEVENTFD, &argument).map(|_| ())
}

const PIO: u32 = 1 << abi::kvm_ioeventfd_flag_nr_pio;
const MATCH: u32 = 1 << abi::kvm_ioeventfd_flag_nr_datamatch;
const DEASSIGN: u32 = 1 << abi::kvm_ioeventfd_flag_nr_deassign;

/// Writes to a port signal an eventfd and don't come out: those of the right size and value.
fn ioeventfd_port() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD")?;
    let (any, seven, sized) = (eventfd()?, eventfd()?, eventfd()?);
    bind_io(&vm, &any, 0x100, 0, PIO, 0).context("any length")?;
    bind_io(&vm, &seven, 0x200, 2, PIO | MATCH, 7).context("a value")?;
    bind_io(&vm, &sized, 0x300, 4, PIO, 0).context("a length")?;
    let mut vcpu = vm.long(guest!(64;
        "mov eax, 7",
        "mov edx, 0x100", "out dx, al", "out dx, ax", "out dx, eax",
        "mov edx, 0x200", "out dx, ax", "out dx, al", "inc eax", "out dx, ax",
        "mov edx, 0x300", "out dx, eax", "out dx, ax",
        "in eax, dx", "hlt"
    ))?;
    vcpu.expect(&Exit::Out { port: 0x200, size: 1, data: vec![7] })?;
    check_eq!((count(&any)?, count(&seven)?), (3, 1));
    vcpu.expect(&Exit::Out { port: 0x200, size: 2, data: vec![8, 0] })?;
    vcpu.expect(&Exit::Out { port: 0x300, size: 2, data: vec![8, 0] })?;
    check_eq!((count(&any)?, count(&seven)?, count(&sized)?), (0, 0, 1));
    // Reads are not for it.
    vcpu.expect(&Exit::In { port: 0x300, size: 4, count: 1 })?;
    vcpu.answer(&[0; 4])?;
    vcpu.expect(&Exit::Hlt)
}

/// The same in memory, where an eventfd of any length needs no decoding.
fn ioeventfd_memory() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD")?;
    let hole = 0xd000_0000;
    let (any, exact, big) = (eventfd()?, eventfd()?, eventfd()?);
    bind_io(&vm, &any, hole, 0, 0, 0).context("any length")?;
    bind_io(&vm, &exact, hole + 0x1000, 4, MATCH, 0x1234_5678).context("a value")?;
    bind_io(&vm, &big, hole + 0x1008, 8, 0, 0).context("8 bytes")?;
    let code = guest!(64;
        "mov ebx, 0xd0000000", "mov rax, 0x1234567812345678",
        "mov [rbx], al", "mov [rbx], ax", "mov [rbx], eax", "mov [rbx], rax",
        "mov [rbx + 0x1000], eax", "mov [rbx + 0x1000], ax", "inc eax", "mov [rbx + 0x1000], eax",
        "mov [rbx + 0x1008], rax", "cmp dword ptr [{data}], 0", "jne 2f", "mov ecx, [rbx]", "2:",
        "hlt"; data = DATA
    );
    let mut vcpu = vm.long(code)?;
    // Intel's processors don't say which access it was, and nobody looks: what signals writes of any
    // length takes a read for one.
    let reads = Processor::current()? != Processor::Intel;
    vm.ram().write(DATA, u32::from(!reads))?;
    for round in 0..2 {
        let write = |data: &[u8]| Exit::MmioWrite { gpa: hole + 0x1000, data: data.to_vec() };
        vcpu.expect(&write(&[0x78, 0x56]))?;
        check_eq!((count(&any)?, count(&exact)?), (4, 1), "round {round}");
        vcpu.expect(&write(&[0x79, 0x56, 0x34, 0x12]))?;
        if reads {
            vcpu.expect(&Exit::MmioRead { gpa: hole, len: 4 })?;
            vcpu.answer(&[1, 2, 3, 4])?;
        }
        vcpu.expect(&Exit::Hlt)?;
        check_eq!((count(&any)?, count(&exact)?, count(&big)?), (0, 0, 1), "round {round}");
        if reads {
            check_eq!(vcpu.regs()?.rcx, 0x0403_0201);
        }
        vcpu.change_regs(|regs| regs.rip = CODE)?;
    }
    // Unbound, the writes come out.
    bind_io(&vm, &any, hole, 0, DEASSIGN, 0).context("unbinding")?;
    vcpu.expect(&Exit::MmioWrite { gpa: hole, data: vec![0x78] })
}

/// A guest that steps through itself traps behind each write that an eventfd takes, once, and
/// behind other instructions that the kernel is done with at once; the first time as well as when
/// the kernel knows the address.
fn ioeventfd_steps() -> Result<()> {
    const TF: u64 = 1 << 8;
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD")?;
    let hole = 0xd000_0000;
    let (port, exact, any) = (eventfd()?, eventfd()?, eventfd()?);
    bind_io(&vm, &port, 0x10, 1, PIO, 0).context("a port")?;
    bind_io(&vm, &exact, hole, 4, 0, 0).context("4 bytes")?;
    bind_io(&vm, &any, hole + 0x1000, 0, 0, 0).context("any length")?;
    let mut vcpu = vm.long(guest!(64;
        "2:", "out 0x10, al", "mov [rbx], eax", "mov [rbx + 0x1000], eax", "wbinvd", "jmp 2b"
    ))?;
    vcpu.change_regs(|regs| (regs.rflags, regs.rbx) = (2 | TF, hole))?;
    for round in 1..=3 {
        for behind in [2, 4, 10, 12, 0] {
            let trap = vcpu.expect_trap(1, 0)?;
            check_eq!(trap.rip, CODE + behind, "round {round}");
        }
        check_eq!((count(&port)?, count(&exact)?, count(&any)?), (1, 1, 1), "round {round}");
    }
    Ok(())
}

/// What can't be bound.
fn ioeventfd_refused() -> Result<()> {
    let vm = Vm::new()?;
    let event = eventfd()?;
    for (what, addr, len, flags, expected) in [
        ("3 bytes", 0x100, 3, PIO, Errno::EINVAL),
        ("16 bytes", 0x100, 16, 0, Errno::EINVAL),
        ("unknown flags", 0x100, 1, 1 << 20, Errno::EINVAL),
        ("a wrap", u64::MAX, 2, 0, Errno::EINVAL),
        ("a value without a length", 0x100, 0, PIO | MATCH, Errno::EINVAL),
        ("to unbind what isn't bound", 0x100, 1, PIO | DEASSIGN, Errno::ENOENT),
    ] {
        check_eq!(bind_io(&vm, &event, addr, len, flags, 0), Err(expected), "{what}");
    }
    bind_io(&vm, &event, 0x100, 1, PIO, 0)?;
    check_eq!(bind_io(&vm, &event, 0x100, 1, PIO, 0), Err(Errno::EEXIST), "the same twice");
    let other = eventfd()?;
    bind_io(&vm, &other, 0x100, 1, PIO | MATCH, 3).err().map_or(Ok(()), |error| {
        ensure!(error == Errno::EEXIST, "a value beside any: {error:?}");
        Ok(())
    })
}

/// The ring of collected writes, in the vCPU's pages.
struct Ring<'a> {
    vcpu: &'a Vcpu,
    start: u64,
}

impl Ring<'_> {
    /// Entries that wait, each with its address, data and kind; they are taken.
    fn take(&self) -> Vec<(u64, Vec<u8>, u32)> {
        let word = |at: u64| {
            let bytes = self.vcpu.page_bytes(self.start + at, 4);
            bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
        };
        let (mut first, last) = (word(0), word(4));
        let mut entries = Vec::new();
        while first != last {
            let at = 8 + 24 * u64::from(first);
            let address = u64::from(word(at)) | u64::from(word(at + 4)) << 32;
            let length = word(at + 8) as usize;
            let data = self.vcpu.page_bytes(self.start + at + 16, length);
            entries.push((address, data, word(at + 12)));
            first = (first + 1) % ((4096 - 8) / 24);
        }
        self.vcpu.set_page_bytes(self.start, &first.to_le_bytes());
        entries
    }
}

fn zone(vm: &Vm, request: u32, addr: u64, size: u32, pio: u32) -> Result<(), Errno> {
    let pio = abi::kvm_coalesced_mmio_zone__bindgen_ty_1 { pio };
    let zone = abi::kvm_coalesced_mmio_zone { addr, size, __bindgen_anon_1: pio };
    request::give(vm.file(), request, &zone).map(|_| ())
}

/// Writes to a zone don't come out but wait in the ring, in order, until it is full.
fn coalesced() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_COALESCED_MMIO, "KVM_CAP_COALESCED_MMIO")?;
    let page = u64::from(vm.capability(abi::KVM_CAP_COALESCED_MMIO)?);
    let hole = 0xd000_0000;
    zone(&vm, request::REGISTER_COALESCED_MMIO, hole, 0x100, 0).context("a zone")?;
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, 0xd0000000", "mov rax, 0x1122334455667788",
        "mov [rbx], al", "mov [rbx + 0x10], ax", "mov [rbx + 0x20], eax", "mov [rbx + 0xf8], rax",
        "mov [rbx + 0x100], al",
        "mov ecx, [rbx]",
        "xor eax, eax", "2:", "mov [rbx + 4], eax", "inc eax", "jmp 2b"
    ))?;
    vcpu.expect(&Exit::MmioWrite { gpa: hole + 0x100, data: vec![0x88] })?;
    let ring = |vcpu: &Vcpu| Ring { vcpu, start: page * 4096 }.take();
    let data = 0x1122_3344_5566_7788u64.to_le_bytes();
    check_eq!(
        ring(&vcpu),
        [
            (hole, data[..1].to_vec(), 0),
            (hole + 0x10, data[..2].to_vec(), 0),
            (hole + 0x20, data[..4].to_vec(), 0),
            (hole + 0xf8, data.to_vec(), 0),
        ]
    );
    vcpu.expect(&Exit::MmioRead { gpa: hole, len: 4 })?;
    vcpu.answer(&[0; 4])?;
    // The ring holds one less than its room; what doesn't fit comes out.
    let mut next = 0u32;
    for _ in 0..3 {
        let Exit::MmioWrite { gpa, data } = vcpu.run()? else { bail!("the ring has no end") };
        check_eq!(gpa, hole + 4);
        let entries = ring(&vcpu);
        check_eq!(entries.len(), (4096 - 8) / 24 - 1);
        for (address, data, _) in entries {
            check_eq!((address, data), (hole + 4, next.to_le_bytes().to_vec()));
            next += 1;
        }
        check_eq!(data, next.to_le_bytes());
        next += 1;
    }
    zone(&vm, request::UNREGISTER_COALESCED_MMIO, hole, 0x100, 0).context("no zone")?;
    // It may have collected more before it ended.
    let first = next;
    match vcpu.run()? {
        Exit::MmioWrite { data, .. } => check_eq!(data, first.to_le_bytes()),
        exit => bail!("{}", vcpu.describe(&exit)),
    }
    Ok(())
}

/// The same for ports.
fn coalesced_port() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_COALESCED_PIO, "KVM_CAP_COALESCED_PIO")?;
    let page = u64::from(vm.capability(abi::KVM_CAP_COALESCED_MMIO)?);
    zone(&vm, request::REGISTER_COALESCED_MMIO, 0x80, 4, 1).context("a zone")?;
    let mut vcpu = vm.long(guest!(64;
        "mov eax, 0x12345678", "out 0x80, al", "out 0x82, ax", "out 0x80, eax", "out 0x90, al", "hlt"
    ))?;
    vcpu.expect_out(0x90, &[0x78])?;
    let entries = Ring { vcpu: &vcpu, start: page * 4096 }.take();
    let data = [0x78, 0x56, 0x34, 0x12];
    check_eq!(
        entries,
        [(0x80, data[..1].to_vec(), 1), (0x82, data[..2].to_vec(), 1), (0x80, data.to_vec(), 1),]
    );
    vcpu.expect(&Exit::Hlt)
}

/// What the guest does is counted.
fn stats() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, 0xd0000000", "out 0x80, al", "out 0x80, al", "out 0x80, al",
        "mov [rbx], al", "cpuid", "hlt"
    ))?;
    let stats = Stats::open(vcpu.file())?;
    let names = ["exits", "io_exits", "mmio_exits", "halt_exits", "insn_emulation", "pf_taken"];
    for name in names {
        check_eq!(stats.value(name)?, 0, "{name} before");
    }
    for _ in 0..3 {
        vcpu.expect_out(0x80, &[0])?;
    }
    vcpu.expect(&Exit::MmioWrite { gpa: 0xd000_0000, data: vec![0] })?;
    vcpu.expect(&Exit::Hlt)?;
    for (name, count) in [("io_exits", 3), ("mmio_exits", 1), ("halt_exits", 1)] {
        check_eq!(stats.value(name)?, count, "{name}");
    }
    for (name, least) in [("exits", 6), ("insn_emulation", 1), ("pf_taken", 2)] {
        let value = stats.value(name)?;
        ensure!(value >= least && value < 1000, "{name} is {value}");
    }
    Ok(())
}
