// SPDX-License-Identifier: GPL-2.0
//! The floating-interrupt controller, adapters, routes to them, and channel instructions.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use kvm_uapi::ioctl::s390 as z;
use kvm_uapi::irq::{Irqfd, KVM_IRQ_ROUTING_S390_ADAPTER, RoutingAdapter, RoutingEntry};
use kvm_uapi::s390::{AisAll, Interrupt, IoAdapter, IoAdapterRequest, Irq};
use kvm_uapi::vcpu::{CreateDevice, DeviceAttr, EnableCap};
use kvm_uapi::{cap, ioctl};
use nix::errno::Errno;
use nix::sys::eventfd::EventFd;
use nix::sys::mman::MmapAdvise;

use super::super::vcpu::Vcpu;
use super::*;
use crate::device::{exchange, ioctl as call, ioctl_with as give};
use crate::ram::Ram;

pub(super) const CASES: &[Case] = &[
    case("micro-flic-queue", queue),
    case("micro-flic-clear-io", clear_io),
    case("micro-flic-adapter", adapter),
    case("micro-flic-suppression", suppression),
    case("micro-flic-route", route),
    case("micro-flic-route-absent", route_absent),
    case("micro-flic-route-refused", route_refused),
    case("micro-channel-test-subchannel", test_subchannel),
    case("micro-channel-test-pending", test_pending),
    case("micro-channel-none", no_channels),
];

/// Groups of attributes.
mod group {
    pub(super) const GET_ALL: u32 = 1;
    pub(super) const ENQUEUE: u32 = 2;
    pub(super) const CLEAR: u32 = 3;
    pub(super) const REGISTER: u32 = 6;
    pub(super) const MODIFY: u32 = 7;
    pub(super) const CLEAR_IO: u32 = 8;
    pub(super) const MODE: u32 = 9;
    pub(super) const INJECT: u32 = 10;
    pub(super) const MODES: u32 = 11;
}

/// Types of interruptions.
const SERVICE: u64 = 0xffff_2401;
const VIRTIO: u64 = 0xffff_2603;
const MACHINE_CHECK: u64 = 0xfffe_1000;
const ADAPTER: u64 = 0x0400_0000;

/// Bytes of an interruption in a list.
const EACH: usize = size_of::<Irq>();

/// The controller.
pub(super) struct Flic(File);

impl Flic {
    pub(super) fn new(vm: &Vm) -> Result<Self, Errno> {
        let mut device = CreateDevice { type_: 6, fd: 0, flags: 0 };
        exchange(vm.file(), ioctl::KVM_CREATE_DEVICE, &mut device)?;
        // SAFETY: the ioctl just made this descriptor, and nobody else knows it.
        let file = unsafe {
            std::os::fd::FromRawFd::from_raw_fd(i32::try_from(device.fd).map_err(|_| Errno::EBADF)?)
        };
        Ok(Self(file))
    }

    /// An ioctl about an attribute.
    pub(super) fn call(
        &self,
        request: u32,
        group: u32,
        attr: u64,
        addr: u64,
    ) -> Result<i32, Errno> {
        give(&self.0, request, &DeviceAttr { flags: 0, group, attr, addr })
    }

    /// Sets an attribute that is a number and a structure.
    fn set<T>(&self, group: u32, attr: u64, value: &T) -> Result<i32, Errno> {
        self.call(ioctl::KVM_SET_DEVICE_ATTR, group, attr, std::ptr::from_ref(value) as u64)
    }

    /// All that waits, with room for so many.
    fn all(&self, room: usize) -> Result<Vec<Irq>, Errno> {
        let mut list = vec![Irq { type_: 0, u: [0; 8] }; room];
        let at = list.as_mut_ptr() as u64;
        let bytes = (room * EACH) as u64;
        let count = self.call(ioctl::KVM_GET_DEVICE_ATTR, group::GET_ALL, bytes, at)?;
        list.truncate(usize::try_from(count).unwrap_or(0));
        Ok(list)
    }

    fn enqueue(&self, list: &[Irq]) -> Result<i32, Errno> {
        let at = list.as_ptr() as u64;
        let bytes = size_of_val(list) as u64;
        self.call(ioctl::KVM_SET_DEVICE_ATTR, group::ENQUEUE, bytes, at)
    }

    /// Registers an adapter of subclass 3 whose bits count from the left.
    fn register(&self, id: u32) -> Result<i32, Errno> {
        self.set(group::REGISTER, 0, &IoAdapter { id, isc: 3, maskable: 1, swap: 1, flags: 1 })
    }

    fn mask(&self, id: u32, on: bool) -> Result<i32, Errno> {
        let request = IoAdapterRequest { id, type_: 1, mask: on.into(), pad0: 0, addr: 0 };
        self.set(group::MODIFY, 0, &request)
    }
}

/// An interruption of a list.
fn irq(type_: u64, first: u64, second: u64) -> Irq {
    Irq { type_, u: [first, second, 0, 0, 0, 0, 0, 0] }
}

/// An I/O interruption of subclass 5 of a subchannel.
fn io(subchannel: u16) -> Irq {
    irq(subchannel.into(), 0x0001_0000_3333_4444 | u64::from(subchannel) << 32, 0x2800_0000 << 32)
}

/// What userspace puts in it finds there, in the order in which I/O comes first.
fn queue() -> Result<()> {
    let vm = Vm::new()?;
    let flic = Flic::new(&vm)?;
    check_eq!(Flic::new(&vm).err(), Some(Errno::EINVAL), "a second one");
    check_eq!(flic.call(ioctl::KVM_HAS_DEVICE_ATTR, group::GET_ALL, 0, 0), Ok(0));
    check_eq!(flic.call(ioctl::KVM_HAS_DEVICE_ATTR, 99, 0, 0), Err(Errno::ENXIO));
    check_eq!(flic.call(ioctl::KVM_SET_DEVICE_ATTR, 99, 0, 0), Err(Errno::EINVAL));
    check_eq!(flic.all(1)?, [], "a new VM");
    check_eq!(flic.all(0), Err(Errno::EINVAL));
    let list = [
        io(5),
        io(6),
        irq(VIRTIO, 0x77 << 32, 0x1234),
        irq(SERVICE, 0x1_2340 << 32, 0),
        irq(MACHINE_CHECK, 0x1000_0000, 0x0040_0000_0000_0000),
    ];
    flic.enqueue(&list)?;
    check_eq!(flic.all(8)?, list);
    check_eq!(flic.all(4), Err(Errno::ENOMEM), "a short buffer");
    check_eq!(flic.enqueue(&[irq(0xffff_1201, 0, 0)]), Err(Errno::EINVAL), "one of a CPU");
    let adapters = irq(ADAPTER, 0, 0xb000_0000 << 32);
    flic.enqueue(&[adapters])?;
    check_eq!(flic.all(8)?.contains(&adapters), true, "an adapter's");
    flic.call(ioctl::KVM_SET_DEVICE_ATTR, group::CLEAR, 0, 0)?;
    check_eq!(flic.all(1)?, []);
    drop(flic);
    Flic::new(&vm)?;
    Ok(())
}

/// The interruption of a subchannel goes; others stay.
fn clear_io() -> Result<()> {
    let vm = Vm::new()?;
    let flic = Flic::new(&vm)?;
    flic.enqueue(&[io(5), io(6)])?;
    let size = size_of::<u32>() as u64;
    flic.set(group::CLEAR_IO, size, &0x0001_0005_u32)?;
    check_eq!(flic.all(8)?, [io(6)]);
    check_eq!(flic.set(group::CLEAR_IO, size, &0_u32), Err(Errno::EINVAL), "no subchannel");
    check_eq!(flic.set(group::CLEAR_IO, 8, &1_u32), Err(Errno::EINVAL), "another size");
    Ok(())
}

/// Reports what an I/O interruption stored: subsystem, parameter and word.
fn report_io(vm: &Vm) -> Result<()> {
    const HANDLER: u64 = CODE + 0x800;
    vm.write_psw(0x1f0, MASK, HANDLER)?;
    let load = |code: Code, register: u8, address| code.rxy(0xe316, register << 4, 0, address);
    let handler = load(load(load(Code::new(), 1, 0xb8), 2, 0xbc), 3, 0xc0);
    vm.ram().write_bytes(HANDLER, handler.report(1).report(2).report(3).bytes())
}

/// A vCPU that waits for I/O of all subclasses.
fn waiting(vm: &Vm) -> Result<Vcpu> {
    report_io(vm)?;
    vm.write_psw(DATA, MASK | vm::WAIT | 1 << 57, 0x1234)?;
    let vcpu = vm.start(&Code::new().load(3, DATA as i32).s(0xb2b2, 3, 0))?;
    vcpu.set_control(6, 0xff00_0000);
    Ok(vcpu)
}

/// The vCPU takes an interruption of an adapter of subclass 3.
fn expect_adapter(vcpu: &Vcpu) -> Result<()> {
    check_eq!([vcpu.report()?, vcpu.report()?], [0, 0], "subsystem and parameter");
    check_eq!(vcpu.report()?, 0x9800_0000, "word");
    Ok(())
}

/// An adapter interrupts; it has to be registered, once.
fn adapter() -> Result<()> {
    let vm = Vm::new()?;
    let flic = Flic::new(&vm)?;
    let inject = || flic.call(ioctl::KVM_SET_DEVICE_ATTR, group::INJECT, 7, 0);
    check_eq!(inject(), Err(Errno::EINVAL), "before it is registered");
    check_eq!(flic.mask(7, true), Err(Errno::EINVAL), "likewise");
    flic.register(7)?;
    check_eq!(flic.register(7), Err(Errno::EINVAL), "twice");
    check_eq!(flic.register(64), Err(Errno::EINVAL), "there are 64");
    // Twice is once: they have no queue.
    inject()?;
    inject()?;
    check_eq!(flic.all(8)?, [irq(ADAPTER, 0, 0x9800_0000 << 32)]);
    expect_adapter(&waiting(&vm)?)?;
    check_eq!(flic.all(8)?, []);
    Ok(())
}

/// In single mode one interruption comes, until userspace asks for the next.
fn suppression() -> Result<()> {
    let vm = Vm::new()?;
    let flic = Flic::new(&vm)?;
    flic.register(0)?;
    // Subclass 3, single.
    let single: [u8; 4] = [3, 0, 0, 1];
    check_eq!(flic.set(group::MODE, 0, &single), Err(Errno::EOPNOTSUPP));
    vm.enable(cap::KVM_CAP_S390_AIS, [0; 4])?;
    flic.set(group::MODE, 0, &single)?;
    let inject = || flic.call(ioctl::KVM_SET_DEVICE_ATTR, group::INJECT, 0, 0);
    let clear = || flic.call(ioctl::KVM_SET_DEVICE_ATTR, group::CLEAR, 0, 0);
    inject()?;
    check_eq!(flic.all(8)?.len(), 1);
    clear()?;
    inject()?;
    check_eq!(flic.all(8)?, [], "suppressed");
    let mut modes = AisAll { simm: 0, nimm: 0 };
    let at = std::ptr::from_mut(&mut modes) as u64;
    flic.call(ioctl::KVM_GET_DEVICE_ATTR, group::MODES, 2, at)?;
    check_eq!(modes, AisAll { simm: 0x10, nimm: 0x10 });
    flic.set(group::MODE, 0, &single)?;
    inject()?;
    check_eq!(flic.all(8)?.len(), 1, "asked for again");
    clear()?;
    flic.set(group::MODES, 2, &AisAll { simm: 0, nimm: 0 })?;
    inject()?;
    check_eq!(flic.all(8)?.len(), 1, "no suppression");
    let vcpu = vm.vcpu(0)?;
    check_eq!(vm.enable(cap::KVM_CAP_S390_AIS, [0; 4]), Err(Errno::EBUSY), "with a CPU");
    drop(vcpu);
    Ok(())
}

/// Where indicators are in the cases.
const INDICATORS: u64 = 0x10_0000;
/// The byte that sums up.
const SUMMARY: u64 = 0x10_1000;

/// A route of GSI 9 to adapter 0: bit 10 of the indicators, bit 3 of the summary.
fn entry(indicators: u64, summary: u64, offset: u64) -> RoutingEntry {
    let adapter = RoutingAdapter {
        ind_addr: indicators,
        summary_addr: summary,
        ind_offset: offset,
        summary_offset: 3,
        adapter_id: 0,
    };
    let RoutingAdapter { ind_addr, summary_addr, ind_offset, summary_offset, adapter_id } = adapter;
    let last = u64::from(summary_offset) << 32 | u64::from(adapter_id);
    let u = [ind_addr, summary_addr, ind_offset, last];
    RoutingEntry { gsi: 9, type_: KVM_IRQ_ROUTING_S390_ADAPTER, flags: 0, pad: 0, u }
}

/// Sets one route.
fn set_route(vm: &Vm, entry: RoutingEntry) -> Result<i32, Errno> {
    #[repr(C)]
    struct Routing {
        count: u32,
        flags: u32,
        entry: RoutingEntry,
    }
    give(vm.file(), ioctl::KVM_SET_GSI_ROUTING, &Routing { count: 1, flags: 0, entry })
}

/// An eventfd for GSI 9.
fn event(vm: &Vm) -> Result<EventFd> {
    let event = EventFd::new()?;
    let fd = u32::try_from(event.as_fd().as_raw_fd())?;
    let request = Irqfd { fd, gsi: 9, flags: 0, resamplefd: 0, pad: [0; 16] };
    give(vm.file(), ioctl::KVM_IRQFD, &request)?;
    Ok(event)
}

/// A VM with interrupt routes.
fn with_routes() -> Result<Vm> {
    let vm = Vm::new()?;
    vm.need(cap::KVM_CAP_S390_IRQCHIP, "KVM_CAP_S390_IRQCHIP")?;
    check_eq!(call(vm.file(), ioctl::KVM_CREATE_IRQCHIP, 0), Err(Errno::EINVAL), "not enabled");
    vm.enable(cap::KVM_CAP_S390_IRQCHIP, [0; 4])?;
    check_eq!(call(vm.file(), ioctl::KVM_CREATE_IRQCHIP, 0), Ok(0));
    Ok(vm)
}

/// An eventfd sets both bits and interrupts, unless the summary was set already or the adapter is masked.
fn route() -> Result<()> {
    let vm = with_routes()?;
    let flic = Flic::new(&vm)?;
    flic.register(0)?;
    set_route(&vm, entry(INDICATORS, SUMMARY, 10))?;
    let event = event(&vm)?;
    let bits =
        || -> Result<(u8, u8)> { Ok((vm.ram().read(INDICATORS + 1)?, vm.ram().read(SUMMARY)?)) };
    // Make the pages there.
    vm.ram().write(INDICATORS, 0_u64)?;
    vm.ram().write(SUMMARY, 0_u64)?;
    event.write(1)?;
    check_eq!(bits()?, (0x20, 0x10), "indicator and summary");
    expect_adapter(&waiting(&vm)?)?;
    vm.ram().write(INDICATORS + 1, 0_u8)?;
    event.write(1)?;
    check_eq!(bits()?, (0x20, 0x10));
    check_eq!(flic.all(8)?, [], "the summary was set");
    vm.ram().write(SUMMARY, 0_u8)?;
    flic.mask(0, true)?;
    event.write(1)?;
    check_eq!(bits()?, (0x20, 0x10));
    check_eq!(flic.all(8)?, [], "masked");
    Ok(())
}

/// The indicators' page isn't there when the eventfd is signalled: a vCPU makes it.
fn route_absent() -> Result<()> {
    let vm = with_routes()?;
    let ram = Ram::new(0x10_0000)?;
    vm.add_slot(1, 0x1000_0000, &ram)?;
    let flic = Flic::new(&vm)?;
    flic.register(0)?;
    set_route(&vm, entry(0x1000_0000, 0x1000_1000, 10))?;
    let event = event(&vm)?;
    let vcpu = waiting(&vm)?;
    ram.advise(MmapAdvise::MADV_DONTNEED)?;
    event.write(1)?;
    expect_adapter(&vcpu)?;
    check_eq!((ram.read::<u8>(1)?, ram.read::<u8>(0x1000)?), (0x20, 0x10));
    // Userspace that asks sees it as well.
    ram.advise(MmapAdvise::MADV_DONTNEED)?;
    event.write(1)?;
    check_eq!(flic.all(8)?.len(), 1);
    check_eq!((ram.read::<u8>(1)?, ram.read::<u8>(0x1000)?), (0x20, 0x10));
    Ok(())
}

/// Routes that can't be.
fn route_refused() -> Result<()> {
    let vm = with_routes()?;
    let good = entry(INDICATORS, SUMMARY, 10);
    check_eq!(set_route(&vm, good), Ok(0));
    let end = 4096 * 8;
    check_eq!(set_route(&vm, entry(INDICATORS, SUMMARY, end - 1)), Ok(0));
    check_eq!(set_route(&vm, entry(INDICATORS, SUMMARY, end)), Err(Errno::EINVAL));
    check_eq!(set_route(&vm, entry(INDICATORS + 8, SUMMARY, end - 64)), Err(Errno::EINVAL));
    check_eq!(set_route(&vm, entry(0x4000_0000, SUMMARY, 0)), Err(Errno::EFAULT), "no memory");
    check_eq!(set_route(&vm, RoutingEntry { type_: 2, ..good }), Err(Errno::EINVAL), "a message");
    Ok(())
}

/// Lets userspace have channel instructions.
fn enable_channels(vcpu: &Vcpu) -> Result<()> {
    let css =
        EnableCap { cap: cap::KVM_CAP_S390_CSS_SUPPORT, flags: 0, args: [0; 4], pad: [0; 64] };
    vcpu.give(ioctl::KVM_ENABLE_CAP, &css)?;
    Ok(())
}

fn inject(vm: &Vm, irq: &Irq) -> Result<()> {
    let interrupt = Interrupt {
        type_: u32::try_from(irq.type_)?,
        parm: u32::try_from(irq.u[0] >> 32)?,
        parm64: irq.u[0] << 32 | irq.u[1] >> 32,
    };
    give(vm.file(), z::KVM_S390_INTERRUPT, &interrupt)?;
    Ok(())
}

/// TEST SUBCHANNEL is userspace's, and comes with the subchannel's interruption.
fn test_subchannel() -> Result<()> {
    /// `KVM_EXIT_S390_TSCH`.
    const EXIT: u32 = 22;
    let vm = Vm::new()?;
    let tsch = |code: Code| code.load(2, DATA as i32).s(0xb235, 2, 0x10);
    let code = tsch(tsch(Code::new().load(1, 0x0001_0005)));
    let vcpu = vm.start(&code)?;
    enable_channels(&vcpu)?;
    inject(&vm, &io(6))?;
    inject(&vm, &io(5))?;
    check_eq!(vcpu.run()?, Exit::Other(EXIT));
    check_eq!(vcpu.exit_words(), [0x0001_0005_3333_4444, 0x2800_0000_2010_0000, 1 << 56]);
    check_eq!(vcpu.run()?, Exit::Other(EXIT));
    check_eq!(vcpu.exit_words(), [0, 0x2010_0000, 0], "nothing waits any more");
    Ok(())
}

/// TEST PENDING INTERRUPTION takes what control register 6 lets in, with the PSW's mask closed.
fn test_pending() -> Result<()> {
    let vm = Vm::new()?;
    let tpi = |code: Code, at| code.load(2, DATA as i32).s(0xb236, 2, at).condition(1).report(1);
    // The last one stores in the prefix area.
    let code = tpi(tpi(Code::new(), 0), 0x10).s(0xb236, 0, 0).condition(1).report(1);
    let vcpu = vm.start(&tpi(code, 0))?;
    enable_channels(&vcpu)?;
    vcpu.set_control(6, 0x0400_0000);
    check_eq!(vcpu.report()?, 0, "nothing");
    inject(&vm, &io(5))?;
    check_eq!(vcpu.report()?, 1);
    check_eq!(vm.read(DATA + 0x10)?, 0x0001_0005_3333_4444);
    inject(&vm, &io(6))?;
    check_eq!(vcpu.report()?, 1);
    check_eq!(vm.read(0xb8)?, 0x0001_0006_3333_4444);
    check_eq!(vm.read_u32(0xc0)?, 0x2800_0000);
    // Another subclass than 5.
    vcpu.set_control(6, 0x0200_0000);
    inject(&vm, &io(7))?;
    check_eq!(vcpu.report()?, 0, "of another subclass");
    Ok(())
}

/// Without userspace's consent there are no channels.
fn no_channels() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu =
        vm.start(&Code::new().load(1, 0x0001_0005).s(0xb234, 0, 0x800).condition(1).report(1))?;
    check_eq!(vcpu.report()?, 3);
    Ok(())
}
