// SPDX-License-Identifier: GPL-2.0
//! The local APIC's registers as memory, which a processor may serve by itself in part, and what else
//! may be where they are.

use super::super::vcpu::Vcpu;
use super::lapic::{register, with_irqchip};
use super::*;
use crate::module;
use crate::processor::Processor;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-apic-page-priority", priority),
    Case::guest("x86/micro-apic-page-restore", restore),
    Case::guest("x86/micro-apic-page-threshold", threshold),
    Case::guest("x86/micro-apic-page-end", end),
    Case::guest("x86/micro-apic-page-moved", moved),
    Case::guest("x86/micro-apic-page-mode", mode),
    Case::guest("x86/micro-apic-page-second", second),
    Case::guest("x86/micro-apic-page-slot", slot),
    Case::guest("x86/micro-apic-page-smm", smm),
    Case::guest("x86/micro-apic-page-delivery", delivery),
    Case::guest("x86/micro-apic-page-fetch", fetch),
];

/// Where the registers are after reset, and some of them.
const PAGE: u64 = 0xfee0_0000;
const TPR: usize = 0x80;
const APIC_BASE: u32 = 0x1b;

/// Whether all of the task priority can be told from its upper half. The kernel's own module for AMD's
/// processors, which have but that, loses the rest.
fn keeps_lower_half() -> Result<bool> {
    Ok(Processor::current()? == Processor::Intel || !module::is_kernels_own()?)
}

/// As much of a task priority as is kept.
fn kept(tpr: u64) -> Result<u64> {
    Ok(if keeps_lower_half()? { tpr } else { tpr & 0xf0 })
}

/// The task priority by its register and by CR8, in accesses of several sizes.
fn priority() -> Result<()> {
    let (_vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov dword ptr [rbx + 0x80], 0x12345635", "mov rcx, cr8", "mov edx, [rbx + 0x80]",
        "movzx esi, byte ptr [rbx + 0x80]", "out 0x10, al",
        "mov eax, 3", "mov cr8, rax", "mov edx, [rbx + 0x80]", "out 0x11, al",
        "add dword ptr [rbx + 0x80], 0x20", "mov rcx, cr8", "mov edx, [rbx + 0x80]",
        "mov edi, [rbx + 0xa0]", "out 0x12, al"
    ))?;
    vcpu.expect_out(0x10, &[0])?;
    let regs = vcpu.regs()?;
    check_eq!(regs.rcx, 3, "CR8");
    check_eq!((kept(regs.rdx)?, kept(regs.rsi)?), (kept(0x35)?, kept(0x35)?), "TPR");
    check_eq!(kept(register(&vcpu, TPR)?.into())?, kept(0x35)?, "TPR outside");
    vcpu.expect_out(0x11, &[3])?;
    let tpr = vcpu.regs()?.rdx;
    if Processor::current()? == Processor::Intel {
        check_eq!(tpr, 0x30, "TPR after a write to CR8");
    } else {
        check_eq!(tpr & 0xf0, 0x30, "TPR after a write to CR8");
    }
    vcpu.expect_out(0x12, &[3])?;
    let regs = vcpu.regs()?;
    check_eq!((regs.rcx, regs.rdx & 0xf0, regs.rdi & 0xf0), (5, 0x50, 0x50), "CR8, TPR, PPR");
    Ok(())
}

/// What the VMM sets is what the guest reads, before it has run and afterwards.
fn restore() -> Result<()> {
    let (_vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000",
        "2:", "mov edx, [rbx + 0x80]", "mov rcx, cr8", "out 0x10, al", "jmp 2b"
    ))?;
    for tpr in [0x72, 0x20, 0xff, 0] {
        let mut state: abi::kvm_lapic_state = vcpu.get(request::GET_LAPIC)?;
        state.regs[TPR] = tpr as u8 as i8;
        vcpu.set(request::SET_LAPIC, &state)?;
        vcpu.expect_out(0x10, &[0])?;
        let regs = vcpu.regs()?;
        check_eq!((kept(regs.rdx)?, regs.rcx), (kept(tpr)?, tpr >> 4));
    }
    vcpu.change_sregs(|sregs| sregs.cr8 = 9)?;
    vcpu.expect_out(0x10, &[0])?;
    check_eq!((vcpu.regs()?.rdx, vcpu.regs()?.rcx), (0x90, 9));
    Ok(())
}

/// An interrupt waits for the task priority to fall below its class, and comes right then.
fn threshold() -> Result<()> {
    let (vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "lea r14, [rip + 2f]", "sti",
        "mov dword ptr [rbx + 0x80], 0x50", "out 0x10, al",
        "mov dword ptr [rbx + 0x80], 0x5f", "mov dword ptr [rbx + 0x80], 0x50", "out 0x11, al",
        "mov dword ptr [rbx + 0x80], 0x4f", "2:", "nop", "out 0x12, al"
    ))?;
    vcpu.handle(0x55, guest!(64; "mov r15, [rsp]", "mov dword ptr [rbx + 0xb0], 0", "iretq"))?;
    vcpu.expect_out(0x10, &[0])?;
    vm.msi(0xfee0_0000, 0x55)?;
    vcpu.expect_out(0x11, &[0])?;
    check_eq!(vcpu.regs()?.r15, 0, "it came though the priority is its own");
    vcpu.expect_out(0x12, &[0])?;
    check_eq!(vcpu.regs()?.r15, vcpu.regs()?.r14, "where it came");
    Ok(())
}

/// EOI by instructions of several kinds.
fn end() -> Result<()> {
    let (_vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "xor r8d, r8d", "sti",
        "mov dword ptr [rbx + 0x300], 0x44041", "nop", "mov dword ptr [rbx + 0xb0], r8d",
        "mov dword ptr [rbx + 0x300], 0x44041", "nop", "and dword ptr [rbx + 0xb0], 0",
        "mov dword ptr [rbx + 0x300], 0x44041", "nop", "mov eax, 7", "mov [rbx + 0xb0], eax",
        "mov dword ptr [rbx + 0x300], 0x44041", "nop", "out 0x10, al",
        "mov dword ptr [rbx + 0xb0], 0", "out 0x11, al"
    ))?;
    vcpu.handle(0x41, guest!(64; "inc r15", "iretq"))?;
    vcpu.expect_out(0x10, &[7])?;
    check_eq!(vcpu.regs()?.r15, 4, "interrupts");
    check_eq!(register(&vcpu, 0x120)?, 2, "in service");
    vcpu.expect_out(0x11, &[7])?;
    check_eq!(register(&vcpu, 0x120)?, 0, "in service after EOI");
    Ok(())
}

/// The registers are where the guest moves them to; what they left is a hole, and then they are back.
fn moved() -> Result<()> {
    let (_vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov edi, 0xfee10000", "mov dword ptr [rbx + 0x80], 0x20",
        "mov ecx, 0x1b", "rdmsr", "mov r8d, eax", "lea eax, [r8 + 0x10000]", "wrmsr",
        "mov r9d, [rdi + 0x30]", "mov r10d, [rdi + 0x80]",
        "mov dword ptr [rdi + 0x80], 0x40", "mov r11, cr8",
        "mov dword ptr [rbx + 0x80], 0x11223344", "mov esi, [rbx + 0x80]",
        "mov dword ptr [rbx + 0xb0], 0",
        "mov eax, r8d", "wrmsr", "mov r12d, [rbx + 0x30]", "mov r13d, [rbx + 0x80]",
        "mov dword ptr [rbx + 0x80], 0x60", "mov r14, cr8",
        "mov eax, [rdi + 0x80]", "hlt"
    ))?;
    let at = |offset| PAGE + offset;
    vcpu.expect(&Exit::MmioWrite { gpa: at(0x80), data: vec![0x44, 0x33, 0x22, 0x11] })?;
    vcpu.expect(&Exit::MmioRead { gpa: at(0x80), len: 4 })?;
    vcpu.answer(&[1, 2, 3, 4])?;
    vcpu.expect(&Exit::MmioWrite { gpa: at(0xb0), data: vec![0; 4] })?;
    vcpu.expect(&Exit::MmioRead { gpa: at(0x1_0080), len: 4 })?;
    let regs = vcpu.regs()?;
    check_eq!(regs.rsi, 0x0403_0201, "what the VMM answered");
    check_eq!((regs.r9 & 0xff, regs.r10 & 0xf0, regs.r11), (0x14, 0x20, 4), "elsewhere");
    check_eq!((regs.r12 & 0xff, regs.r13 & 0xf0, regs.r14), (0x14, 0x40, 6), "back");
    Ok(())
}

/// In x2APIC mode, and while the APIC is off, nothing is there, not even the task priority.
fn mode() -> Result<()> {
    let (_vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0x80], 0x30",
        "mov ecx, 0x1b", "rdmsr", "mov r8d, eax", "or eax, 0x400", "wrmsr",
        "mov r9d, [rbx + 0x80]", "mov dword ptr [rbx + 0x80], 0x70", "mov r10d, [rbx + 0x30]",
        "mov dword ptr [rbx + 0xb0], 0",
        "mov ecx, 0x808", "rdmsr", "mov r11d, eax", "mov r12, cr8",
        "mov ecx, 0x1b", "mov eax, r8d", "and eax, 0xfffff7ff", "wrmsr", "mov r13d, [rbx + 0x80]",
        "mov eax, r8d", "wrmsr", "mov r14d, [rbx + 0x30]",
        "mov dword ptr [rbx + 0x80], 0x50", "mov r15, cr8", "out 0x10, al"
    ))?;
    vcpu.expect_out(0x10, &[0])?;
    let regs = vcpu.regs()?;
    check_eq!((regs.r9, regs.r10), (0xffff_ffff, 0xffff_ffff), "x2APIC mode");
    check_eq!((regs.r11 & 0xf0, regs.r12), (0x30, 3), "the task priority there");
    check_eq!(regs.r13, 0xffff_ffff, "off");
    check_eq!((regs.r14 & 0xff, regs.r15), (0x14, 5), "on");
    // The VMM resets what the guest left in x2APIC mode.
    let base = vcpu.msr(APIC_BASE)?.context("no APIC_BASE")?;
    for _ in 0..2 {
        vcpu.start(
            Mode::Long,
            guest!(64;
                "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0x80], 0x60", "mov r15, cr8",
                "mov ecx, 0x1b", "rdmsr", "or eax, 0x400", "wrmsr",
                "mov r9d, [rbx + 0x80]", "out 0x10, al"
            ),
        )?;
        vcpu.change_sregs(|sregs| sregs.apic_base = base)?;
        vcpu.expect_out(0x10, &[base as u8])?;
        check_eq!((vcpu.regs()?.r15, vcpu.regs()?.r9), (6, 0xffff_ffff));
    }
    Ok(())
}

/// A vCPU that is made while another one is in x2APIC mode has its registers in memory.
fn second() -> Result<()> {
    let code = guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov dword ptr [rbx + 0x80], 0x40", "mov r8, cr8", "mov r9d, [rbx + 0x80]",
        "mov dword ptr [rbx + 0x80], 0", "sti",
        "mov dword ptr [rbx + 0x300], 0x44041", "nop", "mov dword ptr [rbx + 0xb0], 0",
        "mov dword ptr [rbx + 0x300], 0x44041", "nop", "mov dword ptr [rbx + 0xb0], 0",
        "cli", "out 0x10, al",
        "mov ecx, 0x1b", "rdmsr", "or eax, 0x400", "wrmsr",
        "mov r9d, [rbx + 0x80]", "out 0x11, al"
    );
    let (vm, mut first) = with_irqchip(code)?;
    let handler = guest!(64; "inc r15", "iretq");
    let uses = |vcpu: &mut Vcpu| -> Result<()> {
        vcpu.handle(0x41, handler)?;
        vcpu.expect_out(0x10, &[0])?;
        let regs = vcpu.regs()?;
        check_eq!((regs.r8, regs.r9 & 0xf0, regs.r15), (4, 0x40, 2));
        Ok(())
    };
    let leaves = |vcpu: &mut Vcpu| -> Result<()> {
        match vcpu.run()? {
            Exit::Out { port: 0x11, .. } => check_eq!(vcpu.regs()?.r9, 0xffff_ffff),
            exit => bail!("{}", vcpu.describe(&exit)),
        }
        Ok(())
    };
    uses(&mut first)?;
    leaves(&mut first)?;
    let mut second = vm.vcpu(1)?;
    second
        .set(request::SET_MP_STATE, &abi::kvm_mp_state { mp_state: abi::KVM_MP_STATE_RUNNABLE })?;
    second.start(Mode::Long, code)?;
    uses(&mut second)?;
    leaves(&mut second)
}

/// Memory of the VMM's where the registers would be hides them as long as it is there.
fn slot() -> Result<()> {
    let (vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0x80], 0x20", "mov r8d, [rbx + 0x30]", "out 0x10, al",
        "mov r9d, [rbx + 0x80]", "mov dword ptr [rbx + 0x80], 0x70", "mov r10, cr8",
        "mov dword ptr [rbx + 0xb0], 0x5678", "out 0x11, al",
        "mov r11d, [rbx + 0x80]", "mov dword ptr [rbx + 0x80], 0x40", "mov r12, cr8", "out 0x12, al"
    ))?;
    vcpu.expect_out(0x10, &[0])?;
    check_eq!(vcpu.regs()?.r8 & 0xff, 0x14, "the version");
    let ram = Ram::new(0x1000)?;
    ram.write(0x80, 0x1234u32)?;
    let place = vm.slot(7, PAGE, &ram);
    match vm.set_slot(&place) {
        Ok(_) => {}
        // They have a slot of their own there, if the processor could serve such accesses.
        Err(Errno::EEXIST) if module::is_kernels_own()? => {
            return Err(Skip("the kernel's own modules don't allow that".into()).into());
        }
        Err(error) => bail!("a slot at {PAGE:#x}: {error}"),
    }
    vcpu.expect_out(0x11, &[0])?;
    check_eq!((vcpu.regs()?.r9, vcpu.regs()?.r10), (0x1234, 2), "with the slot");
    check_eq!((ram.read::<u32>(0x80)?, ram.read::<u32>(0xb0)?), (0x70, 0x5678), "its memory");
    vm.set_slot(&abi::kvm_userspace_memory_region { memory_size: 0, ..place })
        .context("deleting the slot")?;
    vcpu.expect_out(0x12, &[0])?;
    check_eq!((vcpu.regs()?.r11 & 0xf0, vcpu.regs()?.r12), (0x20, 4), "without it");
    Ok(())
}

/// In system-management mode they are where they are otherwise.
fn smm() -> Result<()> {
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    vm.need(abi::KVM_CAP_X86_SMM, "KVM_CAP_X86_SMM")?;
    if vm.capability(abi::KVM_CAP_MULTI_ADDRESS_SPACE)? > 1 {
        vm.add_slot(1 << 16, 0, vm.ram())?;
    }
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0x80], 0x20", "out 0x10, al",
        "mov edx, [rbx + 0x80]", "mov rcx, cr8", "mov dword ptr [rbx + 0x80], 0x50",
        "mov rsi, cr8", "out 0x11, al"
    ))?;
    vcpu.ram().write_bytes(0x3_8000, guest!(16;
        "mov ebx, 0xfee00080", "mov eax, [ebx]", "mov dword ptr [ebx], 0x30", "out 0xe8, eax", "rsm"
    ))?;
    vcpu.expect_out(0x10, &[0])?;
    request::call(vcpu.file(), request::SMI, 0).context("KVM_SMI")?;
    check_eq!(vcpu.report()? & 0xf0, 0x20, "TPR");
    vcpu.expect_out(0x11, &[0])?;
    let regs = vcpu.regs()?;
    check_eq!((regs.rdx & 0xf0, regs.rcx, regs.rsi), (0x30, 3, 5), "after RSM");
    Ok(())
}

/// An interrupt can't be delivered to a stack that is no memory.
fn delivery() -> Result<()> {
    if module::is_kernels_own()? && Processor::current()? == Processor::Amd {
        return Err(Skip("the kernel's own module lets the guest run on somewhere".into()).into());
    }
    let (_vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov dword ptr [rbx + 0x80], 0x10", "mov dword ptr [rbx + 0x300], 0x44041",
        "lea rsp, [rbx + 0x800]", "sti", "nop", "hlt"
    ))?;
    match vcpu.run()? {
        Exit::Internal { suberror: abi::KVM_INTERNAL_ERROR_DELIVERY_EV, .. } => {}
        exit => bail!("{}", vcpu.describe(&exit)),
    }
    Ok(())
}

/// Nor can code lie there.
fn fetch() -> Result<()> {
    let (_vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0x80], 0x10", "lea rax, [rbx + 0x80]", "jmp rax"
    ))?;
    match vcpu.run()? {
        Exit::Internal { suberror: abi::KVM_INTERNAL_ERROR_EMULATION, .. } => {}
        exit => bail!("{}", vcpu.describe(&exit)),
    }
    // The kernel's own module for Intel's processors has zeroed memory there for code, and gets to its end.
    if !module::is_kernels_own()? || Processor::current()? != Processor::Intel {
        check_eq!(vcpu.regs()?.rip, PAGE + 0x80);
    }
    Ok(())
}
