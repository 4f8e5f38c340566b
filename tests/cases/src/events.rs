// SPDX-License-Identifier: GPL-2.0
//! Eventfds, interrupt routes, coalesced writes, statistics and devices: what is refused, what a file
//! shows, and that nothing stays behind.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use kvm_uapi::ioctl::{self, x86};
use kvm_uapi::irq::{self, Ioeventfd, Irqfd, RoutingEntry};
use kvm_uapi::memory::CoalescedMmioZone;
use kvm_uapi::vcpu::{CreateDevice, KVM_CREATE_DEVICE_TEST};
use nix::errno::Errno;

use crate::case::{Case, Skip};
use crate::device;
use crate::device::make;
use crate::memory;
use crate::vm::new_vm;
use micro::stats::Stats;

const ALL: &[&str] = &["amd", "intel", "z"];
const X86: &[&str] = &["amd", "intel"];

/// The cases, in the order in which they run.
pub(crate) const CASES: &[Case] = &[
    Case::loaded("events/ioeventfd", ALL, ioeventfd),
    Case::loaded("events/ioeventfd-many", ALL, ioeventfd_many),
    Case::loaded("events/irqfd-without-chip", X86, irqfd_without_chip),
    Case::loaded("events/irqfd", X86, irqfd),
    Case::loaded("events/irqfd-closed", X86, irqfd_closed),
    Case::loaded("events/routes", X86, routes),
    Case::loaded("events/coalesced", X86, coalesced),
    Case::loaded("events/devices", ALL, devices),
    Case::loaded("events/stats", ALL, stats),
    Case::loaded("events/stats-outlive", ALL, stats_outlive),
    Case::loaded("events/debugfs", ALL, debugfs),
    Case::loaded("events/uevent", ALL, uevent),
    Case::loaded("events/closing-order", ALL, closing_order),
];

/// A new eventfd.
fn eventfd() -> Result<File> {
    // SAFETY: makes a descriptor and touches nothing.
    let fd = Errno::result(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
    // SAFETY: the call just made this descriptor, and nobody else knows it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

fn signal(mut event: &File) -> Result<()> {
    event.write_all(&1u64.to_ne_bytes()).context("signalling")
}

const PIO: u32 = irq::KVM_IOEVENTFD_FLAG_PIO;
const MATCH: u32 = irq::KVM_IOEVENTFD_FLAG_DATAMATCH;
const CCW: u32 = irq::KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY;
const GONE: u32 = irq::KVM_IOEVENTFD_FLAG_DEASSIGN;

fn io(addr: u64, len: u32, fd: i32, flags: u32, datamatch: u64) -> Ioeventfd {
    Ioeventfd { datamatch, addr, len, fd, flags, pad: [0; 36] }
}

fn set_io(vm: &File, args: Ioeventfd) -> Result<i32, Errno> {
    device::ioctl_with(vm, ioctl::KVM_IOEVENTFD, &args)
}

/// Runs through answers that are known.
fn expect<T: Copy>(
    steps: &[(&str, T, Result<i32, Errno>)],
    set: impl Fn(T) -> Result<i32, Errno>,
) -> Result<()> {
    for (what, args, expected) in steps {
        let answer = set(*args);
        ensure!(answer == *expected, "{what}: {answer:?} instead of {expected:?}");
    }
    Ok(())
}

/// What can be bound to an eventfd, and what is in the way of what.
fn ioeventfd() -> Result<()> {
    let (_kvm, vm) = new_vm()?;
    let (one, two) = (eventfd()?, eventfd()?);
    let (a, b) = (one.as_raw_fd(), two.as_raw_fd());
    let plain = vm.as_raw_fd();
    let steps = [
        ("a write", io(0x1000, 4, a, 0, 0), Ok(0)),
        ("the same again", io(0x1000, 4, b, 0, 0), Err(Errno::EEXIST)),
        ("one value of it", io(0x1000, 4, b, MATCH, 1), Err(Errno::EEXIST)),
        ("any length there", io(0x1000, 0, b, 0, 0), Err(Errno::EEXIST)),
        ("another length there", io(0x1000, 2, b, 0, 0), Ok(0)),
        ("a port of that number", io(0x1000, 4, b, PIO, 0), Ok(0)),
        ("a subchannel of that number", io(0x1000, 4, b, CCW, 0), Ok(0)),
        ("a value", io(0x2000, 2, a, MATCH, 7), Ok(0)),
        ("another value", io(0x2000, 2, a, MATCH, 8), Ok(0)),
        ("a value again", io(0x2000, 2, b, MATCH, 8), Err(Errno::EEXIST)),
        ("all values", io(0x2000, 2, b, 0, 0), Err(Errno::EEXIST)),
        ("any length", io(0x3000, 0, a, 0, 0), Ok(0)),
        ("a length of it", io(0x3000, 1, b, 0, 0), Err(Errno::EEXIST)),
        ("any length of a port", io(0x3000, 0, a, PIO, 0), Ok(0)),
        ("a value of any length", io(0x4000, 0, a, MATCH, 1), Err(Errno::EINVAL)),
        ("three bytes", io(0x4000, 3, a, 0, 0), Err(Errno::EINVAL)),
        ("16 bytes", io(0x4000, 16, a, 0, 0), Err(Errno::EINVAL)),
        ("past the end", io(u64::MAX - 3, 8, a, 0, 0), Err(Errno::EINVAL)),
        ("an unknown flag", io(0x4000, 4, a, 1 << 5, 0), Err(Errno::EINVAL)),
        ("no descriptor", io(0x4000, 4, 1000, 0, 0), Err(Errno::EBADF)),
        ("a negative one", io(0x4000, 4, -1, 0, 0), Err(Errno::EBADF)),
        ("another kind of file", io(0x4000, 4, plain, 0, 0), Err(Errno::EINVAL)),
        ("taking away what isn't there", io(0x5000, 4, a, GONE, 0), Err(Errno::ENOENT)),
        ("another eventfd's", io(0x1000, 4, b, GONE, 0), Err(Errno::ENOENT)),
        ("another length", io(0x1000, 8, a, GONE, 0), Err(Errno::ENOENT)),
        ("one value of all", io(0x1000, 4, a, GONE | MATCH, 0), Err(Errno::ENOENT)),
        ("all of one value", io(0x2000, 2, a, GONE, 7), Err(Errno::ENOENT)),
        ("another value", io(0x2000, 2, a, GONE | MATCH, 9), Err(Errno::ENOENT)),
        ("a write", io(0x1000, 4, a, GONE, 0), Ok(0)),
        ("a write twice", io(0x1000, 4, a, GONE, 0), Err(Errno::ENOENT)),
        ("its port", io(0x1000, 4, b, GONE | PIO, 0), Ok(0)),
        ("its subchannel", io(0x1000, 4, b, GONE | CCW, 0), Ok(0)),
        ("a value", io(0x2000, 2, a, GONE | MATCH, 7), Ok(0)),
        ("any length", io(0x3000, 0, a, GONE, 0), Ok(0)),
        ("a length of it, now", io(0x3000, 1, b, 0, 0), Ok(0)),
    ];
    expect(&steps, |args| set_io(&vm, args))?;
    let nowhere = device::ioctl(&vm, ioctl::KVM_IOEVENTFD, 0);
    ensure!(nowhere == Err(Errno::EFAULT), "no structure: {nowhere:?}");
    // A closed one can't be named any more, and goes with the VM.
    drop(one);
    let another = eventfd()?;
    let unknown = set_io(&vm, io(0x2000, 2, another.as_raw_fd(), GONE | MATCH, 8));
    ensure!(unknown == Err(Errno::ENOENT), "by another descriptor: {unknown:?}");
    Ok(())
}

/// A lot of them, at the same address and at many.
fn ioeventfd_many() -> Result<()> {
    const COUNT: u64 = 1500;
    let (_kvm, vm) = new_vm()?;
    let event = eventfd()?;
    let fd = event.as_raw_fd();
    let values = |flags| move |value| io(0xc000, 2, fd, flags | PIO | MATCH, value);
    let places = |flags| move |index: u64| io(0xfe00_0000 + index * 7 % COUNT * 4, 4, fd, flags, 0);
    for index in 0..COUNT {
        set_io(&vm, values(0)(index)).with_context(|| format!("value {index}"))?;
        set_io(&vm, places(0)(index)).with_context(|| format!("place {index}"))?;
    }
    for index in (0..COUNT).rev() {
        set_io(&vm, places(GONE)(index)).with_context(|| format!("place {index} away"))?;
    }
    for index in 0..COUNT / 2 {
        set_io(&vm, values(GONE)(index)).with_context(|| format!("value {index} away"))?;
    }
    Ok(())
}

const AWAY: u32 = irq::KVM_IRQFD_FLAG_DEASSIGN;
const RESAMPLE: u32 = irq::KVM_IRQFD_FLAG_RESAMPLE;

fn interrupt(gsi: u32, fd: i32, flags: u32, resample: i32) -> Irqfd {
    Irqfd { fd: fd as u32, gsi, flags, resamplefd: resample as u32, pad: [0; 16] }
}

fn set_irq(vm: &File, args: Irqfd) -> Result<i32, Errno> {
    device::ioctl_with(vm, ioctl::KVM_IRQFD, &args)
}

/// Without an interrupt controller nothing can be bound, routed or raised.
fn irqfd_without_chip() -> Result<()> {
    let (_kvm, vm) = new_vm()?;
    let event = eventfd()?;
    let fd = event.as_raw_fd();
    let steps = [
        ("binding", interrupt(5, fd, 0, 0), Err(Errno::EINVAL)),
        ("with resampling", interrupt(5, fd, RESAMPLE, fd), Err(Errno::EINVAL)),
        ("no descriptor", interrupt(5, -1, 0, 0), Err(Errno::EINVAL)),
        ("an unknown flag", interrupt(5, fd, 4, 0), Err(Errno::EINVAL)),
        ("unbinding", interrupt(5, fd, AWAY, 0), Ok(0)),
        ("unbinding no descriptor", interrupt(5, -1, AWAY, 0), Err(Errno::EBADF)),
    ];
    expect(&steps, |args| set_irq(&vm, args))?;
    let routed = set_routes(&vm, &[]);
    ensure!(routed == Err(Errno::EINVAL), "routes: {routed:?}");
    Ok(())
}

/// A VM with an interrupt controller.
fn with_chip() -> Result<(File, File)> {
    let (kvm, vm) = new_vm()?;
    match device::ioctl(&vm, ioctl::KVM_CREATE_IRQCHIP, 0) {
        Ok(_) => Ok((kvm, vm)),
        Err(Errno::ENOTTY) => Err(Skip("there is no in-kernel interrupt controller".into()).into()),
        Err(error) => Err(error).context("KVM_CREATE_IRQCHIP"),
    }
}

/// What can be bound to an interrupt.
fn irqfd() -> Result<()> {
    let (_kvm, vm) = with_chip()?;
    let (_kvm2, other_vm) = with_chip()?;
    let (one, two, three) = (eventfd()?, eventfd()?, eventfd()?);
    let (a, b, c) = (one.as_raw_fd(), two.as_raw_fd(), three.as_raw_fd());
    let steps = [
        ("binding", interrupt(5, a, 0, 0), Ok(0)),
        ("the same again", interrupt(5, a, 0, 0), Err(Errno::EBUSY)),
        ("its eventfd to another", interrupt(6, a, 0, 0), Err(Errno::EBUSY)),
        ("another eventfd to the same", interrupt(5, b, 0, 0), Ok(0)),
        ("with resampling", interrupt(5, c, RESAMPLE, a), Ok(0)),
        ("unbinding another interrupt", interrupt(6, b, AWAY, 0), Ok(0)),
        ("it is still there", interrupt(5, b, 0, 0), Err(Errno::EBUSY)),
        ("unbinding", interrupt(5, b, AWAY, 0), Ok(0)),
        ("binding to one that isn't routed", interrupt(4000, b, 0, 0), Ok(0)),
        ("unbinding that", interrupt(4000, b, AWAY, 0), Ok(0)),
        ("binding to one that can't be", interrupt(u32::MAX, b, 0, 0), Ok(0)),
        ("unbinding resampling", interrupt(5, c, AWAY, 0), Ok(0)),
        ("no descriptor", interrupt(5, -1, 0, 0), Err(Errno::EBADF)),
        ("another kind of file", interrupt(5, vm.as_raw_fd(), 0, 0), Err(Errno::EINVAL)),
        ("resampling nowhere", interrupt(5, c, RESAMPLE, -1), Err(Errno::EBADF)),
        ("resampling another kind", interrupt(5, c, RESAMPLE, 0), Err(Errno::EINVAL)),
        ("afterwards", interrupt(5, c, RESAMPLE, c), Ok(0)),
    ];
    expect(&steps, |args| set_irq(&vm, args))?;
    let elsewhere = set_irq(&other_vm, interrupt(5, a, 0, 0));
    ensure!(elsewhere == Err(Errno::EBUSY), "in another VM: {elsewhere:?}");
    // Its signals are taken.
    signal(&one)?;
    let left = (&one).read(&mut [0; 8]);
    ensure!(left.is_err(), "a signal was left");
    drop(vm);
    let freed = set_irq(&other_vm, interrupt(5, a, 0, 0));
    ensure!(freed == Ok(0), "once the first VM is gone: {freed:?}");
    Ok(())
}

/// Eventfds that are closed while they are bound, in a loop and with their VM.
fn irqfd_closed() -> Result<()> {
    let (_kvm, vm) = with_chip()?;
    for round in 0..200 {
        let (event, resample) = (eventfd()?, eventfd()?);
        let flags = if round % 2 == 0 { RESAMPLE } else { 0 };
        let args = interrupt(round % 24, event.as_raw_fd(), flags, resample.as_raw_fd());
        set_irq(&vm, args).with_context(|| format!("round {round}"))?;
        if round % 3 == 0 {
            signal(&event)?;
        }
    }
    let kept: Vec<File> = (0..50).map(|_| eventfd()).collect::<Result<_>>()?;
    for (gsi, event) in kept.iter().enumerate() {
        set_irq(&vm, interrupt(gsi as u32, event.as_raw_fd(), 0, 0))?;
    }
    drop(vm);
    drop(kept);
    Ok(())
}

fn message(gsi: u32) -> RoutingEntry {
    let words = [0xfee0_0000u64, 0x31, 0, 0];
    RoutingEntry { gsi, type_: irq::KVM_IRQ_ROUTING_MSI, flags: 0, pad: 0, u: words }
}

fn pin(gsi: u32, chip: u32, pin: u32) -> RoutingEntry {
    let words = [u64::from(chip) | u64::from(pin) << 32, 0, 0, 0];
    RoutingEntry { gsi, type_: irq::KVM_IRQ_ROUTING_IRQCHIP, flags: 0, pad: 0, u: words }
}

/// Sets routes by a list in memory.
fn set_routes(vm: &File, entries: &[RoutingEntry]) -> Result<i32, Errno> {
    set_routes_with(vm, entries, entries.len() as u32, 0)
}

fn set_routes_with(
    vm: &File,
    entries: &[RoutingEntry],
    count: u32,
    flags: u32,
) -> Result<i32, Errno> {
    let mut list = vec![u64::from(count) | u64::from(flags) << 32];
    for entry in entries {
        list.push(u64::from(entry.gsi) | u64::from(entry.type_) << 32);
        list.push(u64::from(entry.flags));
        list.extend(entry.u);
    }
    device::ioctl(vm, ioctl::KVM_SET_GSI_ROUTING, list.as_ptr() as u64)
}

/// Which routes there can be.
fn routes() -> Result<()> {
    let (_kvm, vm) = with_chip()?;
    let no_such_type = RoutingEntry { type_: 77, ..message(1) };
    let with_flags = RoutingEntry { flags: 2, ..message(1) };
    let pin_with_flags = RoutingEntry { flags: 1, ..pin(1, 2, 1) };
    let many: Vec<_> = (0..4096).map(message).collect();
    let cases: &[(&str, &[RoutingEntry], Result<i32, Errno>)] = &[
        ("none", &[], Ok(0)),
        ("as many as there can be", &many, Ok(0)),
        ("a GSI too high", &[message(4096)], Err(Errno::EINVAL)),
        ("no such type", &[no_such_type], Err(Errno::EINVAL)),
        ("flags of a message", &[with_flags], Err(Errno::EINVAL)),
        ("flags of a pin", &[pin_with_flags], Err(Errno::EINVAL)),
        ("two messages", &[message(9), message(9)], Err(Errno::EINVAL)),
        ("a pin and a message", &[pin(9, 2, 9), message(9)], Err(Errno::EINVAL)),
        ("two pins of a chip", &[pin(9, 2, 9), pin(9, 2, 10)], Err(Errno::EINVAL)),
        ("no such chip", &[pin(9, 3, 9)], Err(Errno::EINVAL)),
        ("no such pin", &[pin(9, 2, 24)], Err(Errno::EINVAL)),
        ("no such pin of the 8259", &[pin(9, 1, 8)], Err(Errno::EINVAL)),
        ("pins of three chips", &[pin(9, 0, 1), pin(9, 1, 1), pin(9, 2, 9), pin(8, 2, 8)], Ok(0)),
    ];
    for (what, entries, expected) in cases {
        let answer = set_routes(&vm, entries);
        ensure!(answer == *expected, "{what}: {answer:?} instead of {expected:?}");
    }
    let too_many = set_routes_with(&vm, &many, 4097, 0);
    ensure!(too_many == Err(Errno::EINVAL), "too many: {too_many:?}");
    let flags = set_routes_with(&vm, &[], 0, 1);
    ensure!(flags == Err(Errno::EINVAL), "flags: {flags:?}");
    let nowhere = device::ioctl(&vm, ioctl::KVM_SET_GSI_ROUTING, 0);
    ensure!(nowhere == Err(Errno::EFAULT), "no list: {nowhere:?}");
    Ok(())
}

/// Coalesced zones come and go, whatever they overlap with.
fn coalesced() -> Result<()> {
    let (_kvm, vm) = new_vm()?;
    let zone = |addr, size, pio| CoalescedMmioZone { addr, size, __bindgen_anon_1: pio };
    let add = |zone| device::ioctl_with(&vm, x86::KVM_REGISTER_COALESCED_MMIO, &zone);
    let remove = |zone| device::ioctl_with(&vm, x86::KVM_UNREGISTER_COALESCED_MMIO, &zone);
    let zones = [
        ("a zone", zone(0xb_8000, 0x8000, 0), Ok(0)),
        ("the same again", zone(0xb_8000, 0x8000, 0), Ok(0)),
        ("ports", zone(0xcf8, 4, 1), Ok(0)),
        ("neither", zone(0xcf8, 4, 2), Err(Errno::EINVAL)),
        ("nothing at all", zone(0x10, 0, 0), Ok(0)),
        ("past the end", zone(u64::MAX, 0x1000, 0), Ok(0)),
    ];
    expect(&zones, add)?;
    expect(&zones, remove)?;
    expect(&zones, remove)?;
    for index in 0..1000 {
        add(zone(index * 0x1000, 0x1000, 1)).with_context(|| format!("zone {index}"))?;
    }
    let full = add(zone(0, 4, 1));
    ensure!(full == Err(Errno::ENOSPC), "zone 1000: {full:?}");
    remove(zone(0x5000, 0x10, 1)).context("one of them")?;
    add(zone(0, 4, 1)).context("another one")?;
    Ok(())
}

/// There are no devices of an unknown kind.
fn devices() -> Result<()> {
    let (_kvm, vm) = new_vm()?;
    for flags in [0, KVM_CREATE_DEVICE_TEST] {
        let args = CreateDevice { type_: 0x1234, fd: 77, flags };
        let answer = device::ioctl_with(&vm, ioctl::KVM_CREATE_DEVICE, &args);
        ensure!(answer == Err(Errno::ENODEV), "flags {flags}: {answer:?}");
    }
    let nowhere = device::ioctl(&vm, ioctl::KVM_CREATE_DEVICE, 0);
    ensure!(nowhere == Err(Errno::EFAULT), "no structure: {nowhere:?}");
    Ok(())
}

/// Layout, names and kinds of the statistics of a VM and a vCPU, read in whole and in parts.
fn stats() -> Result<()> {
    let (_kvm, vm) = new_vm()?;
    let vcpu = make(&vm, ioctl::KVM_CREATE_VCPU, 3).context("KVM_CREATE_VCPU")?;
    let of_vm = Stats::open(&vm).context("of the VM")?;
    let of_vcpu = Stats::open(&vcpu).context("of the vCPU")?;
    let pid = std::process::id();
    ensure!(of_vm.id == format!("kvm-{pid}"), "{}", of_vm.id);
    ensure!(of_vcpu.id == format!("kvm-{pid}/vcpu-3"), "{}", of_vcpu.id);
    for name in ["remote_tlb_flush", "remote_tlb_flush_requests"] {
        of_vm.has(name, 0, 0, 1)?;
    }
    of_vcpu.has("halt_wakeup", 0, 0, 1)?;
    of_vcpu.has("halt_wait_ns", 0x20, -9, 1)?;
    of_vcpu.has("halt_wait_hist", 0x24, -9, 32)?;
    of_vcpu.has("blocking", 0x41, 0, 1)?;
    if cfg!(target_arch = "x86_64") {
        ensure!(of_vm.all.len() == 16 && of_vcpu.all.len() == 45, "not as many as there are");
        of_vm.has("pages_4k", 1, 0, 1)?;
        of_vm.has("max_mmu_rmap_size", 2, 0, 1)?;
        of_vcpu.has("exits", 0, 0, 1)?;
        of_vcpu.has("guest_mode", 0x41, 0, 1)?;
    }
    for stats in [&of_vm, &of_vcpu] {
        // Values neither overlap nor leave room.
        let mut places: Vec<_> =
            stats.all.iter().map(|one| (one.4, u64::from(one.3) * 8)).collect();
        places.sort_unstable();
        for pair in places.windows(2) {
            ensure!(pair[0].0 + pair[0].1 <= pair[1].0, "values overlap at {}", pair[1].0);
        }
        let mut whole = vec![0; stats.length as usize + 100];
        let count = stats.file.read_at(&mut whole, 0)?;
        ensure!(count as u64 == stats.length, "{count} bytes instead of {}", stats.length);
        // Across the borders of its parts, a few bytes at a time.
        let mut pieces: Vec<u8> = Vec::new();
        while pieces.len() < count {
            let mut piece = [0; 37];
            let some = stats.file.read_at(&mut piece, pieces.len() as u64)?;
            ensure!(some > 0, "it ends at {}", pieces.len());
            pieces.extend(&piece[..some]);
        }
        ensure!(pieces == whole[..count], "pieces differ from the whole");
        for at in [stats.length, stats.length + 1000, 1 << 40] {
            ensure!(stats.file.read_at(&mut whole, at)? == 0, "something at {at}");
        }
        ensure!(stats.file.write_at(&[0; 8], 0).is_err(), "it can be written to");
        let request = device::ioctl(&stats.file, ioctl::KVM_GET_STATS_FD, 0);
        ensure!(request == Err(Errno::ENOTTY), "a request on it: {request:?}");
    }
    Ok(())
}

/// Statistics can be read after everything else is closed.
fn stats_outlive() -> Result<()> {
    let (kvm, vm) = new_vm()?;
    let vcpu = make(&vm, ioctl::KVM_CREATE_VCPU, 0)?;
    let (of_vm, of_vcpu) = (Stats::open(&vm)?, Stats::open(&vcpu)?);
    drop((kvm, vm, vcpu));
    for stats in [of_vm, of_vcpu] {
        let mut whole = vec![0; stats.length as usize];
        stats.file.read_exact_at(&mut whole, 0)?;
    }
    Ok(())
}

/// Where the counters are in debugfs.
const DEBUGFS: &str = "/sys/kernel/debug/kvm";

/// The counters in debugfs: of all VMs and of each one, gone with it.
fn debugfs() -> Result<()> {
    if !Path::new(DEBUGFS).exists() {
        return Err(Skip("debugfs isn't mounted".into()).into());
    }
    let (_kvm, vm) = new_vm()?;
    let vcpu = make(&vm, ioctl::KVM_CREATE_VCPU, 0)?;
    let own = format!("{DEBUGFS}/{}-{}", std::process::id(), vm.as_raw_fd());
    for dir in [DEBUGFS, &own] {
        for name in ["remote_tlb_flush", "halt_wakeup", "blocking"] {
            let path = format!("{dir}/{name}");
            let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            let value: u64 =
                text.trim_end().parse().with_context(|| format!("{path}: {text:?}"))?;
            ensure!(value == 0 && text.ends_with('\n'), "{path} is {text:?}");
            let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
            let expected = if name == "blocking" { 0o444 } else { 0o644 };
            ensure!(mode == expected, "{path} has mode {mode:o}");
        }
        let counter = format!("{dir}/halt_wakeup");
        fs::write(&counter, "0").with_context(|| format!("resetting {counter}"))?;
        let error = fs::write(&counter, "1").err().and_then(|error| error.raw_os_error());
        ensure!(error == Some(libc::EINVAL), "setting {counter}: {error:?}");
    }
    let open = File::open(format!("{own}/halt_wakeup"))?;
    drop((vm, vcpu));
    // Either the open file holds the VM, as with the kernel's own modules, or it goes with it.
    let mut late = [0; 8];
    match (&open).read(&mut late) {
        Ok(count) => ensure!(late[..count] == *b"0\n", "{:?}", &late[..count]),
        Err(error) => ensure!(error.raw_os_error() == Some(libc::EIO), "reading late: {error}"),
    }
    drop(open);
    ensure!(!Path::new(&own).exists(), "{own} outlives its VM");
    Ok(())
}

/// What udev hears: messages that begin like this.
fn hear(socket: &OwnedFd, start: &str) -> Result<Vec<String>> {
    let mut message = [0u8; 8192];
    loop {
        // SAFETY: the buffer is as long as it says.
        let count = unsafe {
            libc::recv(socket.as_raw_fd(), message.as_mut_ptr().cast(), message.len(), 0)
        };
        let count = usize::try_from(count).map_err(|_| Errno::last()).context("no message")?;
        let words = message[..count].split(|byte| *byte == 0);
        let words: Vec<_> = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        if words.first().is_some_and(|first| first == start) {
            return Ok(words);
        }
    }
}

/// A VM's begin and end are announced.
fn uevent() -> Result<()> {
    // SAFETY: makes a descriptor and touches nothing.
    let socket = Errno::result(unsafe {
        libc::socket(libc::AF_NETLINK, libc::SOCK_DGRAM, libc::NETLINK_KOBJECT_UEVENT)
    });
    let Ok(socket) = socket else {
        return Err(Skip("the machine has no uevents".into()).into());
    };
    // SAFETY: the call just made this descriptor, and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: zeroes are valid for a structure of numbers.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as u16;
    address.nl_groups = 1;
    let limit = libc::timeval { tv_sec: 5, tv_usec: 0 };
    // SAFETY: both structures are as long as the calls are told.
    Errno::result(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const limit).cast(),
            size_of_val(&limit) as u32,
        );
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as u32)
    })
    .context("listening to uevents")?;
    let (_kvm, vm) = new_vm()?;
    let fd = vm.as_raw_fd();
    let begin = hear(&socket, "change@/devices/virtual/misc/kvm").context("the begin")?;
    drop(vm);
    let end = hear(&socket, "change@/devices/virtual/misc/kvm").context("the end")?;
    let pid = std::process::id();
    for (words, event, count) in [(&begin, "create", 1), (&end, "destroy", 0)] {
        for expected in [
            format!("EVENT={event}"),
            format!("COUNT={count}"),
            format!("PID={pid}"),
            format!("STATS_PATH=/kvm/{pid}-{fd}"),
        ] {
            ensure!(words.contains(&expected), "no {expected} in {words:?}");
        }
        ensure!(words.iter().any(|word| word.starts_with("CREATED=")), "{words:?}");
    }
    Ok(())
}

/// Everything that hangs on a VM, closed in any order, leaves nothing behind.
fn closing_order() -> Result<()> {
    let round = |order: usize| -> Result<()> {
        let (kvm, vm) = new_vm()?;
        let chip = device::ioctl(&vm, ioctl::KVM_CREATE_IRQCHIP, 0).is_ok();
        let vcpu = make(&vm, ioctl::KVM_CREATE_VCPU, 0)?;
        let (out, into, resample) = (eventfd()?, eventfd()?, eventfd()?);
        for address in 0..20 {
            set_io(&vm, io(address * 0x1000, 4, out.as_raw_fd(), 0, 0))?;
        }
        if chip && cfg!(target_arch = "x86_64") {
            let args = interrupt(4, into.as_raw_fd(), RESAMPLE, resample.as_raw_fd());
            set_irq(&vm, args).context("KVM_IRQFD")?;
        }
        let stats = make(&vcpu, ioctl::KVM_GET_STATS_FD, 0)?;
        let vm_stats = make(&vm, ioctl::KVM_GET_STATS_FD, 0)?;
        let mut files = vec![kvm, vm, vcpu, out, into, resample, stats, vm_stats];
        if order % 2 == 1 {
            files.reverse();
        }
        files.rotate_left(order / 2 % 8);
        for file in files {
            drop(file);
        }
        Ok(())
    };
    memory::leaves_nothing(160, || (0..64).try_for_each(round))
}
