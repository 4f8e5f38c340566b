// SPDX-License-Identifier: GPL-2.0
//! Interrupts and NMIs from the VMM, without interrupt controllers in the kernel.

use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::{SigSet, Signal};

use super::super::deadline::KICK;
use super::*;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-inject-interrupt", interrupt),
    Case::guest("x86/micro-inject-window", window),
    Case::guest("x86/micro-inject-shadow", shadow),
    Case::guest("x86/micro-inject-halt", halt),
    Case::guest("x86/micro-inject-real-mode", real_mode),
    Case::guest("x86/micro-inject-nmi", nmi),
    Case::guest("x86/micro-inject-nmi-first", nmi_first),
    Case::guest("x86/micro-inject-exception", exception),
    Case::guest("x86/micro-inject-tpr", tpr),
    Case::guest("x86/micro-inject-signal-mask", signal_mask),
];

/// An interrupt is taken at once where interrupts are on.
fn interrupt() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64; "sti", "nop", "out 0x10, al", "mov ebx, 1", "hlt"))?;
    vcpu.expect_out(0x10, &[0])?;
    let page = vcpu.run_page();
    check_eq!((page.if_flag, page.ready_for_interrupt_injection), (1, 1));
    vcpu.interrupt(0x40)?;
    // The document says EEXIST, the kernel's own modules put it in the first one's place.
    let again = vcpu.interrupt(0x40);
    ensure!([Ok(()), Err(Errno::EEXIST)].contains(&again), "a second one: {again:?}");
    check_eq!(vcpu.interrupt(256), Err(Errno::EINVAL), "vector 256");
    let trap = vcpu.expect_trap(0x40, 0)?;
    check_eq!((trap.rip, trap.rflags & 0x200), (CODE + 4, 0x200));
    let page = vcpu.run_page();
    check_eq!((page.if_flag, page.ready_for_interrupt_injection), (0, 0), "in the handler");
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(vcpu.regs()?.rbx, 1);
    Ok(())
}

/// The window opens when the guest turns interrupts on, one instruction later.
fn window() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "out 0x10, al", "mov ebx, 1", "sti", "mov ebx, 2", "mov ebx, 3", "cli", "out 0x11, al",
        "popfq", "nop", "hlt"
    ))?;
    vcpu.expect_out(0x10, &[0])?;
    let page = vcpu.run_page();
    check_eq!((page.if_flag, page.ready_for_interrupt_injection), (0, 0));
    page.request_interrupt_window = 1;
    vcpu.expect(&Exit::IrqWindow)?;
    check_eq!(vcpu.regs()?.rbx, 2, "after the instruction behind STI");
    let page = vcpu.run_page();
    check_eq!((page.if_flag, page.ready_for_interrupt_injection), (1, 1));
    page.request_interrupt_window = 0;
    vcpu.interrupt(0x80)?;
    vcpu.expect_trap(0x80, 0)?;
    vcpu.expect_out(0x11, &[0])?;
    check_eq!(vcpu.regs()?.rbx, 3);
    // POPF opens it without a shadow.
    let rsp = vcpu.regs()?.rsp;
    vm.ram().write(rsp, 0x202u64)?;
    vcpu.run_page().request_interrupt_window = 1;
    vcpu.expect(&Exit::IrqWindow)?;
    check_eq!(vcpu.regs()?.rip, CODE + 22, "behind POPF");
    // Asked for while it is open, it comes before any instruction.
    vcpu.expect(&Exit::IrqWindow)?;
    check_eq!(vcpu.regs()?.rip, CODE + 22, "behind POPF");
    vcpu.run_page().request_interrupt_window = 0;
    vcpu.expect(&Exit::Hlt)
}

/// A shadow set from outside lasts for one instruction.
fn shadow() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS")?;
    for kind in [abi::KVM_X86_SHADOW_INT_STI, abi::KVM_X86_SHADOW_INT_MOV_SS] {
        let mut vcpu = vm.vcpu(kind)?;
        vcpu.start(Mode::Long, guest!(64; "mov ebx, 1", "mov ebx, 2", "hlt"))?;
        vcpu.change_regs(|regs| regs.rflags |= 0x200)?;
        let mut events = vcpu.events()?;
        (events.flags, events.interrupt.shadow) = (abi::KVM_VCPUEVENT_VALID_SHADOW, kind as u8);
        vcpu.set(request::SET_VCPU_EVENTS, &events)?;
        vcpu.run_page().request_interrupt_window = 1;
        vcpu.expect(&Exit::IrqWindow)?;
        check_eq!(vcpu.regs()?.rbx, 1);
        check_eq!(vcpu.events()?.interrupt.shadow, 0);
    }
    // The guest's own, by MOV to SS.
    let mut vcpu = vm.vcpu(7)?;
    vcpu.start(
        Mode::Long,
        guest!(64;
            "mov eax, ss", "pushfq", "or qword ptr [rsp], 0x100", "popfq",
            "mov ss, eax", "mov ebx, 1", "mov ebx, 2"
        ),
    )?;
    // With the trap flag on, the step between MOV to SS and the next instruction is left out.
    let first = vcpu.expect_trap(1, 0)?;
    check_eq!((first.rip, vcpu.regs()?.rbx), (CODE + 19, 1));
    Ok(())
}

/// STI; HLT: an interrupt that waits for the window comes out of HLT, none is lost between the two.
fn halt() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64; "out 0x10, al", "sti", "hlt", "mov ebx, 1", "cli", "hlt"))?;
    vcpu.expect_out(0x10, &[0])?;
    vcpu.run_page().request_interrupt_window = 1;
    let mut halted = false;
    loop {
        match vcpu.run()? {
            Exit::Hlt if !halted => halted = true,
            Exit::IrqWindow => break,
            exit => bail!("{}", vcpu.describe(&exit)),
        }
    }
    check_eq!(vcpu.regs()?.rip, CODE + 4, "behind HLT");
    vcpu.run_page().request_interrupt_window = 0;
    vcpu.interrupt(0x33)?;
    let trap = vcpu.expect_trap(0x33, 0)?;
    check_eq!(trap.rip, CODE + 4);
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(vcpu.regs()?.rbx, 1);
    Ok(())
}

/// Interrupts in real mode go through the vector table and come back with IRET.
fn real_mode() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    vcpu.start(
        Mode::Real,
        guest!(16; "sti", "nop", "out 0x10, al", "mov bx, 2", "int 0x21", "hlt"),
    )?;
    vm.ram().write_bytes(0x9000, guest!(16; "inc cx", "out 0x11, al", "iret"))?;
    vcpu.set_gate(Mode::Real, 8, 0x9000)?;
    vcpu.set_gate(Mode::Real, 0x21, 0x9000)?;
    vcpu.expect_out(0x10, &[0])?;
    vcpu.interrupt(8)?;
    vcpu.expect_out(0x11, &[0])?;
    let regs = vcpu.regs()?;
    check_eq!((regs.rcx, regs.rsp), (1, 0x8000 - 6));
    check_eq!(vm.ram().read::<u16>(0x8000 - 6)?, CODE as u16 + 4, "the address on the stack");
    vcpu.expect_out(0x11, &[0])?;
    check_eq!(vcpu.regs()?.rcx, 2);
    vcpu.expect(&Exit::Hlt)?;
    let regs = vcpu.regs()?;
    check_eq!((regs.rbx, regs.rsp, regs.rflags & 0x200), (2, 0x8000, 0x200));
    Ok(())
}

/// NMIs come with interrupts off; one that comes during another waits for IRET, a third is lost.
fn nmi() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS")?;
    let mut vcpu = vm.long(guest!(64; "out 0x10, al", "mov ebx, 1", "out 0x11, al", "hlt"))?;
    vcpu.expect_out(0x10, &[0])?;
    vcpu.nmi()?;
    let trap = vcpu.expect_trap(2, 0)?;
    check_eq!(trap.rip, CODE + 2);
    check_eq!((vcpu.events()?.nmi.masked, vcpu.events()?.nmi.pending), (1, 0));
    for _ in 0..3 {
        vcpu.nmi()?;
    }
    ensure!(vcpu.events()?.nmi.pending != 0, "no NMI waits");
    let trap = vcpu.expect_trap(2, 0)?;
    check_eq!(trap.rip, CODE + 2, "right behind the first one's IRET");
    vcpu.expect_out(0x11, &[0])?;
    check_eq!((vcpu.events()?.nmi.masked, vcpu.events()?.nmi.pending), (0, 0));
    vcpu.expect(&Exit::Hlt)
}

/// An NMI comes before an interrupt, which then comes before the guest's next instruction.
fn nmi_first() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64; "sti", "nop", "out 0x10, al", "mov ebx, 1", "hlt"))?;
    vcpu.expect_out(0x10, &[0])?;
    vcpu.interrupt(0x40)?;
    vcpu.nmi()?;
    // KVM_INTERRUPT is an interrupt that was accepted: it may be the first one.
    let first = vcpu.trap()?;
    let second = vcpu.trap()?;
    let mut vectors = [first.vector, second.vector];
    vectors.sort_unstable();
    check_eq!(vectors, [2, 0x40]);
    check_eq!(vcpu.regs()?.rbx, 0);
    vcpu.expect(&Exit::Hlt)
}

/// Exceptions that were under way when the state was saved are delivered.
fn exception() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS")?;
    let mut vcpu = vm.long(guest!(64; "nop", "hlt"))?;
    let idle = vcpu.events()?;
    let mut events = idle;
    (events.exception.injected, events.exception.nr) = (1, 13);
    (events.exception.has_error_code, events.exception.error_code) = (1, 0x18);
    vcpu.set(request::SET_VCPU_EVENTS, &events)?;
    let trap = vcpu.expect_trap(13, 0x18)?;
    check_eq!(trap.rip, CODE);
    vcpu.start(Mode::Long, guest!(64; "nop", "hlt"))?;
    vcpu.change_regs(|regs| regs.rflags |= 0x200)?;
    let mut events = idle;
    (events.interrupt.injected, events.interrupt.nr) = (1, 0x51);
    vcpu.set(request::SET_VCPU_EVENTS, &events)?;
    let trap = vcpu.expect_trap(0x51, 0)?;
    check_eq!(trap.rip, CODE);
    // The same by way of SET_SREGS.
    vcpu.start(Mode::Long, guest!(64; "nop", "hlt"))?;
    vcpu.change_regs(|regs| regs.rflags |= 0x200)?;
    vcpu.change_sregs(|sregs| sregs.interrupt_bitmap[0x62 / 64] |= 1 << (0x62 % 64))?;
    check_eq!(vcpu.sregs()?.interrupt_bitmap[1], 1 << (0x62 % 64));
    vcpu.expect_trap(0x62, 0)?;
    Ok(())
}

/// CR8 comes with each exit; writing a lower value tells the VMM.
fn tpr() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "mov eax, 9", "mov cr8, rax", "mov rbx, cr8", "out 0x10, al",
        "mov rbx, cr8", "mov eax, 3", "mov cr8, rax", "hlt"
    ))?;
    vcpu.expect_out(0x10, &[9])?;
    check_eq!(vcpu.regs()?.rbx, 9);
    check_eq!(vcpu.run_page().cr8, 9);
    check_eq!(vcpu.sregs()?.cr8, 9);
    // Entering takes it from the page.
    vcpu.run_page().cr8 = 7;
    vcpu.expect(&Exit::SetTpr)?;
    check_eq!((vcpu.regs()?.rbx, vcpu.run_page().cr8), (7, 3));
    vcpu.expect(&Exit::Hlt)
}

/// The signals that count in the guest are those of KVM_SET_SIGNAL_MASK, while it runs.
fn signal_mask() -> Result<()> {
    #[repr(C)]
    struct Mask {
        length: u32,
        set: [u32; 2],
    }
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64; "sti", "2:", "jmp 2b"))?;
    let bit = |signal: Signal| 1u32 << (signal as u32 - 1);
    let wrong = Mask { length: 4, set: [0; 2] };
    check_eq!(vcpu.try_set(request::SET_SIGNAL_MASK, &wrong), Err(Errno::EINVAL), "4 bytes");
    let mut kick = SigSet::empty();
    kick.add(KICK);
    kick.thread_block()?;
    let result = (|| -> Result<()> {
        // Blocked outside, let through inside.
        vcpu.set(request::SET_SIGNAL_MASK, &Mask { length: 8, set: [0; 2] })?;
        pthread_kill(pthread_self(), KICK)?;
        check_eq!(vcpu.try_run()?, Err(Errno::EINTR));
        check_eq!(vcpu.try_run()?, Err(Errno::EINTR), "it is still pending");
        check_eq!(kick.wait()?, KICK);
        // Blocked inside: the time limit ends the run.
        vcpu.set(request::SET_SIGNAL_MASK, &Mask { length: 8, set: [bit(KICK), 0] })?;
        pthread_kill(pthread_self(), KICK)?;
        vcpu.set_limit(std::time::Duration::from_millis(300));
        ensure!(vcpu.try_run().is_err(), "a signal that is blocked inside brings the guest out");
        check_eq!(kick.wait()?, KICK);
        // No mask of its own.
        request::call(vcpu.file(), request::SET_SIGNAL_MASK, 0).context("no mask")?;
        Ok(())
    })();
    kick.thread_unblock()?;
    result
}
