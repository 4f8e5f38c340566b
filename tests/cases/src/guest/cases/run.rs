// SPDX-License-Identifier: GPL-2.0
//! Entering a guest and coming out: HLT, signals, immediate exits, the ends of a guest.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::pthread::{pthread_kill, pthread_self};

use super::super::deadline::KICK;
use super::super::vcpu::Vcpu;
use super::*;
use crate::{kernel_log, module};

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-run-hlt", hlt),
    Case::guest("x86/micro-run-stays", stays),
    Case::guest("x86/micro-run-modes", modes),
    Case::guest("x86/micro-run-argument", argument),
    Case::guest("x86/micro-run-shutdown", shutdown),
    Case::guest("x86/micro-run-immediate-exit", immediate_exit),
    Case::guest("x86/micro-run-signal", signal),
    Case::guest("x86/micro-run-registers", registers),
    Case::loaded("x86/micro-run-refused", &["intel"], refused),
    Case::guest("x86/micro-run-vm-types", vm_types),
    Case::loaded("x86/micro-run-refused-block", &["amd"], refused_block),
];

/// The least a guest can do: real mode, no CPUID, three instructions.
fn hlt() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.bare_vcpu(0)?;
    vcpu.start(Mode::Real, guest!(16; "mov ax, 0x1234", "hlt", "inc ax", "hlt"))?;
    vcpu.expect(&Exit::Hlt)?;
    let regs = vcpu.regs()?;
    check_eq!(regs.rax, 0x1234);
    check_eq!(regs.rip, CODE + 4, "the address behind HLT");
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(vcpu.regs()?.rax, 0x1235);
    Ok(())
}

/// A guest that has its processor to itself halts inside; PAUSE doesn't bring it out either.
fn stays() -> Result<()> {
    let vm = Vm::new()?;
    let cap = abi::KVM_CAP_X86_DISABLE_EXITS;
    vm.need(cap, "KVM_CAP_X86_DISABLE_EXITS")?;
    let wanted = (abi::KVM_X86_DISABLE_EXITS_HLT | abi::KVM_X86_DISABLE_EXITS_PAUSE).into();
    check_eq!(u64::from(vm.capability(cap)?) & wanted, wanted);
    check_eq!(vm.enable(cap, [1 << 20, 0, 0, 0]), Err(Errno::EINVAL), "an unknown instruction");
    vm.enable(cap, [wanted, 0, 0, 0]).context("KVM_CAP_X86_DISABLE_EXITS")?;
    let mut vcpu = vm.long(guest!(64;
        "mov ecx, 10000", "2:", "pause", "dec ecx", "jnz 2b",
        "mov eax, 0x40000001", "cpuid", "mov ebx, eax", "sti", "hlt", "out 0x10, al"
    ))?;
    check_eq!(vm.enable(cap, [wanted, 0, 0, 0]), Err(Errno::EINVAL), "there is a vCPU");
    // An interrupt of the host's ends the sleep.
    match vcpu.run()? {
        Exit::Out { port: 0x10, .. } => {}
        exit => bail!("{}", vcpu.describe(&exit)),
    }
    check_eq!(vcpu.regs()?.rbx >> 7 & 1, 0, "nobody has to wake it");
    Ok(())
}

/// Code runs in every mode, and all of its registers come back.
fn modes() -> Result<()> {
    for mode in Mode::ALL {
        let vm = Vm::new()?;
        let mut vcpu = vm.vcpu(0)?;
        let code = match mode {
            Mode::Real => guest!(16; "mov eax, 0x12345678", "push eax", "pop ebx", "hlt"),
            Mode::Long => guest!(64; "mov rax, 0x123456789abcdef0", "push rax", "pop r15", "hlt"),
            _ => guest!(32; "mov eax, 0x12345678", "push eax", "pop ebx", "hlt"),
        };
        vcpu.start(mode, code)?;
        vcpu.expect(&Exit::Hlt).with_context(|| format!("{mode:?}"))?;
        let regs = vcpu.regs()?;
        if mode == Mode::Long {
            check_eq!(regs.r15, 0x1234_5678_9abc_def0, "{mode:?}");
        } else {
            check_eq!(regs.rbx, 0x1234_5678, "{mode:?}");
        }
        check_eq!(regs.rip, CODE + code.len() as u64, "{mode:?}");
    }
    Ok(())
}

/// KVM_RUN takes no argument.
fn argument() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.bare_vcpu(0)?;
    check_eq!(request::call(vcpu.file(), request::RUN, 1), Err(Errno::EINVAL));
    Ok(())
}

/// An exception that can't be delivered, nor the one that this is, ends the guest.
fn shutdown() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64; "lidt [{data}]", "ud2"; data = DATA))?;
    vcpu.expect(&Exit::Shutdown)
}

/// With `immediate_exit` nothing of the guest runs.
fn immediate_exit() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64; "mov eax, 1", "out 0x10, al", "mov eax, 2", "hlt"))?;
    vcpu.run_page().immediate_exit = 1;
    for _ in 0..3 {
        check_eq!(vcpu.try_run()?, Err(Errno::EINTR));
        check_eq!(vcpu.regs()?.rip, CODE);
        check_eq!(vcpu.run_page().immediate_exit, 1, "the flag itself");
    }
    vcpu.run_page().immediate_exit = 0;
    vcpu.expect_out(0x10, &[1])?;
    // What an exit leaves open is completed before the flag counts.
    vcpu.run_page().immediate_exit = 1;
    check_eq!(vcpu.try_run()?, Err(Errno::EINTR));
    check_eq!(vcpu.regs()?.rip, CODE + 7, "the address behind OUT");
    check_eq!(vcpu.regs()?.rax, 1);
    vcpu.run_page().immediate_exit = 0;
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(vcpu.regs()?.rax, 2);
    Ok(())
}

/// A signal brings a spinning guest out, as often as it comes, and the guest goes on, whether it
/// allows interrupts or not.
fn signal() -> Result<()> {
    let vm = Vm::new()?;
    spin(&mut vm.long(guest!(64; "sti", "2:", "inc r15", "jmp 2b"))?).context("interrupts on")?;
    let vm = Vm::new()?;
    spin(&mut vm.long(guest!(64; "2:", "inc r15", "jmp 2b"))?).context("interrupts off")?;
    // Even if it does nothing but exit, which needn't take it far out.
    let vm = Vm::new()?;
    let code = guest!(64; "2:", "xor eax, eax", "cpuid", "inc r15", "jmp 2b");
    spin(&mut vm.long(code)?).context("CPUID")
}

/// Stops a guest that counts in R15.
fn spin(vcpu: &mut Vcpu) -> Result<()> {
    let runner = pthread_self();
    let (mut before, mut runs) = (0, 0);
    for round in 0..20 {
        thread::scope(|scope| -> Result<()> {
            let kicker = scope.spawn(|| {
                thread::sleep(Duration::from_millis(10));
                pthread_kill(runner, KICK)
            });
            check_eq!(vcpu.try_run()?, Err(Errno::EINTR), "round {round}");
            check_eq!(vcpu.exit(), Exit::Interrupted, "round {round}");
            match kicker.join() {
                Ok(sent) => sent.context("sending a signal"),
                Err(_) => bail!("the other thread came to harm"),
            }
        })?;
        let count = vcpu.regs()?.r15;
        // On a busy host the signal may come before the guest is entered.
        runs += u32::from(count > before);
        before = count;
    }
    ensure!(runs >= 5, "the guest ran in {runs} of 20 rounds");
    Ok(())
}

/// All general registers and flags go in and come out.
fn registers() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "not rax", "not rbx", "not rcx", "not rdx", "not rsi", "not rdi", "not rbp", "not rsp",
        "not r8", "not r9", "not r10", "not r11", "not r12", "not r13", "not r14", "not r15",
        "stc", "std", "hlt"
    ))?;
    let value = |index: u64| 0x0101_0101_0101_0101 * (index + 1);
    let set = abi::kvm_regs {
        rax: value(0),
        rbx: value(1),
        rcx: value(2),
        rdx: value(3),
        rsi: value(4),
        rdi: value(5),
        rsp: value(6),
        rbp: value(7),
        r8: value(8),
        r9: value(9),
        r10: value(10),
        r11: value(11),
        r12: value(12),
        r13: value(13),
        r14: value(14),
        r15: value(15),
        rip: CODE,
        rflags: 2,
    };
    vcpu.set_regs(&set)?;
    vcpu.expect(&Exit::Hlt)?;
    let expected = abi::kvm_regs {
        rax: !set.rax,
        rbx: !set.rbx,
        rcx: !set.rcx,
        rdx: !set.rdx,
        rsi: !set.rsi,
        rdi: !set.rdi,
        rsp: !set.rsp,
        rbp: !set.rbp,
        r8: !set.r8,
        r9: !set.r9,
        r10: !set.r10,
        r11: !set.r11,
        r12: !set.r12,
        r13: !set.r13,
        r14: !set.r14,
        r15: !set.r15,
        rip: CODE + 16 * 3 + 3,
        rflags: 2 | 1 | 1 << 10,
    };
    check_eq!(vcpu.regs()?, expected);
    Ok(())
}

/// A state that the processor refuses: userspace is told so, the log says which check fails and, when asked,
/// what the control structure has. The vCPU is good for a right state afterwards.
fn refused() -> Result<()> {
    const INVALID_STATE: u64 = 1 << 31 | 33;
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64; "mov eax, 9", "out 0x10, al", "hlt"))?;
    let right = vcpu.sregs()?;
    // A stack that can't be written.
    vcpu.change_sregs(|sregs| sregs.ss.type_ = 1)?;
    let dump = module::parameter("kvm-intel", "dump_invalid_vmcs");
    fs::write(&dump, "1").context("asking for all of it")?;
    let log = kernel_log::Mark::now()?;
    let exit = vcpu.run();
    fs::write(&dump, "0").context("not asking any more")?;
    check_eq!(exit?, Exit::FailEntry { reason: INVALID_STATE });
    if !module::is_kernels_own()? {
        let said = log.since()?;
        for line in ["SS access rights is 0xc091: type must be 3 or 7", "Rip: 0x8000", "HOST_RIP: "]
        {
            ensure!(said.iter().any(|have| have.contains(line)), "no '{line}' in {said:#?}");
        }
    }
    vcpu.set_sregs(&right)?;
    vcpu.expect_out(0x10, &[9])?;
    vcpu.expect(&Exit::Hlt)
}

/// Exactly those types of VMs can be made that are reported.
fn vm_types() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_VM_TYPES, "KVM_CAP_VM_TYPES")?;
    let types = vm.capability(abi::KVM_CAP_VM_TYPES)?;
    check_eq!(types & 1, 1, "the usual type");
    for kind in (0..40).chain([1 << 32, 1 << 63]) {
        let wanted = kind < 32 && types >> kind & 1 == 1;
        let made = request::make(vm.kvm(), request::CREATE_VM, kind).map(drop);
        check_eq!(made, if wanted { Ok(()) } else { Err(Errno::EINVAL) }, "type {kind:#x}");
    }
    Ok(())
}

/// A processor that refuses a guest's state comes out at once, and the log has all of the control block
/// if it was asked for.
fn refused_block() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64; "mov eax, 9", "out 0x10, al", "hlt"))?;
    let (right, regs) = (vcpu.sregs()?, vcpu.regs()?);
    // Code of 64 and of 32 bits at once.
    vcpu.change_sregs(|sregs| sregs.cs.db = 1)?;
    let dump = module::parameter("kvm-amd", "dump_invalid_vmcb");
    let mut logs = Vec::new();
    for wanted in ["0", "1"] {
        fs::write(&dump, wanted).context("choosing what is logged")?;
        let log = kernel_log::Mark::now()?;
        check_eq!(vcpu.run()?, Exit::FailEntry { reason: u64::MAX });
        logs.push(log.since()?);
    }
    fs::write(&dump, "0").context("not asking any more")?;
    if !module::is_kernels_own()? {
        let has = |log: &[String], what| log.iter().any(|have| have.contains(what));
        ensure!(!has(&logs[0], "nested_cr3"), "not asked for: {:#?}", logs[0]);
        for line in ["nested_cr3", "efer: 0x1d00", "cs: 0x8 0xe9b"] {
            ensure!(has(&logs[1], line), "no '{line}' in {:#?}", logs[1]);
        }
    }
    vcpu.set_sregs(&right)?;
    // An emulated processor may leave others in the block.
    vcpu.set_regs(&regs)?;
    vcpu.expect_out(0x10, &[9])?;
    vcpu.expect(&Exit::Hlt)
}
