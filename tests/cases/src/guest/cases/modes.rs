// SPDX-License-Identifier: GPL-2.0
//! Ways from one mode of the processor to another: a boot, virtual 8086, tasks, system management.

use super::super::vcpu::Vcpu;
use super::*;
use crate::processor;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-modes-boot", boot),
    Case::guest("x86/micro-modes-16-bit", sixteen),
    Case::guest("x86/micro-modes-v86", v86),
    Case::guest("x86/micro-modes-task-gate", task_gate),
    Case::guest("x86/micro-modes-task-jump", task_jump),
    Case::guest("x86/micro-modes-task-error", task_error),
    Case::guest("x86/micro-modes-smm", smm),
    Case::guest("x86/micro-modes-smm-moved", smm_moved),
    Case::guest("x86/micro-modes-smm-memory", smm_memory),
];

/// From real mode to 64-bit mode and back to 32 bits, as firmware does it.
fn boot() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    vcpu.start(
        Mode::Real,
        guest!(16;
            "cli", "lgdt [0x6000]",
            "mov eax, cr0", "or al, 1", "mov cr0, eax",
            ".byte 0x66, 0xea", ".long {code} + (2f - 881b)", ".word 0x18",
            ".code32", "2:",
            "mov eax, 0x10", "mov ds, eax", "mov ss, eax", "mov esp, 0x70000",
            "mov eax, 32", "out 0xe8, eax",
            "mov eax, cr4", "or eax, 0x20", "mov cr4, eax",
            "mov eax, 0x200000", "mov cr3, eax",
            "mov ecx, 0xc0000080", "rdmsr", "or eax, 0x100", "wrmsr",
            "mov eax, cr0", "or eax, 0x80000000", "mov cr0, eax",
            ".byte 0xea", ".long {code} + (3f - 881b)", ".word 0x08",
            ".code64", "3:",
            "mov rbx, 0x123456789", "mov eax, 64", "out 0xe8, eax",
            // Back: a far return to 32-bit code, and paging off.
            "mov eax, 0x18", "push rax", "lea rax, [rip + 4f]", "push rax", ".byte 0x48, 0xcb",
            ".code32", "4:",
            "mov eax, 33", "out 0xe8, eax",
            "mov eax, cr0", "and eax, 0x7fffffff", "mov cr0, eax",
            "mov ecx, 0xc0000080", "rdmsr", "out 0xe8, eax";
            code = CODE
        ),
    )?;
    mode::write_tables(vm.ram(), Mode::Long)?;
    vm.ram().write(DATA, 0x7fu16)?;
    vm.ram().write(DATA + 2, mode::GDT as u16)?;
    vm.ram().write(DATA + 4, 0u16)?;
    vcpu.expect_report(32)?;
    vcpu.expect_report(64)?;
    check_eq!(vcpu.regs()?.rbx, 0x1_2345_6789);
    let sregs = vcpu.sregs()?;
    check_eq!((sregs.efer & 0x500, sregs.cs.l, sregs.cs.db), (0x500, 1, 0));
    vcpu.expect_report(33)?;
    check_eq!((vcpu.sregs()?.efer & 0x500, vcpu.sregs()?.cs.l), (0x500, 0), "compatibility mode");
    vcpu.expect_report(0x100)?;
    check_eq!(vcpu.sregs()?.efer & 0x500, 0x100, "LMA went with paging");
    Ok(())
}

/// 16-bit protected mode: offsets wrap at 64 KiB, and limits hold.
fn sixteen() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    vcpu.start(
        Mode::Flat,
        guest!(16;
            "mov bx, 0xfffe", "mov ax, [bx + 0x6002]", "out 0xe8, eax",
            "mov esi, 0x6000", "mov ax, [esi]", "out 0xe8, eax",
            "mov eax, 0x12345678", "push eax", "pop cx", "pop dx",
            "mov ax, 0x58", "mov ds, ax", "mov al, [0xff]", "mov al, [0x100]", "hlt"
        ),
    )?;
    vm.ram().write(DATA, 0x1234u16)?;
    // Data of 256 bytes.
    vm.ram().write(mode::GDT + u64::from(mode::FREE), 0x0000_9300_0000_00ffu64)?;
    vcpu.change_sregs(|sregs| {
        sregs.cs = mode::flat(mode::CODE_16);
        (sregs.ds, sregs.ss) = (mode::flat(mode::DATA_16), mode::flat(mode::DATA_16));
    })?;
    vcpu.change_regs(|regs| regs.rsp = 0x7ff0)?;
    vcpu.expect_report(0x1234)?;
    vcpu.expect_report(0x1234)?;
    let regs = vcpu.regs()?;
    check_eq!(regs.rsp, 0x7ff0);
    if processor::is_tcg()? {
        // It knows no limits.
        return Ok(());
    }
    let trap = vcpu.expect_trap(13, 0)?;
    check_eq!((trap.cs, vcpu.regs()?.rcx & 0xffff), (mode::CODE_16.into(), 0x5678));
    Ok(())
}

/// A virtual-8086 task: addresses as in real mode, and faults that lead out of it.
fn v86() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    let start = |vcpu: &Vcpu, code: &[u8]| -> Result<()> {
        // TCG only leaves for the kernel by a task that the guest itself loaded.
        vcpu.start(
            Mode::Flat,
            guest!(32;
                "mov eax, 0x48", "ltr ax",
                "push 0", "push 0", "push 0", "push 0", "push 0x800", "push 0xff0",
                "push 0x23002", "push 0x900", "push 0", "iretd"
            ),
        )?;
        vcpu.ram().write_bytes(0x9000, code)
    };
    start(
        &vcpu,
        guest!(16;
            "mov ax, 0x2000", "mov ds, ax", "mov bx, [0x10]", "push bx", "sti", "cli", "hlt"
        ),
    )?;
    vm.ram().write(0x2_0010, 0x1234u16)?;
    let trap = vcpu.expect_trap(13, 0)?;
    check_eq!((trap.rip, trap.cs), (0xc, 0x900), "HLT is not allowed");
    check_eq!(trap.rflags & 0x2_3000, 0x2_3000, "VM and IOPL");
    check_eq!((vcpu.regs()?.rbx, vm.ram().read::<u16>(0x8000 + 0xfee)?), (0x1234, 0x1234));
    start(&vcpu, guest!(16; "int 0x21"))?;
    vcpu.expect_trap(13, 0x21 * 8 + 2)?;
    start(&vcpu, guest!(16; "in al, 0x10"))?;
    vcpu.expect_trap(13, 0)?;
    start(&vcpu, guest!(16; "ud2"))?;
    let trap = vcpu.expect_trap(6, 0)?;
    check_eq!((trap.rip, trap.rflags >> 17 & 1), (0, 1));
    Ok(())
}

/// The second task's segment, and its selector.
const SECOND: u64 = 0x3200;
const SELECTOR: u16 = mode::FREE;

/// A 32-bit guest with a second task, that runs `second` at 0x9000.
fn with_task(first: &[u8], second: &[u8]) -> Result<(Vm, Vcpu)> {
    let vm = Vm::new()?;
    let vcpu = vm.vcpu(0)?;
    vcpu.start(Mode::Paged, first)?;
    let ram = vm.ram();
    ram.write_bytes(0x9000, second)?;
    // The first task runs already.
    ram.write(mode::GDT + u64::from(mode::TASK), mode::tss_descriptor(mode::TSS) | 2 << 40)?;
    ram.write(mode::GDT + u64::from(SELECTOR), mode::tss_descriptor(SECOND))?;
    let cr3 = vcpu.sregs()?.cr3 as u32;
    ram.write(mode::TSS + 0x1c, cr3)?;
    for (offset, value) in [
        (0x1c, cr3),
        (0x20, 0x9000),
        (0x24, 2),
        (0x28, 0xa1),
        (0x34, 0xb2),
        (0x38, 0x7_0000),
        (0x48, 0x10),
        (0x4c, 0x18),
        (0x50, 0x10),
        (0x54, 0x10),
        (0x58, 0x10),
        (0x5c, 0x10),
        (0x64, 0x0068_0000),
    ] {
        ram.write(SECOND + offset, value)?;
    }
    Ok((vm, vcpu))
}

/// Lets a vector lead to the second task.
fn set_task_gate(vm: &Vm, vector: u64) -> Result<()> {
    let gate = 0x0000_8500_0000_0000 | u64::from(SELECTOR) << 16;
    vm.ram().write(mode::IDT + 8 * vector, gate)
}

/// Types of the two descriptors: 9 available, 11 busy.
fn types(vm: &Vm) -> Result<(u8, u8)> {
    let type_of = |selector: u16| -> Result<u8> {
        Ok(vm.ram().read::<u8>(mode::GDT + u64::from(selector) + 5)? & 0xf)
    };
    Ok((type_of(mode::TASK)?, type_of(SELECTOR)?))
}

/// An interrupt through a task gate: another task with registers of its own, nested in the first, which
/// IRET leads back to.
fn task_gate() -> Result<()> {
    let (vm, mut vcpu) = with_task(
        guest!(32;
            "mov ebx, 0x1111", "clts", "int 0x50", "out 0xe8, eax", "mov eax, ebx", "out 0xe8, eax",
            "int 0x50", "mov eax, ebx", "out 0xe8, eax"
        ),
        guest!(32;
            "2:", "out 0xe8, eax", "mov eax, ebx", "out 0xe8, eax", "pushfd", "pop eax", "out 0xe8, eax",
            "smsw eax", "out 0xe8, eax", "str eax", "out 0xe8, eax",
            "mov eax, 0xa2", "mov ebx, 0xb3", "iretd", "jmp 2b"
        ),
    )?;
    set_task_gate(&vm, 0x50)?;
    vcpu.expect_report(0xa1)?;
    vcpu.expect_report(0xb2)?;
    let flags = vcpu.report()?;
    check_eq!(flags & 0x4000, 0x4000, "NT");
    let cr0 = vcpu.report()?;
    check_eq!(cr0 & 8, 8, "TS");
    vcpu.expect_report(SELECTOR.into())?;
    check_eq!(vm.ram().read::<u16>(SECOND)?, mode::TASK, "the link back");
    check_eq!(types(&vm)?, (11, 11), "both are busy");
    check_eq!(vm.ram().read::<u32>(mode::TSS + 0x20)?, CODE as u32 + 9, "where the first goes on");
    check_eq!(vm.ram().read::<u32>(mode::TSS + 0x34)?, 0x1111, "EBX of the first");
    // EAX of the first was 0, and is again.
    vcpu.expect_report(0)?;
    check_eq!(types(&vm)?, (11, 9), "the second is free");
    check_eq!(vcpu.sregs()?.tr.selector, mode::TASK);
    vcpu.expect_report(0x1111)?;
    // The second goes on behind its IRET, with what it had.
    vcpu.expect_report(0xa2)?;
    vcpu.expect_report(0xb3)?;
    for _ in 0..3 {
        vcpu.report()?;
    }
    vcpu.expect_report(0x1111)
}

/// A jump and a call to a task, and jumps that can't be.
fn task_jump() -> Result<()> {
    let (vm, mut vcpu) = with_task(
        guest!(32;
            "mov ebx, 0x1111", ".byte 0xea", ".long 0", ".word {second}",
            "mov eax, ebx", "out 0xe8, eax",
            ".byte 0x9a", ".long 0", ".word {second}", "mov eax, 7", "out 0xe8, eax",
            // To itself, which is busy.
            ".byte 0xea", ".long 0", ".word {first}";
            first = mode::TASK, second = SELECTOR
        ),
        guest!(32;
            "mov eax, ebx", "out 0xe8, eax", "pushfd", "pop eax", "out 0xe8, eax",
            ".byte 0xea", ".long 0", ".word {first}",
            "pushfd", "pop eax", "out 0xe8, eax", "iretd";
            first = mode::TASK
        ),
    )?;
    vcpu.expect_report(0xb2)?;
    check_eq!(vcpu.report()? & 0x4000, 0, "NT after a jump");
    check_eq!(types(&vm)?, (9, 11));
    vcpu.expect_report(0x1111)?;
    check_eq!(types(&vm)?, (11, 9));
    check_eq!(vcpu.report()? & 0x4000, 0x4000, "NT after a call");
    vcpu.expect_report(7)?;
    let trap = vcpu.expect_trap(13, mode::TASK.into())?;
    check_eq!(trap.cs, mode::CODE_32.into());
    Ok(())
}

/// An exception through a task gate takes its error code along.
fn task_error() -> Result<()> {
    let (vm, mut vcpu) = with_task(
        guest!(32; "mov eax, 0xfff0", "mov ds, eax", "mov eax, 5", "out 0xe8, eax"),
        guest!(32;
            "pop eax", "out 0xe8, eax", "mov eax, esp", "out 0xe8, eax",
            // Over the instruction that faulted.
            "add dword ptr [0x3020], 2", "iretd"
        ),
    )?;
    set_task_gate(&vm, 13)?;
    vcpu.expect_report(0xfff0)?;
    vcpu.expect_report(0x7_0000)?;
    vcpu.expect_report(5)?;
    // A task that isn't there.
    let (vm, mut vcpu) = with_task(guest!(32; "int 0x50"), &[0xf4])?;
    set_task_gate(&vm, 0x50)?;
    let absent = mode::tss_descriptor(SECOND) & !(1 << 47);
    vm.ram().write(mode::GDT + u64::from(SELECTOR), absent)?;
    vcpu.expect_trap(11, SELECTOR.into())?;
    Ok(())
}

/// Where the processor starts in system management mode, and where it leaves what it did before.
const SMBASE: u64 = 0x3_0000;
const ENTRY: u64 = 0x8000;
const SAVED: u64 = 0xfe00;

/// A guest that counts in EBX, one for each exit.
fn counter(vm: &Vm) -> Result<Vcpu> {
    vm.need(abi::KVM_CAP_X86_SMM, "KVM_CAP_X86_SMM")?;
    if vm.capability(abi::KVM_CAP_MULTI_ADDRESS_SPACE)? > 1 {
        // The handler's memory is that of the second address space: all of it, unless a case has put
        // something there already.
        match vm.set_slot(&vm.slot(1 << 16, 0, vm.ram())) {
            Ok(_) | Err(Errno::EEXIST | Errno::EINVAL) => {}
            Err(error) => bail!("a slot of the second address space: {error:?}"),
        }
    }
    let mut vcpu = vm.long(guest!(64; "2:", "inc rbx", "out 0x10, al", "jmp 2b"))?;
    vcpu.change_regs(|regs| regs.r15 = 0x1234_5678_9abc_def0)?;
    vcpu.expect_out(0x10, &[0])?;
    Ok(vcpu)
}

fn smi(vcpu: &Vcpu) -> Result<()> {
    request::call(vcpu.file(), request::SMI, 0).map(|_| ()).context("KVM_SMI")
}

/// An SMI, its handler, and RSM.
fn smm() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = counter(&vm)?;
    vm.ram().write_bytes(SMBASE + ENTRY, guest!(16;
        "mov eax, 0x5a5a", "mov ebx, 0x77", "mov ecx, cs", "out 0xe8, eax", "mov eax, cr0", "out 0xe8, eax",
        "rsm"
    ))?;
    let before = (vcpu.regs()?, vcpu.sregs()?);
    smi(&vcpu)?;
    vcpu.expect_report(0x5a5a)?;
    check_eq!(u32::from(vcpu.run_page().flags) & abi::KVM_RUN_X86_SMM, abi::KVM_RUN_X86_SMM);
    check_eq!(vcpu.events()?.smi.smm, 1);
    check_eq!(vcpu.regs()?.rcx, SMBASE >> 4, "CS");
    check_eq!(vcpu.sregs()?.cs.base, SMBASE);
    let cr0 = vcpu.report()?;
    check_eq!(cr0 & 0x8000_0001, 0, "CR0");
    vcpu.expect_out(0x10, &[0])?;
    check_eq!(u32::from(vcpu.run_page().flags) & abi::KVM_RUN_X86_SMM, 0);
    let (regs, sregs) = (vcpu.regs()?, vcpu.sregs()?);
    check_eq!((regs.rbx, regs.r15, regs.rsp), (2, before.0.r15, before.0.rsp));
    check_eq!((sregs.cr0, sregs.cr3, sregs.cr4), (before.1.cr0, before.1.cr3, before.1.cr4));
    check_eq!((sregs.efer, sregs.cs, sregs.ss), (before.1.efer, before.1.cs, before.1.ss));
    check_eq!((sregs.gdt, sregs.idt, sregs.tr), (before.1.gdt, before.1.idt, before.1.tr));
    // RSM elsewhere is no instruction.
    vcpu.start(Mode::Long, guest!(64; "rsm"))?;
    vcpu.expect_trap(6, 0)?;
    Ok(())
}

/// The handler moves its own base: the next SMI starts there. What it saved is where it belongs.
fn smm_moved() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = counter(&vm)?;
    vm.ram().write_bytes(
        SMBASE + ENTRY,
        guest!(16;
            "mov eax, 1", "out 0xe8, eax", "mov dword ptr cs:[0xff00], 0x50000", "rsm"
        ),
    )?;
    vm.ram().write_bytes(0x5_8000, guest!(16; "mov eax, 2", "out 0xe8, eax", "rsm"))?;
    smi(&vcpu)?;
    vcpu.expect_report(1)?;
    let saved = SMBASE + SAVED;
    check_eq!(vm.ram().read::<u32>(SMBASE + 0xff00)?, SMBASE as u32, "SMBASE");
    check_eq!(vm.ram().read::<u64>(saved + 0x178)?, CODE + 5, "RIP");
    check_eq!(vm.ram().read::<u64>(SMBASE + 0xffe0)?, 1, "RBX");
    check_eq!(vm.ram().read::<u64>(SMBASE + 0xff80)?, 0x1234_5678_9abc_def0, "R15");
    vcpu.expect_out(0x10, &[0])?;
    smi(&vcpu)?;
    vcpu.expect_report(2)?;
    vcpu.expect_out(0x10, &[0])?;
    check_eq!(vcpu.regs()?.rbx, 3);
    Ok(())
}

/// Memory of a second address space is there in system management mode only.
fn smm_memory() -> Result<()> {
    let vm = Vm::new()?;
    if vm.capability(abi::KVM_CAP_MULTI_ADDRESS_SPACE)? < 2 {
        return Err(Skip("there is but one address space".into()).into());
    }
    let hidden = Ram::new(0x1_0000)?;
    let other = 1 << 16;
    let all = vm.slot(other, 0, vm.ram());
    for region in [
        abi::kvm_userspace_memory_region { memory_size: SMBASE, ..all },
        vm.slot(other + 1, SMBASE, &hidden),
        abi::kvm_userspace_memory_region {
            slot: other + 2,
            guest_phys_addr: 0x4_0000,
            memory_size: 0x10_0000,
            userspace_addr: vm.ram().address() + 0x4_0000,
            ..all
        },
    ] {
        vm.set_slot(&region).context("a slot of the second address space")?;
    }
    let mut vcpu = counter(&vm)?;
    hidden.write_bytes(
        ENTRY,
        guest!(16;
            "mov eax, cs:[0x100]", "out 0xe8, eax", "mov dword ptr cs:[0x104], 0x66", "rsm"
        ),
    )?;
    hidden.write(0x100, 0x5ec_2e7u32)?;
    vm.ram().write(SMBASE + 0x100, 0xbadu32)?;
    smi(&vcpu)?;
    vcpu.expect_report(0x5ec_2e7)?;
    vcpu.expect_out(0x10, &[0])?;
    check_eq!(vcpu.regs()?.rbx, 2);
    check_eq!((hidden.read::<u32>(0x104)?, vm.ram().read::<u32>(SMBASE + 0x104)?), (0x66, 0));
    Ok(())
}
