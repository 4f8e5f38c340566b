// SPDX-License-Identifier: GPL-2.0
//! Interruptions: clocks, other CPUs, userspace.

use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

use kvm_uapi::ioctl::s390 as z;
use kvm_uapi::irq::{
    Ioeventfd, KVM_IOEVENTFD_FLAG_DATAMATCH, KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY,
};
use kvm_uapi::s390::{Interrupt, Irq, IrqState};
use kvm_uapi::vcpu::EnableCap;
use kvm_uapi::{cap, ioctl};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::super::vcpu::Vcpu;
use super::*;
use crate::device::ioctl_with as give;

pub(super) const CASES: &[Case] = &[
    case("micro-event-clock-comparator", clock_comparator),
    case("micro-event-cpu-timer", cpu_timer),
    case("micro-event-clock-while-running", clock_while_running),
    case("micro-event-emergency", emergency),
    case("micro-event-external-call", external_call),
    case("micro-event-sense", sense),
    case("micro-event-stop", stop),
    case("micro-event-restart", restart),
    case("micro-event-program", program),
    case("micro-event-service-signal", service_signal),
    case("micro-event-io", io),
    case("micro-event-masked", masked),
    case("micro-event-io-masked", io_masked),
    case("micro-event-machine-check", machine_check),
    case("micro-event-irq-state", irq_state),
    case("micro-event-forms", forms),
    case("micro-event-senders", senders),
    case("micro-event-ccw-notify", ccw_notify),
    case("micro-event-yield", yield_time),
];

/// Where external interruptions go.
const HANDLER: u64 = CODE + 0x800;
/// Subclasses in control register 0.
const CLOCK: u64 = 0x800;
const TIMER: u64 = 0x400;
const EMERGENCY: u64 = 0x4000;
const CALL: u64 = 0x2000;
const SERVICE: u64 = 0x200;

/// What control register 0 has besides.
const CR0: u64 = 0xe0;

/// LLGH: a register gets 16 bits of memory.
fn llgh(code: Code, register: u8, address: u16) -> Code {
    code.rxy(0xe391, register << 4, 0, address)
}

/// A handler of external interruptions that reports code and CPU address.
fn report_external(vm: &Vm) -> Result<()> {
    vm.write_psw(0x1b0, MASK, HANDLER)?;
    let code = llgh(llgh(Code::new(), 1, 0x86).report(1), 2, 0x84).report(2);
    vm.ram().write_bytes(HANDLER, code.bytes())
}

/// A PSW at [`DATA`] that waits for external interruptions.
fn wait_psw(vm: &Vm) -> Result<()> {
    vm.write_psw(DATA, MASK | vm::WAIT | vm::EXTERNAL, 0x1234)
}

/// Sets the comparator so many microseconds ahead, and goes on with the PSW at [`DATA`].
fn comparator_in(microseconds: i32) -> Code {
    // STCK; AGFI; SCKC; LPSWE.
    Code::new()
        .load(3, DATA as i32)
        .s(0xb205, 3, 0x100)
        .lg(1, 3, 0x100)
        .raw(&[0xc2, 0x18])
        .raw(&(microseconds << 12).to_be_bytes())
        .stg(1, 3, 0x108)
        .s(0xb206, 3, 0x108)
        .s(0xb2b2, 3, 0)
}

/// The guest sets its comparator 20 ms ahead and waits.
fn clock_comparator() -> Result<()> {
    let vm = Vm::new()?;
    report_external(&vm)?;
    wait_psw(&vm)?;
    let vcpu = vm.start(&comparator_in(20_000))?;
    vcpu.set_control(0, CR0 | CLOCK);
    check_eq!(vcpu.report()?, 0x1004);
    check_eq!(vm.read(0x138)?, 0x1234, "old PSW");
    Ok(())
}

/// The timer runs while the guest waits.
fn cpu_timer() -> Result<()> {
    let vm = Vm::new()?;
    report_external(&vm)?;
    wait_psw(&vm)?;
    vm.write(DATA + 0x100, 20_000 << 12)?;
    // SPT; LPSWE.
    let code = Code::new().load(3, DATA as i32).s(0xb208, 3, 0x100).s(0xb2b2, 3, 0);
    let vcpu = vm.start(&code)?;
    vcpu.set_control(0, CR0 | TIMER);
    check_eq!(vcpu.report()?, 0x1005);
    Ok(())
}

/// The comparator interrupts a guest that computes.
fn clock_while_running() -> Result<()> {
    let vm = Vm::new()?;
    report_external(&vm)?;
    vm.write_psw(DATA, MASK | vm::EXTERNAL, CODE + 0x100)?;
    vm.ram().write_bytes(CODE + 0x100, Code::new().hang().bytes())?;
    let vcpu = vm.start(&comparator_in(5_000))?;
    vcpu.set_control(0, CR0 | CLOCK);
    check_eq!(vcpu.report()?, 0x1004);
    check_eq!(vm.read(0x138)?, CODE + 0x100, "old PSW");
    Ok(())
}

/// vCPU 1 waits with a subclass on, in the prefix area of vCPU 0, which sends it an order.
fn signalled(subclass: u64, order: u8, code: u64) -> Result<()> {
    let vm = Vm::new()?;
    report_external(&vm)?;
    wait_psw(&vm)?;
    let sender = Code::new().load(4, 1).sigp(2, 4, order).condition(1).report(1);
    let sender = vm.start(&sender)?;
    let receiver = vm.vcpu(1)?;
    receiver.reset()?;
    receiver.set_psw(MASK | vm::WAIT | vm::EXTERNAL, 0x1234);
    receiver.set_control(0, CR0 | subclass);
    thread::scope(|scope| {
        let received =
            scope.spawn(|| Ok::<_, anyhow::Error>((receiver.report()?, receiver.report()?)));
        // An order to a stopped CPU stays pending as well.
        thread::sleep(Duration::from_millis(30));
        check_eq!(sender.report()?, 0, "condition code");
        let received = received.join().map_err(|_| anyhow::anyhow!("the thread panicked"))??;
        check_eq!(received, (code, 0), "code and sender");
        Ok(())
    })
}

/// An emergency signal from one CPU to another.
fn emergency() -> Result<()> {
    signalled(EMERGENCY, 0x03, 0x1201)
}

/// An external call.
fn external_call() -> Result<()> {
    signalled(CALL, 0x02, 0x1202)
}

/// What a CPU learns of others: a stopped one, one that isn't there, itself.
fn sense() -> Result<()> {
    let vm = Vm::new()?;
    let mut code = Code::new();
    for target in [1, 7, 0] {
        code = code.load(4, target).load(2, 0).sigp(2, 4, 0x01).condition(1).report(1).report(2);
    }
    let vcpu = vm.start(&code)?;
    let _other = vm.vcpu(1)?;
    check_eq!([vcpu.report()?, vcpu.report()?], [1, 0x40], "a stopped CPU");
    check_eq!([vcpu.report()?, vcpu.report()?], [3, 0], "no CPU");
    check_eq!([vcpu.report()?, vcpu.report()?], [0, 0], "itself");
    Ok(())
}

/// Interruption types.
const STOP: u64 = 0xfffe_0000;
const PROGRAM: u64 = 0xfffe_0001;
const RESTART: u64 = 0xfffe_0003;
const MACHINE_CHECK: u64 = 0xfffe_1000;

/// Runs a vCPU that hangs, and injects something into it.
fn inject_into_running(vcpu: &Vcpu, type_: u64, u: [u64; 8]) -> Result<Exit> {
    thread::scope(|scope| {
        let run = scope.spawn(|| vcpu.run());
        thread::sleep(Duration::from_millis(30));
        vcpu.inject(type_, u)?;
        run.join().map_err(|_| anyhow::anyhow!("the thread panicked"))?
    })
}

/// A CPU that is told to stop comes out, and is stopped.
fn stop() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.start(&Code::new().hang())?;
    check_eq!(vcpu.state()?, 5);
    let exit = inject_into_running(&vcpu, STOP, [0; 8])?;
    ensure!(matches!(exit, Exit::Sie { code: icpt::STOP, .. }), "{exit:x?}");
    check_eq!(vcpu.state()?, 5);
    Ok(())
}

/// A restart changes PSWs, whatever is masked.
fn restart() -> Result<()> {
    let vm = Vm::new()?;
    vm.write_psw(0x1a0, MASK, HANDLER)?;
    vm.ram().write_bytes(HANDLER, Code::new().load(1, 77).report(1).bytes())?;
    let vcpu = vm.start(&Code::new().hang())?;
    check_eq!(inject_into_running(&vcpu, RESTART, [0; 8])?, Exit::Report(77));
    check_eq!(vm.read(0x128)?, CODE, "old PSW");
    Ok(())
}

/// Userspace's program interruption comes with its details.
fn program() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.start(&Code::new().hang())?;
    // Page translation at an address; length 4, no rewinding.
    let words = [0x1234_5000, 0, 0, 0x11 << 16, 0x3 << 40 | 0x0d << 16, 0, 0, 0];
    vcpu.inject(PROGRAM, words)?;
    vcpu.expect_wait(vm::PROGRAM_TRAP)?;
    check_eq!(vm.read_u32(0x8c)?, 0x0004_0011, "length and code");
    check_eq!(vm.read(0xa8)?, 0x1234_5000, "translation exception");
    check_eq!(vm.ram().read::<u8>(0xa0)?, 3, "access register");
    Ok(())
}

/// An interruption for any CPU.
fn floating(vm: &Vm, type_: u32, parm: u32, parm64: u64) -> Result<()> {
    give(vm.file(), z::KVM_S390_INTERRUPT, &Interrupt { type_, parm, parm64 })?;
    Ok(())
}

/// A service signal, with its parameter.
fn service_signal() -> Result<()> {
    let vm = Vm::new()?;
    report_external(&vm)?;
    wait_psw(&vm)?;
    let vcpu = vm.start(&Code::new().load(3, DATA as i32).s(0xb2b2, 3, 0))?;
    vcpu.set_control(0, CR0 | SERVICE);
    floating(&vm, 0xffff_2401, 0x1_2340, 0)?;
    check_eq!(vcpu.report()?, 0x2401);
    check_eq!(vm.read_u32(0x80)?, 0x1_2340, "parameter");
    Ok(())
}

/// I/O interruptions by subclass; one that is off waits.
fn io() -> Result<()> {
    let vm = Vm::new()?;
    vm.write_psw(0x1f0, MASK, HANDLER)?;
    let load = |code: Code, register: u8, address| code.rxy(0xe316, register << 4, 0, address);
    let handler = load(load(load(Code::new(), 1, 0xb8), 2, 0xbc), 3, 0xc0);
    vm.ram().write_bytes(HANDLER, handler.report(1).report(2).report(3).bytes())?;
    vm.write_psw(DATA, MASK | vm::WAIT | 1 << 57, 0x1234)?;
    let vcpu = vm.start(&Code::new().load(3, DATA as i32).s(0xb2b2, 3, 0))?;
    // Subclass 3 alone.
    vcpu.set_control(6, 0x1000_0000);
    floating(&vm, 0x10, 0x0001_0005, 0x1111_2222_2800_0000)?;
    floating(&vm, 0x10, 0x0001_0006, 0x3333_4444_1800_0000)?;
    check_eq!(vcpu.report()?, 0x0001_0006, "subsystem");
    check_eq!(vcpu.report()?, 0x3333_4444, "parameter");
    check_eq!(vcpu.report()?, 0x1800_0000, "word");
    Ok(())
}

/// What is masked waits until the guest lets it in.
fn masked() -> Result<()> {
    let vm = Vm::new()?;
    report_external(&vm)?;
    vm.write_psw(DATA, MASK | vm::EXTERNAL, CODE + 0x100)?;
    vm.ram().write_bytes(CODE + 0x100, Code::new().hang().bytes())?;
    let vcpu = vm.start(&Code::new().load(1, 5).report(1).load(3, DATA as i32).s(0xb2b2, 3, 0))?;
    vcpu.set_control(0, CR0 | SERVICE);
    floating(&vm, 0xffff_2401, 0x1_2340, 0)?;
    check_eq!(vcpu.report()?, 5);
    check_eq!(vcpu.report()?, 0x2401);
    check_eq!(vm.read(0x138)?, CODE + 0x100, "old PSW");
    Ok(())
}

/// So does an I/O interruption; the guest runs when it lets it in.
fn io_masked() -> Result<()> {
    let vm = Vm::new()?;
    vm.write_psw(0x1f0, MASK, HANDLER)?;
    vm.ram().write_bytes(HANDLER, Code::new().load(1, 66).report(1).bytes())?;
    vm.write_psw(DATA, MASK | 1 << 57, CODE + 0x100)?;
    vm.ram().write_bytes(CODE + 0x100, Code::new().hang().bytes())?;
    let vcpu = vm.start(&Code::new().load(1, 5).report(1).load(3, DATA as i32).s(0xb2b2, 3, 0))?;
    vcpu.set_control(6, 0x1000_0000);
    floating(&vm, 0x10, 0x0001_0006, 0x3333_4444_1800_0000)?;
    check_eq!(vcpu.report()?, 5);
    check_eq!(vcpu.report()?, 66);
    check_eq!(vm.read(0x178)?, CODE + 0x100, "old PSW");
    Ok(())
}

/// A machine check stores its code.
fn machine_check() -> Result<()> {
    let vm = Vm::new()?;
    vm.write_psw(0x1e0, MASK, HANDLER)?;
    vm.ram().write_bytes(HANDLER, Code::new().load(1, 9).report(1).bytes())?;
    let vcpu = vm.start(&Code::new().hang())?;
    vcpu.set_psw(MASK | 1 << 50, CODE);
    vcpu.set_control(14, 0x1000_0000);
    vcpu.inject(MACHINE_CHECK, [0x1000_0000, 0x0040_0000_0000_0000, 0, 0, 0, 0, 0, 0])?;
    check_eq!(vcpu.report()?, 9);
    check_eq!(vm.read(0xe8)?, 0x0040_0000_0000_0000, "code");
    Ok(())
}

const CALL_TYPE: u64 = 0xffff_1202;
const EMERGENCY_TYPE: u64 = 0xffff_1201;

/// What waits for a CPU, with room for so many interruptions.
fn read(vcpu: &Vcpu, room: u32) -> Result<Vec<Irq>, Errno> {
    let mut list = [Irq { type_: 0, u: [0; 8] }; 16];
    let state =
        IrqState { buf: list.as_mut_ptr() as u64, flags: 0, len: room * 72, reserved: [0; 4] };
    let used = vcpu.give(z::KVM_S390_GET_IRQ_STATE, &state)?;
    Ok(list.into_iter().take(usize::try_from(used).unwrap_or(0) / 72).collect())
}

/// What waits for a CPU can be read, and set for another one.
fn irq_state() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(cap::KVM_CAP_S390_IRQ_STATE, "KVM_CAP_S390_IRQ_STATE")?;
    let (old, new) = (vm.vcpu(0)?, vm.vcpu(1)?);
    let _senders = [vm.vcpu(3)?, vm.vcpu(5)?, vm.vcpu(7)?];
    old.inject(EMERGENCY_TYPE, [7 << 48, 0, 0, 0, 0, 0, 0, 0])?;
    old.inject(EMERGENCY_TYPE, [3 << 48, 0, 0, 0, 0, 0, 0, 0])?;
    old.inject(CALL_TYPE, [5 << 48, 0, 0, 0, 0, 0, 0, 0])?;
    old.inject(PROGRAM, [0x5000, 0, 0, 0x11 << 16, 0x0d << 16, 0, 0, 0])?;
    check_eq!(read(&old, 2), Err(Errno::ENOBUFS));
    let list = read(&old, 8)?;
    let mut types: Vec<u64> = list.iter().map(|irq| irq.type_).collect();
    types.sort_unstable();
    check_eq!(types, [PROGRAM, EMERGENCY_TYPE, EMERGENCY_TYPE, CALL_TYPE]);
    let state = IrqState {
        buf: list.as_ptr() as u64,
        flags: 0,
        len: u32::try_from(list.len() * 72)?,
        reserved: [0; 4],
    };
    new.give(z::KVM_S390_SET_IRQ_STATE, &state)?;
    check_eq!(read(&new, 8)?, list, "what was set");
    check_eq!(new.give(z::KVM_S390_SET_IRQ_STATE, &state), Err(Errno::EBUSY), "once more");
    Ok(())
}

/// The older, shorter form of interruptions for one CPU: what it says is in the longer one.
fn forms() -> Result<()> {
    const SET_PREFIX: u32 = 0xfffe_0002;
    const CLOCK: u32 = 0xffff_1004;
    const TIMER: u32 = 0xffff_1005;
    let (program, restart, check) = (PROGRAM as u32, RESTART as u32, MACHINE_CHECK as u32);
    let (call, emergency) = (CALL_TYPE as u32, EMERGENCY_TYPE as u32);
    let vm = Vm::new()?;
    let vcpu = vm.vcpu(0)?;
    let _sender = vm.vcpu(1)?;
    let inject = |type_: u32, parm: u32, parm64: u64| {
        vcpu.give(z::KVM_S390_INTERRUPT, &Interrupt { type_, parm, parm64 })
    };
    // With the first words of the longer form.
    let table = [
        (program, 0x11, 0, [0, 0, 0, 0x11 << 16]),
        (restart, 0, 0, [0; 4]),
        (SET_PREFIX, 0x2000, 0, [0x2000 << 32, 0, 0, 0]),
        (check, 0x1000_0000, 0x0040_0000_0000_0000, [0x1000_0000, 0x0040_0000_0000_0000, 0, 0]),
        (CLOCK, 0, 0, [0; 4]),
        (TIMER, 0, 0, [0; 4]),
        (emergency, 1, 0, [1 << 48, 0, 0, 0]),
        (call, 1, 0, [1 << 48, 0, 0, 0]),
    ];
    for (type_, parm, parm64, _) in table {
        check_eq!(inject(type_, parm, parm64), Ok(0), "type {type_:x}");
    }
    let list = read(&vcpu, 16)?;
    check_eq!(list.len(), table.len());
    for (type_, _, _, words) in table {
        let found = list.iter().find(|irq| irq.type_ == u64::from(type_)).map(|irq| &irq.u[..4]);
        check_eq!(found, Some(words.as_slice()), "type {type_:x}");
    }
    check_eq!(inject(call, 1, 0), Err(Errno::EBUSY), "a second external call");
    check_eq!(inject(emergency, 0x1_0000, 0), Err(Errno::EINVAL), "no CPU address");
    check_eq!(inject(0x7777_7777, 0, 0), Err(Errno::EINVAL), "no type");
    check_eq!(inject(0xffff_2401, 0, 0), Err(Errno::EINVAL), "none for one CPU");
    Ok(())
}

/// Signals come from CPUs that there are.
fn senders() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.vcpu(0)?;
    for type_ in [EMERGENCY_TYPE, CALL_TYPE] {
        check_eq!(vcpu.inject(type_, [7 << 48, 0, 0, 0, 0, 0, 0, 0]), Err(Errno::EINVAL));
        check_eq!(vcpu.inject(type_, [0; 8]), Ok(0), "from itself");
    }
    Ok(())
}

/// A notification of virtio-ccw signals an eventfd, if one waits for that queue.
fn ccw_notify() -> Result<()> {
    let vm = Vm::new()?;
    let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK)?;
    let request = Ioeventfd {
        datamatch: 2,
        addr: 0x1_0004,
        len: 8,
        fd: event.as_fd().as_raw_fd(),
        flags: KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY,
        pad: [0; 36],
    };
    give(vm.file(), ioctl::KVM_IOEVENTFD, &request)?;
    let mut code = Code::new().load(1, 3).load(2, 0x1_0004);
    for queue in [2, 1] {
        code = code.load(3, queue).load(2, 0x1_0004).diagnose(2, 4, 0x500).report(2);
    }
    let vcpu = vm.start(&code)?;
    let css =
        EnableCap { cap: cap::KVM_CAP_S390_CSS_SUPPORT, flags: 0, args: [0; 4], pad: [0; 64] };
    vcpu.give(ioctl::KVM_ENABLE_CAP, &css)?;
    check_eq!(vcpu.report()?, 0, "cookie");
    check_eq!(event.read()?, 1, "signals");
    let exit = vcpu.run()?;
    let is_diagnose = matches!(exit, Exit::Sie { code: icpt::INSTRUCTION, ipa: 0x8324, .. });
    ensure!(is_diagnose, "another queue: {exit:x?}");
    Ok(())
}

/// Yielding to anybody, to itself, to nobody does no harm.
fn yield_time() -> Result<()> {
    let vm = Vm::new()?;
    let code = Code::new().diagnose(0, 0, 0x44).load(2, 1).diagnose(2, 0, 0x9c);
    let vcpu = vm.start(&code.load(2, 77).diagnose(2, 0, 0x9c).load(1, 1).report(1))?;
    let _other = vm.vcpu(1)?;
    check_eq!(vcpu.report()?, 1);
    Ok(())
}
