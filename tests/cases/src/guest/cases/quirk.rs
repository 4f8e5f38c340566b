// SPDX-License-Identifier: GPL-2.0
//! Behaviour that is as it always was until userspace turns it off.

use super::super::vcpu::Vcpu;
use super::*;
use crate::processor::Processor;
use micro::stats::Stats;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-quirk-hypercall", hypercall),
    Case::guest("x86/micro-quirk-hypercall-read-only", hypercall_read_only),
    Case::guest("x86/micro-quirk-out-7e", out_7e),
    Case::guest("x86/micro-quirk-feature-msrs", feature_msrs),
    Case::guest("x86/micro-quirk-caches", caches),
    Case::guest("x86/micro-quirk-memory-types", memory_types),
];

/// `KVM_X86_QUIRK_IGNORE_GUEST_PAT`.
const IGNORE_GUEST_PAT: u32 = 1 << 9;

/// Bit of a page-table entry.
const WRITABLE: u64 = 2;

const VMCALL: [u8; 3] = [0x0f, 0x01, 0xc1];
const VMMCALL: [u8; 3] = [0x0f, 0x01, 0xd9];

/// The hypercall instructions: this processor's, the other vendor's.
fn hypercalls() -> Result<([u8; 3], [u8; 3])> {
    let amd = Processor::current()? == Processor::Amd;
    Ok(if amd { (VMMCALL, VMCALL) } else { (VMCALL, VMMCALL) })
}

/// Turns a quirk off, where that can be done.
fn turn_off(vm: &Vm, quirk: u32) -> Result<()> {
    let cap = abi::KVM_CAP_DISABLE_QUIRKS2;
    if vm.capability(cap)? & quirk == 0 {
        return Err(Skip("the quirk can't be turned off".into()).into());
    }
    vm.enable(cap, [quirk.into(), 0, 0, 0]).map(|_| ()).context("KVM_CAP_DISABLE_QUIRKS2")
}

/// A guest that makes an unknown hypercall with `instruction`.
fn caller(vm: &Vm, instruction: [u8; 3]) -> Result<Vcpu> {
    let vcpu = vm.long(&[instruction.as_slice(), guest!(64; "hlt")].concat())?;
    vcpu.change_regs(|regs| regs.rax = 0x7777)?;
    Ok(vcpu)
}

fn bytes_at_code(vm: &Vm) -> Result<[u8; 3]> {
    let at = |offset| vm.ram().read::<u8>(CODE + offset);
    Ok([at(0)?, at(1)?, at(2)?])
}

/// The other vendor's instruction becomes this processor's, or raises #UD and stays.
fn hypercall() -> Result<()> {
    let (own, foreign) = hypercalls()?;
    let vm = Vm::new()?;
    let mut vcpu = caller(&vm, foreign)?;
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(vcpu.regs()?.rax as i64, -1000, "-KVM_ENOSYS");
    check_eq!(bytes_at_code(&vm)?, own);

    let vm = Vm::new()?;
    turn_off(&vm, abi::KVM_X86_QUIRK_FIX_HYPERCALL_INSN)?;
    let mut vcpu = caller(&vm, foreign)?;
    vcpu.expect_trap(6, 0)?;
    check_eq!(bytes_at_code(&vm)?, foreign);
    let mut vcpu = caller(&Vm::new()?, own)?;
    vcpu.expect(&Exit::Hlt)
}

/// On AMD's processors a guest that turns its caches off has them on all the same, and exits to be
/// told otherwise; or it has what it wants, and reads CR0 by itself.
fn caches() -> Result<()> {
    const READS: u64 = 1000;
    let exits = |vm: &Vm| -> Result<u64> {
        let mut vcpu = vm.long(guest!(64;
            "mov rax, cr0", "bts rax, 30", "mov cr0, rax",
            "mov ecx, {count}", "2:", "mov rbx, cr0", "bt rbx, 30", "jnc 3f",
            "dec ecx", "jnz 2b",
            "3: hlt";
            count = READS as u32
        ))?;
        vcpu.expect(&Exit::Hlt)?;
        check_eq!(vcpu.regs()?.rcx, 0, "reads of CR0 without CD");
        ensure!(vcpu.sregs()?.cr0 & 1 << 30 != 0, "what the VMM sees has no CD");
        Stats::open(vcpu.file())?.value("exits")
    };
    let vm = Vm::new()?;
    let with = exits(&vm)?;
    let vm = Vm::new()?;
    turn_off(&vm, abi::KVM_X86_QUIRK_CD_NW_CLEARED)?;
    let without = exits(&vm)?;
    ensure!(without < READS / 2, "{without} exits without the quirk");
    let amd = Processor::current()? == Processor::Amd;
    ensure!(!amd || with >= READS, "{with} exits with the quirk");
    Ok(())
}

/// On Intel's processors the guest's PAT doesn't count unless userspace wants that, which takes
/// a processor that watches its own caches.
fn memory_types() -> Result<()> {
    let info = std::fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
    let flags = info.lines().find(|line| line.starts_with("flags")).context("no flags")?;
    let has_choice = Processor::current()? == Processor::Amd
        || flags.split_whitespace().any(|flag| flag == "ss");
    let vm = Vm::new()?;
    let cap = abi::KVM_CAP_DISABLE_QUIRKS2;
    let is_offered = vm.capability(cap)? & IGNORE_GUEST_PAT != 0;
    check_eq!(is_offered, has_choice, "the quirk can be turned off");
    let result = vm.enable(cap, [IGNORE_GUEST_PAT.into(), 0, 0, 0]);
    check_eq!(result.err(), (!has_choice).then_some(Errno::EINVAL));
    let mut vcpu = vm.long(guest!(64;
        // Everything uncached, and back.
        "mov ecx, 0x277", "xor eax, eax", "xor edx, edx", "wrmsr",
        "mov rbx, {data}", "mov dword ptr [rbx], 0x1234", "mov esi, [rbx]",
        "mov eax, 0x00070406", "mov edx, eax", "wrmsr",
        "mov edi, [rbx]", "hlt";
        data = DATA
    ))?;
    vcpu.expect(&Exit::Hlt)?;
    check_eq!((vcpu.regs()?.rsi, vcpu.regs()?.rdi), (0x1234, 0x1234));
    Ok(())
}

/// Where the guest itself may not write, it gets the page fault of the write.
fn hypercall_read_only() -> Result<()> {
    let (_, foreign) = hypercalls()?;
    let vm = Vm::new()?;
    let mut vcpu = caller(&vm, foreign)?;
    mode::map_page(vm.ram(), CODE, CODE | mode::PTE & !WRITABLE, mode::MORE_TABLES)?;
    let trap = vcpu.expect_trap(14, 3)?;
    check_eq!(trap.rip, CODE);
    check_eq!(bytes_at_code(&vm)?, foreign);
    Ok(())
}

/// An OUT to port 0x7e is over when userspace sees it, or it is not.
fn out_7e() -> Result<()> {
    let code = guest!(64; "out 0x7e, al", "mov ebx, 1", "hlt");
    let vm = Vm::new()?;
    let mut vcpu = vm.long(code)?;
    vcpu.expect_out(0x7e, &[0])?;
    check_eq!(vcpu.regs()?.rip, CODE + 2);
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(vcpu.regs()?.rbx, 1);

    let vm = Vm::new()?;
    turn_off(&vm, abi::KVM_X86_QUIRK_OUT_7E_INC_RIP)?;
    let mut vcpu = vm.long(code)?;
    vcpu.expect_out(0x7e, &[0])?;
    check_eq!(vcpu.regs()?.rip, CODE);
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(vcpu.regs()?.rbx, 1);
    Ok(())
}

/// Feature MSRs of a vCPU begin with what the host can give, or with zeroes.
fn feature_msrs() -> Result<()> {
    const PLATFORM_INFO: u32 = 0xce;
    const PERF_CAPABILITIES: u32 = 0x345;
    let vm = Vm::new()?;
    let vcpu = vm.bare_vcpu(0)?;
    check_eq!(vcpu.msr(PLATFORM_INFO)?, Some(1 << 31));
    let amd = Processor::current()? == Processor::Amd;
    check_eq!(vcpu.msr(0x8b)?, Some(if amd { 0x0100_0065 } else { 1 << 32 }));
    // There are no counters, and userspace can say so.
    check_eq!(vcpu.msr(PERF_CAPABILITIES)?, Some(0));
    ensure!(vcpu.set_msr(PERF_CAPABILITIES, 0)?, "zero is refused");
    let vm = Vm::new()?;
    turn_off(&vm, abi::KVM_X86_QUIRK_STUFF_FEATURE_MSRS)?;
    let vcpu = vm.bare_vcpu(0)?;
    check_eq!(vcpu.msr(PLATFORM_INFO)?, Some(0));
    check_eq!(vcpu.msr(0x8b)?, Some(0), "the microcode's revision");
    Ok(())
}
