// SPDX-License-Identifier: GPL-2.0
//! Exceptions that the guest handles itself: vector, error code, address, and what it returns to.

use nix::sys::mman::MmapAdvise;

use super::super::mode::{BIG_DATA, MORE_TABLES, PTE, map_page};
use super::super::trap::Trap;
use super::super::vcpu::Vcpu;
use super::*;
use crate::{module, processor};

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-exception-plain", plain),
    Case::guest("x86/micro-exception-first-fetch", first_fetch),
    Case::guest("x86/micro-exception-protection", protection),
    Case::guest("x86/micro-exception-page-fault", page_fault),
    Case::guest("x86/micro-exception-page-fault-modes", page_fault_modes),
    Case::guest("x86/micro-exception-user", user),
    Case::guest("x86/micro-exception-user-32", user_32),
    Case::guest("x86/micro-exception-trap-flag", trap_flag),
    Case::guest("x86/micro-exception-debug-registers", debug_registers),
    Case::guest("x86/micro-exception-double-fault", double_fault),
    Case::guest("x86/micro-exception-fpu", fpu),
    Case::guest("x86/micro-exception-software", software),
];

/// A 64-bit guest about to run `code`.
fn guest(vm: &Vm, code: &[u8]) -> Result<Vcpu> {
    vm.long(code)
}

/// Exceptions without an error code, skipped over one after the other.
fn plain() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = guest(
        &vm,
        guest!(64;
            "xor ecx, ecx", "div ecx",
            "ud2",
            "mov eax, 1", "out 0x10, al", "hlt"
        ),
    )?;
    let trap = vcpu.expect_trap(0, 0)?;
    check_eq!((trap.rip, trap.cs), (CODE + 2, mode::CODE_64.into()));
    vcpu.skip(&trap, 2)?;
    let trap = vcpu.expect_trap(6, 0)?;
    check_eq!(trap.rip, CODE + 4);
    check_eq!(trap.rflags & 2, 2);
    vcpu.skip(&trap, 2)?;
    vcpu.expect_out(0x10, &[1])?;
    vcpu.expect(&Exit::Hlt)
}

/// The handler's page isn't mapped yet by the host: the guest comes out after the exception was
/// delivered and before the handler's first instruction, and goes on there.
fn first_fetch() -> Result<()> {
    const PAGES: u64 = 16;
    let vm = Vm::new()?;
    // Each page has a mapping of its own.
    vm.ram().advise(MmapAdvise::MADV_NOHUGEPAGE)?;
    let mut vcpu = vm.vcpu(0)?;
    let handler = guest!(64; "out 0x10, al", "hlt");
    for at in (0..PAGES).map(|page| 0x30_0000 + 0x1000 * page) {
        vcpu.start(Mode::Long, guest!(64; "div ecx"))?;
        vm.ram().write_bytes(at, handler)?;
        vcpu.set_gate(Mode::Long, 0, at)?;
        vcpu.expect_out(0x10, &[0])?;
        // SS, RSP, RFLAGS, CS and RIP, once.
        check_eq!(vcpu.regs()?.rsp, vcpu.stack() - 40, "handler at {at:x}");
        check_eq!(vm.ram().read::<u64>(vcpu.stack() - 40)?, CODE);
    }
    Ok(())
}

/// General protection, segment not present, stack fault: with their error codes.
fn protection() -> Result<()> {
    let vm = Vm::new()?;
    // Descriptor FREE is data that is not present.
    vm.ram().write(mode::GDT + u64::from(mode::FREE), 0x00cf_1300_0000_ffffu64)?;
    let mut vcpu = guest(
        &vm,
        guest!(64;
            "mov eax, 0xfff0", "mov ds, eax",
            "mov eax, {free}", "mov ds, eax",
            "mov rbx, 0x8000000000000000", "mov al, [rbx]",
            "mov rbp, 0x8000000000000000", "mov al, [rbp]",
            "mov eax, 0x80000000", "mov cr0, rax",
            "hlt";
            free = mode::FREE
        ),
    )?;
    // TCG doesn't tell the stack from other data here.
    let stack = if processor::is_tcg()? { 13 } else { 12 };
    for (vector, error, length) in
        [(13, 0xfff0, 2), (11, mode::FREE.into(), 2), (13, 0, 2), (stack, 0, 3), (13, 0, 3)]
    {
        let trap = vcpu.expect_trap(vector, error)?;
        vcpu.skip(&trap, length)?;
    }
    vcpu.expect(&Exit::Hlt)
}

const PAGE: u64 = BIG_DATA + 0x3000;

/// Lets the guest do something to [`PAGE`], with this entry for it: the error code, if it faults.
fn fault(vm: &Vm, vcpu: &mut Vcpu, code: &[u8], entry: u64) -> Result<Option<u64>> {
    vcpu.start(Mode::Long, code)?;
    map_page(vm.ram(), PAGE, entry, MORE_TABLES)?;
    match vcpu.run()? {
        Exit::Hlt => return Ok(None),
        Exit::Out { port: super::super::trap::PORT, .. } => {}
        exit => bail!("{}", vcpu.describe(&exit)),
    }
    let trap = Trap::read(vm.ram())?;
    check_eq!((trap.vector, trap.cr2), (14, PAGE + 8));
    check_eq!(vcpu.sregs()?.cr2, PAGE + 8);
    Ok(Some(trap.error))
}

/// All reasons for a page fault of the kernel, with their error codes.
fn page_fault() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    let read = guest!(64; "mov rax, [{page} + 8]", "hlt"; page = PAGE);
    let write = guest!(64; "mov [{page} + 8], rax", "hlt"; page = PAGE);
    let fetch = guest!(64; "mov eax, {page} + 8", "jmp rax"; page = PAGE);
    let no_execute = 1 << 63;
    // TCG says of a reserved bit that the page isn't present.
    let p = u64::from(!processor::is_tcg()?);
    let present = PAGE | PTE;
    // HLT for those who get there.
    vm.ram().write(PAGE + 8, 0xf4u8)?;
    for (what, code, entry, error) in [
        ("read", read, present, None),
        ("write", write, present, None),
        ("fetch", fetch, present, None),
        ("read, not present", read, PAGE, Some(0)),
        ("write, not present", write, PAGE, Some(2)),
        ("fetch, not present", fetch, PAGE, Some(0x10)),
        ("read, read-only", read, present & !2, None),
        ("write, read-only", write, present & !2, Some(3)),
        ("read, no execution", read, present | no_execute, None),
        ("fetch, no execution", fetch, present | no_execute, Some(0x11)),
        ("read, reserved bit", read, present | 1 << 51, Some(8 | p)),
        ("write, reserved bit", write, present | 1 << 51, Some(0xa | p)),
    ] {
        vm.ram().write(PAGE + 8, 0xf4u8)?;
        let seen = fault(&vm, &mut vcpu, code, entry).with_context(|| what.to_owned())?;
        check_eq!(seen, error, "{what}");
    }
    // With CR0.WP off the kernel may write.
    vcpu.change_sregs(|sregs| sregs.cr0 &= !mode::CR0_WP)?;
    vcpu.start(Mode::Long, write)?;
    vcpu.change_sregs(|sregs| sregs.cr0 &= !mode::CR0_WP)?;
    map_page(vm.ram(), PAGE, present & !2, MORE_TABLES)?;
    vcpu.expect(&Exit::Hlt)
}

/// Page faults with two-level and PAE paging.
fn page_fault_modes() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    for (mode, directory) in [(Mode::Paged, 0x20_0000 + 4 * 64), (Mode::Pae, 0x20_2000 + 8 * 128)] {
        // 256 MiB on: nothing is mapped there.
        vcpu.start(mode, guest!(32; "mov dword ptr [0x10000123], 5", "hlt"))?;
        vm.ram().write(directory, 0u32)?;
        let trap = vcpu.expect_trap(14, 2)?;
        check_eq!((trap.cr2, trap.rip), (0x1000_0123, CODE), "{mode:?}");
    }
    Ok(())
}

/// User code: privileged instructions, the kernel's pages, gates that aren't for it. The kernel's stack
/// comes from the task-state segment.
fn user() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    for (what, code, vector, error) in [
        ("HLT", guest!(64; "hlt"), 13, 0),
        ("CLI", guest!(64; "cli"), 13, 0),
        ("MOV from CR0", guest!(64; "mov rax, cr0"), 13, 0),
        ("RDMSR", guest!(64; "rdmsr"), 13, 0),
        ("IN", guest!(64; "in al, 0x10"), 13, 0),
        ("LGDT", guest!(64; "lgdt [rsp]"), 13, 0),
        ("a gate of the kernel", guest!(64; "int 0x80"), 13, 0x80 * 8 + 2),
        ("the kernel's page, read", guest!(64; "mov al, [{page}]"; page = PAGE), 14, 5),
        ("the kernel's page, written", guest!(64; "mov [{page}], al"; page = PAGE), 14, 7),
        ("a breakpoint's gate of the kernel", guest!(64; "int3"), 13, 3 * 8 + 2),
    ] {
        vcpu.start(Mode::Long, code)?;
        map_page(vm.ram(), PAGE, PAGE | 3, MORE_TABLES)?;
        vcpu.become_user()?;
        let trap = vcpu.expect_trap(vector, error).with_context(|| what.to_owned())?;
        check_eq!((trap.rip, trap.cs), (CODE, mode::USER_CODE_64.into()), "{what}");
        check_eq!(trap.rsp, vcpu.stack(), "{what}");
    }
    // SYSCALL and SYSRET.
    vcpu.start(Mode::Long, guest!(64; "mov eax, 5", "syscall", "mov ebx, eax", "hlt"))?;
    vm.ram().write_bytes(BIG_DATA, guest!(64; "inc eax", "sysretq"))?;
    ensure!(vcpu.set_msr(0xc000_0081, 0x0030_0008 << 32)?, "STAR");
    ensure!(vcpu.set_msr(0xc000_0082, BIG_DATA)?, "LSTAR");
    vcpu.change_sregs(|sregs| sregs.efer |= 1)?;
    vcpu.become_user()?;
    let trap = vcpu.expect_trap(13, 0)?;
    check_eq!((trap.rip, trap.cs), (CODE + 9, 0x43));
    check_eq!(vcpu.regs()?.rbx, 6);
    Ok(())
}

/// 32-bit user code below a 64-bit kernel.
fn user_32() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(32;
        "mov eax, 0xffffffff", "inc eax", "dec eax", "int 0x80", "mov ebx, [{data}]", "hlt"; data = DATA
    ))?;
    // A gate for everybody.
    let gate = mode::IDT + 0x80 * 16;
    let kernels: u64 = vm.ram().read(gate)?;
    vm.ram().write(gate, kernels | 3 << 45)?;
    vm.ram().write(DATA, 0x1234_5678u32)?;
    vcpu.change_sregs(|sregs| {
        sregs.cs = mode::flat(mode::USER_CODE_32);
        (sregs.ds, sregs.ss) = (mode::flat(mode::USER_DATA), mode::flat(mode::USER_DATA));
    })?;
    let trap = vcpu.expect_trap(0x80, 0)?;
    check_eq!((trap.cs, vcpu.regs()?.rax), (mode::USER_CODE_32.into(), 0xffff_ffff));
    let trap = vcpu.expect_trap(13, 0)?;
    check_eq!((trap.cs, vcpu.regs()?.rbx), (mode::USER_CODE_32.into(), 0x1234_5678));
    Ok(())
}

const TF: u64 = 1 << 8;

/// With the trap flag each instruction ends in a #DB, those that KVM emulates as well.
fn trap_flag() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = guest(
        &vm,
        guest!(64;
            "nop", "mov eax, 7", "out 0x10, al", "cpuid", "mov [rbx], eax", "nop", "hlt"
        ),
    )?;
    vcpu.change_regs(|regs| (regs.rflags, regs.rbx) = (2 | TF, 0xd000_0000))?;
    for (rip, port) in [(1, false), (6, false), (8, true), (10, false)] {
        if port {
            vcpu.expect_out(0x10, &[7])?;
        }
        let trap = vcpu.expect_trap(1, 0)?;
        check_eq!(trap.rip, CODE + rip);
        ensure!(trap.rflags & TF != 0, "the flag is gone from {:x}", trap.rflags);
    }
    // CPUID changed RBX: back to the hole.
    vcpu.change_regs(|regs| (regs.rax, regs.rbx) = (7, 0xd000_0000))?;
    vcpu.expect(&Exit::MmioWrite { gpa: 0xd000_0000, data: vec![7, 0, 0, 0] })?;
    // The kernel's own modules forget the trap when the VMM did the instruction's last part.
    if !module::is_kernels_own()? {
        let trap = vcpu.expect_trap(1, 0)?;
        check_eq!(trap.rip, CODE + 12, "after MMIO");
    }
    let trap = vcpu.expect_trap(1, 0)?;
    check_eq!(trap.rip, CODE + 13, "after NOP");
    Ok(())
}

/// The guest's own breakpoints, for execution, writes and port accesses, with what DR6 says.
fn debug_registers() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = guest(
        &vm,
        guest!(64;
            // DR0: execution of the instruction at label 3; DR1: writes of 4 bytes.
            "lea rax, [rip + 3f]", "mov dr0, rax",
            "mov eax, {data}", "mov dr1, rax",
            "mov eax, 0x400 | 1 | 4 | (0xd << 20)", "mov dr7, rax",
            "mov dword ptr [{data}], 1",
            "nop",
            "3:", "mov ebx, 9",
            "mov rax, dr6", "mov rcx, dr7",
            "hlt";
            data = DATA
        ),
    )?;
    vcpu.expect_trap(1, 0)?;
    check_eq!(vm.ram().read::<u32>(DATA)?, 1, "the write is done");
    let trap = vcpu.expect_trap(1, 0)?;
    check_eq!(vcpu.regs()?.rbx, 0, "the instruction is not done");
    // RF in the frame lets it pass.
    vm.ram().write(trap.frame + 32, trap.rflags | 1 << 16)?;
    vcpu.expect(&Exit::Hlt)?;
    let regs = vcpu.regs()?;
    check_eq!(regs.rbx, 9);
    check_eq!(regs.rax & 1, 1, "DR6");
    check_eq!(regs.rcx & 0xff_ffff, 0xd0_0405);
    Ok(())
}

/// A fault while another is delivered is a double fault if both say so.
fn double_fault() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = guest(&vm, guest!(64; "xor ecx, ecx", "div ecx"))?;
    // The gate of #DE is not present.
    vm.ram().write(mode::IDT, 0u64)?;
    let trap = vcpu.expect_trap(8, 0)?;
    check_eq!(trap.rip, CODE + 2);
    // Without that of #DF it is the end.
    vcpu.start(Mode::Long, guest!(64; "xor ecx, ecx", "div ecx"))?;
    vm.ram().write(mode::IDT, 0u64)?;
    vm.ram().write(mode::IDT + 8 * 16, 0u64)?;
    vcpu.expect(&Exit::Shutdown)?;
    // #UD with a gate that isn't there is just that.
    let vm = Vm::new()?;
    let mut vcpu = guest(&vm, guest!(64; "ud2"))?;
    vm.ram().write(mode::IDT + 6 * 16, 0x0000_0e00_0008_0000u64)?;
    // It came up while another event was delivered, which TCG doesn't say.
    let external = u64::from(!processor::is_tcg()?);
    vcpu.expect_trap(11, 6 * 8 + 2 + external)?;
    Ok(())
}

/// Faults of x87 and SSE.
fn fpu() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = guest(
        &vm,
        guest!(64;
            "mov rax, cr0", "or eax, 8", "mov cr0, rax",
            "fninit",
            "clts", "fninit",
            "mov dword ptr [{data}], 0", "ldmxcsr [{data}]",
            "xorps xmm0, xmm0", "divss xmm0, xmm0",
            "mov word ptr [{data}], 0x33b", "fldcw [{data}]", "fld1", "fldz", "fdivp", "fwait",
            "hlt";
            data = DATA
        ),
    )?;
    let trap = vcpu.expect_trap(7, 0)?;
    vcpu.skip(&trap, 2)?;
    // TCG knows no exceptions of SSE.
    if !processor::is_tcg()? {
        let trap = vcpu.expect_trap(19, 0)?;
        vcpu.skip(&trap, 4)?;
    }
    vcpu.expect_trap(16, 0)?;
    Ok(())
}

/// INT n, INT3 and BOUND's relatives return behind the instruction.
fn software() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = guest(&vm, guest!(64; "int 0x40", "int3", "int 0x0d", "mov eax, 3", "hlt"))?;
    let trap = vcpu.expect_trap(0x40, 0)?;
    check_eq!(trap.rip, CODE + 2);
    let trap = vcpu.expect_trap(3, 0)?;
    check_eq!(trap.rip, CODE + 3);
    // INT 13 pushes no error code, which the stub for 13 expects: the frame is one word short.
    let trap = vcpu.trap()?;
    check_eq!((trap.vector, trap.error), (13, CODE + 5));
    Ok(())
}
