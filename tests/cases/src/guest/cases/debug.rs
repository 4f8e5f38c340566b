// SPDX-License-Identifier: GPL-2.0
//! Debugging a guest from outside, and registers that travel in the run page.

use super::super::vcpu::Vcpu;
use super::*;
use crate::processor;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-debug-step", step),
    Case::guest("x86/micro-debug-breakpoint", breakpoint),
    Case::guest("x86/micro-debug-hardware", hardware),
    Case::guest("x86/micro-debug-inject", inject),
    Case::guest("x86/micro-debug-sync-regs", sync_regs),
];

fn debug(vcpu: &Vcpu, control: u32, registers: [u64; 8]) -> Result<(), Errno> {
    let arch = abi::kvm_guest_debug_arch { debugreg: registers };
    vcpu.try_set(request::SET_GUEST_DEBUG, &abi::kvm_guest_debug { control, pad: 0, arch })
}

const STEP: u32 = abi::KVM_GUESTDBG_ENABLE | abi::KVM_GUESTDBG_SINGLESTEP;

/// Step by step through plain and emulated instructions, with the address behind each.
fn step() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_SET_GUEST_DEBUG, "KVM_CAP_SET_GUEST_DEBUG")?;
    let mut vcpu = vm.long(guest!(64;
        "nop", "mov eax, 5", "cpuid", "push rax", "jmp 2f", "nop", "2:", "xor eax, eax", "in al, 0x10", "hlt"
    ))?;
    debug(&vcpu, STEP, [0; 8])?;
    for address in [1, 6, 8, 9, 12, 14] {
        match vcpu.run()? {
            Exit::Debug { exception: 1, pc, dr6 } => {
                check_eq!(pc, CODE + address);
                check_eq!(dr6 & 0x4000, 0x4000, "DR6 of a step");
            }
            exit => bail!("{}", vcpu.describe(&exit)),
        }
        check_eq!(vcpu.regs()?.rip, CODE + address);
    }
    vcpu.expect(&Exit::In { port: 0x10, size: 1, count: 1 })?;
    vcpu.answer(&[9])?;
    match vcpu.run()? {
        Exit::Debug { exception: 1, pc, .. } => check_eq!(pc, CODE + 16),
        exit => bail!("{}", vcpu.describe(&exit)),
    }
    debug(&vcpu, 0, [0; 8])?;
    vcpu.expect(&Exit::Hlt)?;
    let regs = vcpu.regs()?;
    check_eq!((regs.rax, regs.rflags & 0x100), (9, 0), "AL and the trap flag");
    Ok(())
}

/// INT3 goes to the guest unless the debugger wants it.
fn breakpoint() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_SET_GUEST_DEBUG, "KVM_CAP_SET_GUEST_DEBUG")?;
    let mut vcpu = vm.long(guest!(64; "int3", "int3", "nop", "int3", "hlt"))?;
    debug(&vcpu, abi::KVM_GUESTDBG_ENABLE, [0; 8])?;
    let trap = vcpu.expect_trap(3, 0)?;
    check_eq!(trap.rip, CODE + 1);
    if processor::is_tcg()? {
        return Err(Skip("TCG does not let a hypervisor intercept INT3".into()).into());
    }
    debug(&vcpu, abi::KVM_GUESTDBG_ENABLE | abi::KVM_GUESTDBG_USE_SW_BP, [0; 8])?;
    match vcpu.run()? {
        Exit::Debug { exception: 3, pc, .. } => check_eq!(pc, CODE + 1),
        exit => bail!("{}", vcpu.describe(&exit)),
    }
    check_eq!(vcpu.regs()?.rip, CODE + 1);
    // The debugger puts the instruction back.
    vm.ram().write(CODE + 1, 0x90u8)?;
    match vcpu.run()? {
        Exit::Debug { exception: 3, pc, .. } => check_eq!(pc, CODE + 3),
        exit => bail!("{}", vcpu.describe(&exit)),
    }
    debug(&vcpu, 0, [0; 8])?;
    let trap = vcpu.expect_trap(3, 0)?;
    check_eq!(trap.rip, CODE + 4);
    vcpu.expect(&Exit::Hlt)
}

/// Breakpoints in the debug registers; the guest's own registers are left alone.
fn hardware() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_SET_GUEST_DEBUG, "KVM_CAP_SET_GUEST_DEBUG")?;
    let mut vcpu = vm.long(guest!(64;
        "nop", "nop", "mov dword ptr [{data}], 7", "nop", "mov rax, dr0", "mov rbx, dr7", "hlt";
        data = DATA
    ))?;
    let mine = abi::kvm_debugregs {
        db: [0x1234, 0, 0, 0],
        dr6: 0xffff_0ff0,
        dr7: 0x400,
        ..Default::default()
    };
    vcpu.set(request::SET_DEBUGREGS, &mine)?;
    // 0: execution at CODE + 1. 3: writes of 4 bytes at DATA.
    let dr7 = 0x400 | 2 | 0x80 | 0xd << 28;
    let control = abi::KVM_GUESTDBG_ENABLE | abi::KVM_GUESTDBG_USE_HW_BP;
    debug(&vcpu, control, [CODE + 1, 0, 0, DATA, 0, 0, 0, dr7])?;
    match vcpu.run()? {
        Exit::Debug { exception: 1, pc, dr6 } => check_eq!((pc, dr6 & 0xf), (CODE + 1, 1)),
        exit => bail!("{}", vcpu.describe(&exit)),
    }
    debug(&vcpu, control, [0, 0, 0, DATA, 0, 0, 0, dr7 & !2])?;
    match vcpu.run()? {
        Exit::Debug { exception: 1, dr6, .. } => check_eq!(dr6 & 0xf, 8),
        exit => bail!("{}", vcpu.describe(&exit)),
    }
    check_eq!(vm.ram().read::<u32>(DATA)?, 7, "the write is done");
    debug(&vcpu, 0, [0; 8])?;
    vcpu.expect(&Exit::Hlt)?;
    let regs = vcpu.regs()?;
    check_eq!((regs.rax, regs.rbx), (0x1234, 0x400), "the guest's own DR0 and DR7");
    Ok(())
}

/// The debugger hands exceptions to the guest.
fn inject() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_SET_GUEST_DEBUG, "KVM_CAP_SET_GUEST_DEBUG")?;
    let mut vcpu = vm.long(guest!(64; "nop", "hlt"))?;
    let enable = abi::KVM_GUESTDBG_ENABLE;
    debug(&vcpu, enable | abi::KVM_GUESTDBG_INJECT_DB, [0; 8])?;
    let again = debug(&vcpu, enable | abi::KVM_GUESTDBG_INJECT_BP, [0; 8]);
    check_eq!(again, Err(Errno::EBUSY), "a second exception");
    let trap = vcpu.expect_trap(1, 0)?;
    check_eq!(trap.rip, CODE);
    debug(&vcpu, enable | abi::KVM_GUESTDBG_INJECT_BP, [0; 8])?;
    vcpu.expect_trap(3, 0)?;
    Ok(())
}

/// Registers come with each exit and go with each entry, if asked for.
fn sync_regs() -> Result<()> {
    let vm = Vm::new()?;
    let all = abi::KVM_SYNC_X86_VALID_FIELDS;
    check_eq!(vm.capability(abi::KVM_CAP_SYNC_REGS)? & !all, 0, "unknown sets of registers");
    vm.need(abi::KVM_CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS")?;
    let mut vcpu = vm.long(guest!(64; "2:", "add rbx, 1", "out 0x10, al", "jmp 2b"))?;
    vcpu.run_page().kvm_valid_regs = u64::from(all) | 1 << 60;
    check_eq!(vcpu.try_run()?, Err(Errno::EINVAL), "unknown registers wanted");
    vcpu.run_page().kvm_valid_regs = all.into();
    vcpu.run_page().kvm_dirty_regs = 1 << 60;
    check_eq!(vcpu.try_run()?, Err(Errno::EINVAL), "unknown registers given");
    vcpu.run_page().kvm_dirty_regs = 0;
    for value in 1..4 {
        vcpu.expect_out(0x10, &[0])?;
        // SAFETY: the union holds plain numbers.
        let registers = unsafe { vcpu.run_page().s.regs };
        check_eq!(registers.regs.rbx, value);
        check_eq!(registers.regs, vcpu.regs()?);
        check_eq!(registers.sregs, vcpu.sregs()?);
        check_eq!(registers.events, vcpu.events()?);
    }
    let page = vcpu.run_page();
    page.s.regs.regs.rbx = 0x100;
    page.s.regs.sregs.cr2 = 0x1234;
    page.kvm_dirty_regs = u64::from(abi::KVM_SYNC_X86_REGS);
    page.kvm_valid_regs = 0;
    vcpu.expect_out(0x10, &[0])?;
    check_eq!(vcpu.regs()?.rbx, 0x101);
    check_eq!(vcpu.sregs()?.cr2, 0, "SREGS weren't marked");
    let page = vcpu.run_page();
    check_eq!(page.kvm_dirty_regs, 0, "what was taken is not marked any more");
    // SAFETY: as above.
    check_eq!(unsafe { page.s.regs.regs.rbx }, 0x100, "not asked for, not written");
    Ok(())
}
