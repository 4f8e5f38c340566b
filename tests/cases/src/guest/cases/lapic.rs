// SPDX-License-Identifier: GPL-2.0
//! The local APIC in the kernel.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::super::thread::beside;
use super::super::vcpu::Vcpu;
use super::*;
use crate::module;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-lapic-self-ipi", self_ipi),
    Case::guest("x86/micro-lapic-priority", priority),
    Case::guest("x86/micro-lapic-nested", nested),
    Case::guest("x86/micro-lapic-disabled", disabled),
    Case::guest("x86/micro-lapic-busy", busy),
    Case::guest("x86/micro-lapic-one-shot", one_shot),
    Case::guest("x86/micro-lapic-periodic", periodic),
    Case::guest("x86/micro-lapic-bus-cycle", bus_cycle),
    Case::guest("x86/micro-lapic-deadline", deadline),
    Case::guest("x86/micro-lapic-deadline-away", deadline_away),
    Case::guest("x86/micro-lapic-x2apic", x2apic),
    Case::guest("x86/micro-lapic-start", start),
    Case::guest("x86/micro-lapic-started", started),
    Case::guest("x86/micro-lapic-wake", wake),
    Case::guest("x86/micro-lapic-nmi", nmi),
    Case::guest("x86/micro-lapic-logical", logical),
    Case::guest("x86/micro-lapic-ping-pong", ping_pong),
];

/// A VM with interrupt controllers in the kernel, and its first vCPU about to run 64-bit code.
pub(super) fn with_irqchip(code: &[u8]) -> Result<(Vm, Vcpu)> {
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    let vcpu = vm.long(code)?;
    Ok((vm, vcpu))
}

/// A register of the local APIC.
pub(super) fn register(vcpu: &Vcpu, at: usize) -> Result<u32> {
    let state: abi::kvm_lapic_state = vcpu.get(request::GET_LAPIC)?;
    Ok(u32::from_le_bytes(std::array::from_fn(|byte| state.regs[at + byte] as u8)))
}

/// Whether a vector's bit is set in the ISR (`0x100`), TMR (`0x180`) or IRR (`0x200`).
pub(super) fn vector_bit(vcpu: &Vcpu, at: usize, vector: usize) -> Result<bool> {
    Ok(register(vcpu, at + vector / 32 * 16)? >> (vector % 32) & 1 == 1)
}

/// An IPI to itself: delivered, in service until EOI, and the same again waits for that.
fn self_ipi() -> Result<()> {
    let (_vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov dword ptr [rbx + 0x300], 0x44041", "nop", "out 0x10, al",
        "sti", "nop", "nop", "out 0x11, al",
        "mov dword ptr [rbx + 0x300], 0x44041", "nop", "out 0x12, al",
        "mov dword ptr [rbx + 0xb0], 0", "nop", "out 0x13, al",
        "mov dword ptr [rbx + 0xb0], 0", "nop", "out 0x14, al"
    ))?;
    vcpu.expect_out(0x10, &[0])?;
    ensure!(vector_bit(&vcpu, 0x200, 0x41)?, "the vector is not in the IRR");
    vcpu.expect_trap(0x41, 0)?;
    ensure!(vector_bit(&vcpu, 0x100, 0x41)?, "the vector is not in the ISR");
    ensure!(!vector_bit(&vcpu, 0x200, 0x41)?, "the vector is still in the IRR");
    vcpu.expect_out(0x11, &[0])?;
    vcpu.expect_out(0x12, &[0])?;
    vcpu.expect_trap(0x41, 0)?;
    vcpu.expect_out(0x13, &[0])?;
    vcpu.expect_out(0x14, &[0])?;
    ensure!(!vector_bit(&vcpu, 0x100, 0x41)?, "the vector is in the ISR after EOI");
    Ok(())
}

/// The task priority, by CR8 and by its register, holds back what isn't above it.
fn priority() -> Result<()> {
    let (_vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "sti",
        "mov eax, 5", "mov cr8, rax", "mov ecx, [rbx + 0x80]", "mov edx, [rbx + 0xa0]",
        "mov dword ptr [rbx + 0x300], 0x44041", "mov dword ptr [rbx + 0x300], 0x4405f",
        "nop", "out 0x10, al",
        "mov dword ptr [rbx + 0x300], 0x44061", "nop", "nop", "out 0x11, al",
        "mov dword ptr [rbx + 0xb0], 0",
        "mov dword ptr [rbx + 0x80], 0x40", "mov rcx, cr8", "nop", "out 0x12, al",
        "mov dword ptr [rbx + 0xb0], 0",
        "xor eax, eax", "mov cr8, rax", "nop", "nop", "out 0x13, al"
    ))?;
    vcpu.expect_out(0x10, &[5])?;
    check_eq!((vcpu.regs()?.rcx, vcpu.regs()?.rdx), (0x50, 0x50), "TPR and PPR");
    vcpu.expect_trap(0x61, 0)?;
    check_eq!(register(&vcpu, 0xa0)?, 0x60, "PPR while 0x61 is in service");
    vcpu.expect_out(0x11, &[5])?;
    vcpu.expect_trap(0x5f, 0)?;
    vcpu.expect_out(0x12, &[5])?;
    check_eq!(vcpu.regs()?.rcx, 4, "CR8");
    vcpu.expect_trap(0x41, 0)?;
    vcpu.expect_out(0x13, &[0])
}

/// A vector of a higher class interrupts the handler of a lower one; a lower one waits for EOI.
fn nested() -> Result<()> {
    let (_vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "sti",
        "mov dword ptr [rbx + 0x300], 0x44051", "nop", "out 0x10, al",
        "mov dword ptr [rbx + 0xb0], 0", "nop", "out 0x11, al"
    ))?;
    // The handler sends a lower and a higher one, lets both come, and ends.
    vcpu.handle(
        0x51,
        guest!(64;
            "mov dword ptr [rbx + 0x300], 0x44041", "mov dword ptr [rbx + 0x300], 0x44071",
            "sti", "nop", "nop", "cli", "out 0x12, al",
            "mov dword ptr [rbx + 0xb0], 0", "out 0x13, al",
            "mov dword ptr [rbx + 0xb0], 0", "iretq"
        ),
    )?;
    vcpu.expect_trap(0x71, 0)?;
    ensure!(vector_bit(&vcpu, 0x100, 0x51)? && vector_bit(&vcpu, 0x100, 0x71)?, "ISR");
    vcpu.expect_out(0x12, &[0])?;
    vcpu.expect_out(0x13, &[0])?;
    vcpu.expect_trap(0x41, 0)?;
    vcpu.expect_out(0x10, &[0])?;
    vcpu.expect_out(0x11, &[0])
}

/// An APIC that is off by its spurious-vector register takes no interrupts but NMIs.
fn disabled() -> Result<()> {
    let (vm, mut vcpu) =
        with_irqchip(guest!(64; "sti", "nop", "out 0x10, al", "nop", "out 0x11, al"))?;
    vcpu.expect_out(0x10, &[0])?;
    check_eq!(vm.msi(0xfee0_0000, 0x41), Ok(0), "a message to an APIC that is off");
    vcpu.nmi()?;
    vcpu.expect_trap(2, 0)?;
    vcpu.expect_out(0x11, &[0])
}

/// Messages reach a guest that does nothing but exit.
fn busy() -> Result<()> {
    const TIMES: u32 = 20;
    let (vm, mut vcpu) = with_irqchip(guest!(64;
        "mov r14d, 0xfee00000", "mov dword ptr [r14 + 0xf0], 0x1ff", "sti",
        "2:", "xor eax, eax", "cpuid", "cmp r15d, {times}", "jb 2b", "cli",
        "xor eax, eax", "out 0x10, al";
        times = TIMES
    ))?;
    vcpu.handle(0x51, guest!(64; "inc r15d", "mov dword ptr [r14 + 0xb0], 0", "iretq"))?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let sender = scope.spawn(|| -> Result<()> {
            while !is_over.load(Ordering::Relaxed) {
                vm.msi(0xfee0_0000, 0x51)?;
                thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        });
        let all_came = vcpu.expect_out(0x10, &[0]);
        is_over.store(true, Ordering::Relaxed);
        match sender.join() {
            Ok(sent) => sent.context("sending messages")?,
            Err(_) => bail!("the other thread came to harm"),
        }
        all_came
    })
}

/// The timer once: wakes from HLT, with the count run down.
fn one_shot() -> Result<()> {
    let (_vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov dword ptr [rbx + 0x3e0], 0xb", "mov dword ptr [rbx + 0x320], 0x50",
        "mov dword ptr [rbx + 0x380], 5000000", "mov esi, [rbx + 0x390]",
        "sti", "hlt", "cli",
        "mov edi, [rbx + 0x390]", "mov dword ptr [rbx + 0xb0], 0",
        // Masked, it runs down all the same.
        "mov dword ptr [rbx + 0x320], 0x10050", "mov dword ptr [rbx + 0x380], 1000000",
        "2:", "pause", "cmp dword ptr [rbx + 0x390], 0", "jne 2b",
        "sti", "nop", "out 0x10, al"
    ))?;
    vcpu.expect_trap(0x50, 0)?;
    vcpu.expect_out(0x10, &[0])?;
    let regs = vcpu.regs()?;
    ensure!(regs.rsi > 0 && regs.rsi <= 5_000_000, "the count after it was set: {}", regs.rsi);
    check_eq!(regs.rdi, 0, "the count after the interrupt");
    Ok(())
}

/// The timer again and again, on a guest that halts and on one that doesn't.
fn periodic() -> Result<()> {
    let (_vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov dword ptr [rbx + 0x3e0], 0xb", "mov dword ptr [rbx + 0x320], 0x20050",
        "xor r15d, r15d", "mov dword ptr [rbx + 0x380], 1000000",
        "2:", "sti", "hlt", "cmp r15d, 20", "jb 2b", "out 0x10, al",
        "3:", "pause", "cmp r15d, 40", "jb 3b",
        "mov dword ptr [rbx + 0x380], 0", "out 0x11, al"
    ))?;
    vcpu.handle(0x50, guest!(64; "inc r15d", "mov dword ptr [rbx + 0xb0], 0", "iretq"))?;
    vcpu.expect_out(0x10, &[0])?;
    vcpu.expect_out(0x11, &[0])
}

/// The timer at a time of the TSC.
fn deadline() -> Result<()> {
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    vm.need(abi::KVM_CAP_TSC_DEADLINE_TIMER, "KVM_CAP_TSC_DEADLINE_TIMER")?;
    let mut vcpu = vm.bare_vcpu(0)?;
    let mut cpuid = vm.supported_cpuid()?;
    cpuid.leaf_mut(1, 0)?.ecx |= 1 << 24;
    vcpu.set_cpuid(&cpuid)?;
    vcpu.start(Mode::Long, guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov dword ptr [rbx + 0x320], 0x40050",
        "mov ecx, 0x6e0",
        "rdtsc", "shl rdx, 32", "or rax, rdx", "add rax, r8", "mov r9, rax", "mov rdx, rax",
        "shr rdx, 32", "wrmsr",
        "sti", "hlt",
        "rdtsc", "shl rdx, 32", "or rax, rdx", "mov r10, rax",
        "rdmsr", "mov r11d, eax", "or r11d, edx",
        "out 0x10, al",
        // A time that has passed: at once.
        "mov dword ptr [rbx + 0xb0], 0", "mov eax, 1", "xor edx, edx", "wrmsr", "nop", "out 0x11, al"
    ))?;
    // 5 ms.
    let khz = request::call(vcpu.file(), request::GET_TSC_KHZ, 0)?;
    vcpu.change_regs(|regs| regs.r8 = khz as u64 * 5)?;
    vcpu.expect_trap(0x50, 0)?;
    vcpu.expect_out(0x10, &[0])?;
    let regs = vcpu.regs()?;
    ensure!(regs.r10 >= regs.r9, "woken {} ticks early", regs.r9 - regs.r10);
    check_eq!(regs.r11, 0, "the deadline after it passed");
    vcpu.expect_trap(0x50, 0)?;
    vcpu.expect_out(0x11, &[1])
}

/// A deadline that passes while the guest spins, while the VMM has the vCPU, and one that is taken back.
fn deadline_away() -> Result<()> {
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    vm.need(abi::KVM_CAP_TSC_DEADLINE_TIMER, "KVM_CAP_TSC_DEADLINE_TIMER")?;
    let mut vcpu = vm.bare_vcpu(0)?;
    let mut cpuid = vm.supported_cpuid()?;
    cpuid.leaf_mut(1, 0)?.ecx |= 1 << 24;
    vcpu.set_cpuid(&cpuid)?;
    // R8: cycles to the deadline.
    vcpu.start(
        Mode::Long,
        guest!(64;
            "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
            "mov dword ptr [rbx + 0x320], 0x40050",
            "mov ecx, 0x6e0", "sti",
            "call 5f", "2:", "test r15, r15", "jz 2b", "out 0x10, al",
            "call 5f", "out 0x11, al", "nop", "out 0x12, al",
            "call 5f", "xor eax, eax", "xor edx, edx", "wrmsr",
            "rdtsc", "shl rdx, 32", "lea r9, [rax + rdx]", "lea r9, [r9 + 2 * r8]",
            "3:", "rdtsc", "shl rdx, 32", "or rax, rdx", "cmp rax, r9", "jb 3b", "out 0x13, al",
            "5:", "rdtsc", "shl rdx, 32", "or rax, rdx", "add rax, r8", "mov rdx, rax",
            "shr rdx, 32", "wrmsr", "xor r15d, r15d", "ret"
        ),
    )?;
    vcpu.handle(0x50, guest!(64; "inc r15d", "mov dword ptr [rbx + 0xb0], 0", "iretq"))?;
    let khz = request::call(vcpu.file(), request::GET_TSC_KHZ, 0)?;
    let cycles = khz as u64 * 5;
    vcpu.change_regs(|regs| regs.r8 = cycles)?;
    let ticks = |vcpu: &Vcpu| vcpu.regs().map(|regs| regs.r15);
    let mut out = |port| match vcpu.run()? {
        Exit::Out { port: at, .. } if at == port => ticks(&vcpu),
        exit => bail!("{}", vcpu.describe(&exit)),
    };
    check_eq!(out(0x10)?, 1, "while it spins");
    check_eq!(out(0x11)?, 0, "before the deadline");
    thread::sleep(Duration::from_millis(10));
    check_eq!(out(0x12)?, 1, "after it passed outside");
    check_eq!(out(0x13)?, 0, "taken back");
    Ok(())
}

/// The same by MSRs.
fn x2apic() -> Result<()> {
    let (_vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ecx, 0x1b", "rdmsr", "or eax, 0xc00", "wrmsr",
        "mov ecx, 0x802", "rdmsr", "mov r8d, eax",
        "mov ecx, 0x80d", "rdmsr", "mov r9d, eax",
        "mov ecx, 0x80f", "mov eax, 0x1ff", "xor edx, edx", "wrmsr",
        "sti",
        // To itself, by SELF_IPI and by ICR.
        "mov ecx, 0x83f", "mov eax, 0x41", "wrmsr", "nop",
        "mov ecx, 0x80b", "xor eax, eax", "wrmsr",
        "mov ecx, 0x830", "mov eax, 0x42", "xor edx, edx", "wrmsr", "nop",
        "mov ecx, 0x80b", "xor eax, eax", "wrmsr", "out 0x10, al",
        // There is no second word of ICR, and EOI takes nothing but 0.
        "mov ecx, 0x831", "rdmsr",
        "mov ecx, 0x80b", "mov eax, 1", "wrmsr", "out 0x11, al"
    ))?;
    vcpu.expect_trap(0x41, 0)?;
    vcpu.expect_trap(0x42, 0)?;
    vcpu.expect_out(0x10, &[0])?;
    check_eq!((vcpu.regs()?.r8, vcpu.regs()?.r9), (0, 1), "ID and LDR");
    let trap = vcpu.expect_trap(13, 0)?;
    vcpu.skip(&trap, 2)?;
    // The kernel's own modules take everything.
    if !module::is_kernels_own()? {
        vcpu.expect_trap(13, 0)?;
    }
    Ok(())
}

/// The length of a cycle that the timer counts is the VMM's choice, before there are vCPUs.
fn bus_cycle() -> Result<()> {
    let vm = Vm::new()?;
    let cap = abi::KVM_CAP_X86_APIC_BUS_CYCLES_NS;
    vm.need(cap, "KVM_CAP_X86_APIC_BUS_CYCLES_NS")?;
    check_eq!(vm.capability(cap)?, 1);
    check_eq!(vm.enable(cap, [40, 0, 0, 0]), Err(Errno::ENXIO), "no local APICs");
    vm.create_irqchip()?;
    check_eq!(vm.enable(cap, [0; 4]), Err(Errno::EINVAL), "0 ns");
    vm.enable(cap, [40, 0, 0, 0]).context("40 ns")?;
    check_eq!(vm.capability(cap)?, 40);
    // Half a million cycles of 40 ns make 20 ms.
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "mov dword ptr [rbx + 0x3e0], 0xb",
        "mov dword ptr [rbx + 0x320], 0x41", "out 0x10, al",
        "mov dword ptr [rbx + 0x380], 500000", "sti", "2:", "hlt", "jmp 2b"
    ))?;
    check_eq!(vm.enable(cap, [50, 0, 0, 0]), Err(Errno::EINVAL), "there is a vCPU");
    vcpu.expect_out(0x10, &[0])?;
    let start = std::time::Instant::now();
    vcpu.expect_trap(0x41, 0)?;
    let took = start.elapsed().as_millis();
    ensure!((19..5000).contains(&took), "20 ms took {took}");
    Ok(())
}

/// The VMM says that a start-up message came, and for which page.
fn started() -> Result<()> {
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    let _first = vm.vcpu(0)?;
    let mut second = vm.vcpu(1)?;
    vm.ram().write_bytes(0x9_0000, guest!(16; "mov ax, cs", "out 0xe8, eax"))?;
    let state = |mp_state| abi::kvm_mp_state { mp_state };
    second.set(request::SET_MP_STATE, &state(abi::KVM_MP_STATE_INIT_RECEIVED))?;
    let mut events = second.events()?;
    (events.flags, events.sipi_vector) = (abi::KVM_VCPUEVENT_VALID_SIPI_VECTOR, 0x90);
    second.set(request::SET_VCPU_EVENTS, &events)?;
    second.set(request::SET_MP_STATE, &state(abi::KVM_MP_STATE_SIPI_RECEIVED))?;
    // The upper half of EAX is what it was.
    match second.run()? {
        Exit::Out { port: 0xe8, data, .. } => check_eq!(data[..2], [0x00, 0x90]),
        exit => bail!("{}", second.describe(&exit)),
    }
    check_eq!(
        second.get::<abi::kvm_mp_state>(request::GET_MP_STATE)?,
        state(abi::KVM_MP_STATE_RUNNABLE)
    );
    Ok(())
}

/// INIT and SIPI start the second processor in real mode, at the page they name.
fn start() -> Result<()> {
    let (vm, mut first) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov dword ptr [rbx + 0x310], 0x01000000",
        "mov dword ptr [rbx + 0x300], 0x4500",
        "mov dword ptr [rbx + 0x300], 0x4609",
        "2:", "pause", "cmp dword ptr [{data}], 0", "je 2b",
        "mov eax, [{data}]", "out 0xe8, eax";
        data = DATA
    ))?;
    let mut second = vm.vcpu(1)?;
    vm.ram().write_bytes(
        0x9000,
        guest!(16;
            "mov ax, cs", "mov bx, ax", "mov eax, 0x1234", "out 0xe8, eax",
            "xor ax, ax", "mov ds, ax", "mov word ptr [0x6000], 0x77", "2:", "hlt", "jmp 2b"
        ),
    )?;
    beside(&mut second, |exits| {
        first.expect_report(0x77)?;
        exits.expect_report(0x1234)
    })?;
    check_eq!(second.regs()?.rbx & 0xffff, 0x900, "CS");
    check_eq!(second.sregs()?.cs.base, 0x9000);
    Ok(())
}

/// An IPI wakes another vCPU from HLT.
fn wake() -> Result<()> {
    let (vm, mut first) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "out 0x10, al",
        "mov dword ptr [rbx + 0x310], 0x01000000", "mov dword ptr [rbx + 0x300], 0x4041",
        "out 0x11, al"
    ))?;
    let mut second = running_second(
        &vm,
        guest!(64;
            "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "mov eax, 1", "out 0xe8, eax",
            "2:", "sti", "hlt", "cli", "mov eax, r15d", "out 0xe8, eax", "jmp 2b"
        ),
    )?;
    second.handle(0x41, guest!(64; "inc r15d", "mov dword ptr [rbx + 0xb0], 0", "iretq"))?;
    first.expect_out(0x10, &[0])?;
    beside(&mut second, |exits| {
        exits.expect_report(1)?;
        ensure!(exits.is_quiet(), "HLT does not halt");
        first.expect_out(0x11, &[0])?;
        exits.expect_report(1)?;
        ensure!(exits.is_quiet(), "HLT does not halt again");
        // And by a message.
        check_eq!(vm.msi(0xfee0_1000, 0x41), Ok(1));
        exits.expect_report(2)
    })
}

/// The second vCPU, running as if it had been started.
fn running_second(vm: &Vm, code: &[u8]) -> Result<Vcpu> {
    let vcpu = vm.vcpu(1)?;
    vcpu.start_at(Mode::Long, SECOND, code)?;
    let state = abi::kvm_mp_state { mp_state: abi::KVM_MP_STATE_RUNNABLE };
    vcpu.set(request::SET_MP_STATE, &state)?;
    Ok(vcpu)
}

/// Where the second vCPU's code is.
const SECOND: u64 = 0xa000;

/// An NMI by IPI comes out of HLT with interrupts off. (The kernel's own modules find a new vCPU's APIC
/// only when some APIC was changed after it was made.)
fn nmi() -> Result<()> {
    let (vm, mut first) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov dword ptr [rbx + 0x310], 0x01000000", "mov dword ptr [rbx + 0x300], 0x4400",
        "out 0x11, al"
    ))?;
    let mut second = running_second(
        &vm,
        guest!(64;
            "mov eax, 1", "out 0xe8, eax", "cli", "hlt", "mov eax, r15d", "out 0xe8, eax", "2:", "hlt", "jmp 2b"
        ),
    )?;
    second.handle(2, guest!(64; "mov r15d, 77", "iretq"))?;
    beside(&mut second, |exits| {
        exits.expect_report(1)?;
        ensure!(exits.is_quiet(), "HLT does not halt");
        first.expect_out(0x11, &[0])?;
        exits.expect_report(77)
    })
}

/// Logical destinations: flat mode's masks, and everybody but the sender.
fn logical() -> Result<()> {
    let (vm, mut first) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov dword ptr [rbx + 0xe0], -1", "mov dword ptr [rbx + 0xd0], 0x01000000", "out 0x10, al",
        // To mask 2, mask 3, all but self, physical 1.
        "mov dword ptr [rbx + 0x310], 0x02000000", "mov dword ptr [rbx + 0x300], 0x4841", "out 0x11, al",
        "sti",
        "mov dword ptr [rbx + 0x310], 0x03000000", "mov dword ptr [rbx + 0x300], 0x4841", "nop",
        "mov dword ptr [rbx + 0xb0], 0", "out 0x12, al",
        "mov dword ptr [rbx + 0x300], 0xc4041", "nop", "out 0x13, al"
    ))?;
    let mut second = running_second(
        &vm,
        guest!(64;
            "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
            "mov dword ptr [rbx + 0xe0], -1", "mov dword ptr [rbx + 0xd0], 0x02000000",
            "mov eax, 0", "out 0xe8, eax",
            "2:", "sti", "hlt", "cli", "mov eax, r15d", "out 0xe8, eax", "jmp 2b"
        ),
    )?;
    first.handle(0x41, guest!(64; "inc r15d", "iretq"))?;
    second.handle(
        0x41,
        guest!(64;
            "inc r15d", "mov eax, 0xfee00000", "mov dword ptr [rax + 0xb0], 0", "iretq"
        ),
    )?;
    first.expect_out(0x10, &[0])?;
    beside(&mut second, |exits| {
        exits.expect_report(0)?;
        for (port, on_first, on_second) in [(0x11, 0, 1), (0x12, 1, 2), (0x13, 1, 3)] {
            first.expect_out(port, &[first.regs()?.rax as u8])?;
            check_eq!(first.regs()?.r15, on_first, "port {port:x}");
            exits.expect_report(on_second)?;
        }
        Ok(())
    })
}

/// Two vCPUs that wake each other from HLT, a thousand times: no wake-up is lost.
fn ping_pong() -> Result<()> {
    const ROUNDS: u32 = 1000;
    let (vm, mut first) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov dword ptr [rbx + 0x310], 0x01000000",
        "2:", "mov dword ptr [rbx + 0x300], 0x4041", "sti", "hlt", "cli",
        "cmp r15d, {rounds}", "jb 2b", "mov eax, r15d", "out 0xe8, eax"; rounds = ROUNDS
    ))?;
    let mut second = running_second(
        &vm,
        guest!(64;
            "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
            "mov dword ptr [rbx + 0x310], 0", "mov eax, 5", "out 0xe8, eax",
            "2:", "sti", "hlt", "cli", "cmp r15d, r14d", "je 2b", "inc r14d",
            "mov dword ptr [rbx + 0x300], 0x4042", "jmp 2b"
        ),
    )?;
    let count = guest!(64; "inc r15d", "mov dword ptr [rbx + 0xb0], 0", "iretq");
    first.handle(0x42, count)?;
    second.handle(0x41, count)?;
    beside(&mut second, |exits| {
        exits.expect_report(5)?;
        first.expect_report(ROUNDS)
    })
}
