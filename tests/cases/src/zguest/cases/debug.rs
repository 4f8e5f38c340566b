// SPDX-License-Identifier: GPL-2.0
//! A debugger outside, and events that guests record themselves.

use kvm_uapi::cap;
use kvm_uapi::ioctl::s390::KVM_SET_GUEST_DEBUG;
use kvm_uapi::run::reason;
use kvm_uapi::s390::{GuestDebug, GuestDebugArch, HwBreakpoint};
use nix::errno::Errno;

use super::super::vcpu::Vcpu;
use super::*;

pub(super) const CASES: &[Case] = &[
    case("micro-debug-step", step),
    case("micro-debug-step-interruption", step_interruption),
    case("micro-debug-breakpoint", breakpoint),
    case("micro-debug-watchpoint", watchpoint),
    case("micro-debug-own-events", own_events),
    case("micro-debug-refused", refused),
];

const ENABLE: u32 = 1;
const STEP: u32 = 2;
const POINTS: u32 = 0x1_0000;

/// Types of what the debugger is told.
const BREAKPOINT: u8 = 1;
const WATCHPOINT: u8 = 2;
const SINGLE_STEP: u8 = 4;

fn set(vcpu: &Vcpu, control: u32, points: &[HwBreakpoint]) -> Result<i32, Errno> {
    let arch =
        GuestDebugArch { nr_hw_bp: points.len() as u32, pad: 0, hw_bp: points.as_ptr() as u64 };
    vcpu.give(KVM_SET_GUEST_DEBUG, &GuestDebug { control, pad: 0, arch })
}

fn point(type_: u8, addr: u64, len: u64) -> HwBreakpoint {
    HwBreakpoint { addr, phys_addr: addr, len, type_, pad: [0; 7] }
}

/// Runs until the debugger is told something: the address and the type.
fn told(vcpu: &Vcpu) -> Result<(u64, u8)> {
    let exit = vcpu.run()?;
    ensure!(exit == Exit::Other(reason::KVM_EXIT_DEBUG), "{exit:x?}; {}", vcpu.place());
    let [address, kind, _] = vcpu.exit_words();
    Ok((address, (kind >> 56) as u8))
}

/// A VM with a debugger's capability.
fn debugged() -> Result<Vm> {
    let vm = Vm::new()?;
    vm.need(cap::KVM_CAP_SET_GUEST_DEBUG2, "KVM_CAP_SET_GUEST_DEBUG2")?;
    Ok(vm)
}

/// Each instruction is a step: one that SIE executes, one that the kernel does, and one that
/// userspace does.
fn step() -> Result<()> {
    let vm = debugged()?;
    // AGHI; STPX; DIAGNOSE; AGHI; and without a debugger DIAGNOSE.
    let code = Code::new().aghi(1, 1).s(0xb211, 0, 0x800).report(1).aghi(1, 1).report(1);
    let vcpu = vm.start(&code)?;
    set(&vcpu, ENABLE | STEP, &[])?;
    check_eq!(told(&vcpu)?, (CODE + 4, SINGLE_STEP));
    check_eq!(vcpu.psw().1, CODE + 4);
    check_eq!(vcpu.gpr(1), 1);
    check_eq!(told(&vcpu)?, (CODE + 8, SINGLE_STEP));
    check_eq!(vcpu.report()?, 1);
    check_eq!(told(&vcpu)?, (CODE + 12, SINGLE_STEP), "after what userspace did");
    check_eq!(told(&vcpu)?, (CODE + 16, SINGLE_STEP));
    set(&vcpu, 0, &[])?;
    check_eq!(vcpu.report()?, 2, "no debugger any more");
    Ok(())
}

/// A step into an interruption ends at its handler.
fn step_interruption() -> Result<()> {
    const HANDLER: u64 = DATA;
    let vm = debugged()?;
    vm.write_psw(0x1d0, MASK, HANDLER)?;
    vm.write_psw(0x1c0, MASK, HANDLER + 0x100)?;
    vm.ram().write_bytes(HANDLER, Code::new().aghi(2, 1).hang().bytes())?;
    // An operation exception.
    let vcpu = vm.start(&Code::new().raw(&[0, 0]))?;
    set(&vcpu, ENABLE | STEP, &[])?;
    check_eq!(told(&vcpu)?, (HANDLER, SINGLE_STEP));
    check_eq!(vm.read_u32(0x8c)? & 0xffff, 1, "operation, and no event");
    check_eq!(told(&vcpu)?, (HANDLER + 4, SINGLE_STEP));
    // SVC 0
    vm.load(&Code::new().raw(&[0x0a, 0]))?;
    vcpu.set_psw(MASK, CODE);
    check_eq!(told(&vcpu)?, (HANDLER + 0x100, SINGLE_STEP));
    Ok(())
}

/// The guest comes to an address.
fn breakpoint() -> Result<()> {
    let vm = debugged()?;
    let code = Code::new().aghi(1, 1).aghi(1, 1).aghi(1, 1).report(1).hang();
    let vcpu = vm.start(&code)?;
    set(&vcpu, ENABLE | POINTS, &[point(BREAKPOINT, CODE + 8, 1)])?;
    check_eq!(told(&vcpu)?, (CODE + 8, BREAKPOINT));
    check_eq!(vcpu.gpr(1), 2, "it was not executed yet");
    check_eq!(vcpu.report()?, 3, "the guest goes on");
    Ok(())
}

/// The guest changes memory.
fn watchpoint() -> Result<()> {
    let vm = debugged()?;
    let code = Code::new().load(2, DATA as i32).load(1, 7).stg(1, 2, 8).stg(1, 2, 0).report(1);
    let vcpu = vm.start(&code)?;
    set(&vcpu, ENABLE | POINTS, &[point(WATCHPOINT, DATA, 8)])?;
    check_eq!(told(&vcpu)?, (DATA, WATCHPOINT));
    check_eq!(vm.read(DATA)?, 7);
    check_eq!(vcpu.psw().1, CODE + 24, "after the store");
    set(&vcpu, 0, &[])?;
    check_eq!(vcpu.report()?, 7);
    Ok(())
}

/// A guest that records events gets its own with and without a debugger, and no others.
fn own_events() -> Result<()> {
    const PER: u64 = 1 << 62;
    const FETCH: u64 = 0x4000_0000;
    let vm = debugged()?;
    // The second instruction is executed by the kernel (STPX).
    let code = Code::new().aghi(1, 1).s(0xb211, 0, 0x800).aghi(1, 1).report(1);
    vm.load(&code)?;
    let vcpu = vm.vcpu(0)?;
    vcpu.reset()?;
    for (is_debugged, place) in [(false, CODE), (false, CODE + 4), (true, CODE), (true, CODE + 4)] {
        vcpu.set_control(9, FETCH);
        vcpu.set_control(10, place);
        vcpu.set_control(11, place);
        vcpu.set_psw(MASK | PER, CODE);
        if is_debugged {
            set(&vcpu, ENABLE | POINTS, &[point(BREAKPOINT, CODE + 0x100, 1)])?;
        }
        vcpu.expect_wait(vm::PROGRAM_TRAP)?;
        let what = format!("at {place:x}, debugger {is_debugged}");
        check_eq!(vm.read_u32(0x8c)? & 0xffff, 0x80, "{what}");
        check_eq!(vm.read(0x98)?, place, "PER address, {what}");
        check_eq!(vm.read(0x150 + 8)?, place + 4, "old PSW, {what}");
        check_eq!(vcpu.control(10), place, "the guest's own control register, {what}");
    }
    Ok(())
}

/// What can't be.
fn refused() -> Result<()> {
    let vm = Vm::new()?;
    let flags = vm.capability(cap::KVM_CAP_SET_GUEST_DEBUG2)?;
    let vcpu = vm.start(&Code::new().report(1))?;
    check_eq!(set(&vcpu, ENABLE | 0x100, &[]), Err(Errno::EINVAL), "an unknown flag");
    if flags == 0 {
        check_eq!(set(&vcpu, ENABLE | STEP, &[]), Err(Errno::EINVAL), "the machine can't");
        return Ok(());
    }
    let many = vec![point(BREAKPOINT, 0, 1); 51];
    check_eq!(set(&vcpu, ENABLE | POINTS, &many), Err(Errno::EINVAL), "too many");
    let long = point(WATCHPOINT, DATA, 101);
    check_eq!(set(&vcpu, ENABLE | POINTS, &[long]), Err(Errno::EINVAL), "too long");
    let absent = point(WATCHPOINT, 0x4000_0000, 8);
    check_eq!(set(&vcpu, ENABLE | POINTS, &[absent]), Err(Errno::EFAULT), "no memory");
    vcpu.report()?;
    Ok(())
}
