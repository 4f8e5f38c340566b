// SPDX-License-Identifier: GPL-2.0
//! CPUID, MSRs and hypercalls, as the guest sees them.

use super::super::cpuid::Cpuid;
use super::super::vcpu::Vcpu;
use super::*;
use crate::processor::{self, Processor};

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-msr-cpuid", cpuid),
    Case::guest("x86/micro-msr-cpuid-limits", cpuid_limits),
    Case::guest("x86/micro-msr-known", known),
    Case::guest("x86/micro-msr-unknown", unknown),
    Case::guest("x86/micro-msr-kept", kept),
    Case::guest("x86/micro-msr-hypercall", hypercall),
    Case::guest("x86/micro-msr-user", user),
    Case::guest("x86/micro-msr-filter", filter),
];

/// Lets the guest run CPUID.
fn guest_cpuid(vcpu: &mut Vcpu, function: u32, index: u32) -> Result<[u32; 4]> {
    vcpu.change_regs(|regs| {
        (regs.rip, regs.rax, regs.rcx) = (CODE, function.into(), index.into());
    })?;
    vcpu.expect(&Exit::Hlt)?;
    let regs = vcpu.regs()?;
    Ok([regs.rax as u32, regs.rbx as u32, regs.rcx as u32, regs.rdx as u32])
}

/// Leaves are what SET_CPUID2 made them.
fn cpuid() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.bare_vcpu(0)?;
    let mut list = vm.supported_cpuid()?;
    let leaf = |entry: &mut abi::kvm_cpuid_entry2, base: u32| {
        (entry.eax, entry.ebx, entry.ecx, entry.edx) = (base, base + 1, base + 2, base + 3);
    };
    leaf(list.leaf_mut(0x4000_0000, 0)?, 0x4000_0001);
    leaf(list.leaf_mut(0x4000_00f0, 0)?, 0x1234_0000);
    let highest = list.find(0, 0).context("no leaf 0")?.eax;
    let extended = list.find(0x8000_0000, 0).context("no leaf 0x80000000")?.eax;
    vcpu.set_cpuid(&list)?;
    vcpu.start(Mode::Long, guest!(64; "cpuid", "hlt"))?;
    let expect = |entry: &abi::kvm_cpuid_entry2| [entry.eax, entry.ebx, entry.ecx, entry.edx];
    let mut seen = 0;
    for entry in list.entries() {
        // The leaves that hold state of the processor.
        if [1, 7, 0xb, 0xd, 0x1f, 0x8000_0001].contains(&entry.function) {
            continue;
        }
        let answer = guest_cpuid(&mut vcpu, entry.function, entry.index)?;
        check_eq!(answer, expect(entry), "leaf {:x}.{}", entry.function, entry.index);
        seen += 1;
    }
    ensure!(seen > 5, "only {seen} leaves");
    check_eq!(
        guest_cpuid(&mut vcpu, 0x4000_00f0, 7)?[0],
        0x1234_0000,
        "an index that doesn't count"
    );
    // Leaves in the gaps between ranges, and indices that aren't there, are zero.
    ensure!(highest < 0x1000_0000 && extended < 0x8100_0000, "{highest:x}, {extended:x}");
    check_eq!(guest_cpuid(&mut vcpu, 7, 99)?, [0; 4], "an index too high");
    // OSXSAVE follows CR4.
    let osxsave = 1 << 27;
    check_eq!(guest_cpuid(&mut vcpu, 1, 0)?[2] & osxsave, 0, "OSXSAVE with CR4.OSXSAVE off");
    if list.find(1, 0).is_some_and(|entry| entry.ecx & 1 << 26 != 0) {
        vcpu.change_sregs(|sregs| sregs.cr4 |= 1 << 18)?;
        check_eq!(guest_cpuid(&mut vcpu, 1, 0)?[2] & osxsave, osxsave, "OSXSAVE with it on");
    }
    Ok(())
}

/// What lies above the highest leaf answers like it on Intel's processors and with zero on AMD's.
fn cpuid_limits() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.bare_vcpu(0)?;
    let mut list = Cpuid::room();
    list.clear();
    let vendor = *vm.supported_cpuid()?.find(0, 0).context("no leaf 0")?;
    *list.leaf_mut(0, 0)? = abi::kvm_cpuid_entry2 { eax: 2, ..vendor };
    let supported = vm.supported_cpuid()?;
    for function in [1, 0x8000_0000, 0x8000_0001, 0x8000_0008] {
        *list.leaf_mut(function, 0)? = *supported.find(function, 0).context("a leaf is missing")?;
    }
    list.leaf_mut(2, 0)?.ebx = 0x0bad_cafe;
    vcpu.set_cpuid(&list)?;
    vcpu.start(Mode::Long, guest!(64; "cpuid", "hlt"))?;
    let intel = Processor::current()? == Processor::Intel;
    let expected = if intel { [0, 0x0bad_cafe, 0, 0] } else { [0; 4] };
    check_eq!(guest_cpuid(&mut vcpu, 0x15, 0)?, expected, "a leaf too high");
    check_eq!(guest_cpuid(&mut vcpu, 2, 0)?, [0, 0x0bad_cafe, 0, 0]);
    Ok(())
}

/// Lets the guest read an MSR; none if that is a #GP.
pub(super) fn guest_rdmsr(vcpu: &mut Vcpu, index: u32) -> Result<Option<u64>> {
    vcpu.start(Mode::Long, guest!(64; "rdmsr", "hlt"))?;
    vcpu.change_regs(|regs| regs.rcx = index.into())?;
    if vcpu.run()? != Exit::Hlt {
        let trap = super::super::trap::Trap::read(vcpu.ram())?;
        check_eq!((trap.vector, trap.error, trap.rip), (13, 0, CODE), "MSR {index:x}");
        return Ok(None);
    }
    let regs = vcpu.regs()?;
    Ok(Some(regs.rdx << 32 | regs.rax & 0xffff_ffff))
}

/// Lets the guest write an MSR; false if that is a #GP.
pub(super) fn guest_wrmsr(vcpu: &mut Vcpu, index: u32, value: u64) -> Result<bool> {
    vcpu.start(Mode::Long, guest!(64; "wrmsr", "hlt"))?;
    vcpu.change_regs(|regs| {
        (regs.rcx, regs.rax, regs.rdx) = (index.into(), value & 0xffff_ffff, value >> 32);
    })?;
    if vcpu.run()? == Exit::Hlt {
        return Ok(true);
    }
    let trap = super::super::trap::Trap::read(vcpu.ram())?;
    check_eq!((trap.vector, trap.error, trap.rip), (13, 0, CODE), "MSR {index:x}");
    Ok(false)
}

/// MSRs that each 64-bit system uses: what the guest writes it reads, and so does the VMM, and the
/// other way round.
fn known() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    let address = 0x0000_1234_5678_9abc;
    for (index, value) in [
        (0x174, 0x8),
        // AMD's processors keep 32 bits of these two.
        (0x175, 0x1234_5678),
        (0x176, 0x9abc_def0),
        (0xc000_0081, 0x0023_0010_0000_0000),
        (0xc000_0082, address + 2),
        (0xc000_0083, address + 3),
        (0xc000_0084, 0x4_7700),
        (0xc000_0100, address + 4),
        (0xc000_0101, address + 5),
        (0xc000_0102, address + 6),
        (0x277, 0x0007_0406_0007_0406),
    ] {
        ensure!(guest_wrmsr(&mut vcpu, index, value)?, "the guest may not write MSR {index:x}");
        // `start` for the next piece of code sets segments, and with them two of the MSRs.
        let base = [0xc000_0100, 0xc000_0101].contains(&index);
        check_eq!(vcpu.msr(index)?, Some(value), "MSR {index:x}");
        if !base {
            check_eq!(guest_rdmsr(&mut vcpu, index)?, Some(value), "MSR {index:x}");
            let other = value ^ 0x100;
            ensure!(vcpu.set_msr(index, other)?, "MSR {index:x} can't be set");
            check_eq!(guest_rdmsr(&mut vcpu, index)?, Some(other), "MSR {index:x}");
        }
    }
    Ok(())
}

/// MSRs that aren't there, and values that can't be, are #GP to the guest and refused to the VMM.
fn unknown() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    for index in [0x4000_0000u32 - 1, 0x1234_5678, 0xc001_ffff, 0xffff_ffff] {
        check_eq!(guest_rdmsr(&mut vcpu, index)?, None, "MSR {index:x}");
        ensure!(!guest_wrmsr(&mut vcpu, index, 0)?, "the guest may write MSR {index:x}");
        check_eq!(vcpu.msr(index)?, None, "MSR {index:x}");
        ensure!(!vcpu.set_msr(index, 1)?, "MSR {index:x} can be set");
    }
    for (index, value, what) in [
        (0x277, 0x0007_0406_0007_0402, "a memory type that isn't one in PAT"),
        (0xc000_0082, 1 << 62, "an LSTAR that isn't canonical"),
        (0xc000_0100, 1 << 62, "a base that isn't canonical"),
        (0xc000_0080, 1 << 40, "an unknown bit in EFER"),
        (0x1b, 1 << 50, "an address that can't be in APIC_BASE"),
    ] {
        ensure!(!vcpu.set_msr(index, value)?, "the VMM may write {what}");
        // TCG doesn't look at the values of MSRs that reach it.
        if !processor::is_tcg()? || ![0xc000_0082, 0xc000_0100].contains(&index) {
            ensure!(!guest_wrmsr(&mut vcpu, index, value)?, "the guest may write {what}");
        }
    }
    Ok(())
}

/// What the guest did to EFER, FS and GS is seen in the special registers.
fn kept() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "mov ecx, 0xc0000080", "rdmsr", "or eax, 1", "wrmsr",
        "mov ecx, 0xc0000100", "mov eax, 0x1000", "mov edx, 0x11", "wrmsr",
        "mov ecx, 0xc0000101", "mov eax, 0x2000", "mov edx, 0x22", "wrmsr",
        "mov ecx, 0xc0000102", "mov eax, 0x3000", "mov edx, 0x33", "wrmsr",
        "swapgs",
        "hlt"
    ))?;
    let before = vcpu.sregs()?.efer;
    vcpu.expect(&Exit::Hlt)?;
    let sregs = vcpu.sregs()?;
    check_eq!(sregs.efer, before | 1);
    check_eq!((sregs.fs.base, sregs.gs.base), (0x11_0000_1000, 0x33_0000_3000));
    check_eq!(vcpu.msr(0xc000_0101)?, Some(0x33_0000_3000));
    check_eq!(vcpu.msr(0xc000_0102)?, Some(0x22_0000_2000));
    Ok(())
}

/// A hypercall that isn't one answers -ENOSYS, with either vendor's instruction; from user code
/// -EPERM.
fn hypercall() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    let own: &[u8] = if Processor::current()? == Processor::Amd {
        guest!(64; "vmmcall", "jmp 2f", "2:", "hlt")
    } else {
        guest!(64; "vmcall", "jmp 2f", "2:", "hlt")
    };
    for code in [own, guest!(64; "vmcall", "hlt"), guest!(64; "vmmcall", "hlt")] {
        vcpu.start(Mode::Long, code)?;
        vcpu.change_regs(|regs| (regs.rax, regs.rbx) = (0x7777, 0x1234))?;
        vcpu.expect(&Exit::Hlt)?;
        check_eq!(vcpu.regs()?.rax as i64, -1000, "-KVM_ENOSYS");
        check_eq!(vcpu.regs()?.rbx, 0x1234);
    }
    vcpu.start(Mode::Long, own)?;
    vcpu.become_user()?;
    vcpu.change_regs(|regs| regs.rax = 0x7777)?;
    vcpu.expect_trap(13, 0)?;
    check_eq!(vcpu.regs()?.rax as i64, -1, "-KVM_EPERM");
    Ok(())
}

const INVALID: u32 = 1;
const UNKNOWN: u32 = 2;
const FILTERED: u32 = 4;

/// Userspace answers for registers that there aren't, and sees refused values.
fn user() -> Result<()> {
    let vm = Vm::new()?;
    let cap = abi::KVM_CAP_X86_USER_SPACE_MSR;
    vm.need(cap, "KVM_CAP_X86_USER_SPACE_MSR")?;
    check_eq!(vm.enable(cap, [8, 0, 0, 0]), Err(Errno::EINVAL), "an unknown reason");
    vm.enable(cap, [(INVALID | UNKNOWN).into(), 0, 0, 0]).context("KVM_CAP_X86_USER_SPACE_MSR")?;
    let code = guest!(64;
        "mov ecx, 0x12345", "rdmsr", "mov rbx, rax", "mov rsi, rdx",
        "mov eax, 0x1234", "mov edx, 0x5678", "wrmsr",
        // A memory type that there isn't.
        "mov ecx, 0x2ff", "mov eax, 2", "xor edx, edx", "wrmsr", "hlt"
    );
    let mut vcpu = vm.long(code)?;
    vcpu.expect(&Exit::Rdmsr { index: 0x1_2345, reason: UNKNOWN })?;
    vcpu.run_page().__bindgen_anon_1.msr.data = 0x1122_3344_5566_7788;
    vcpu.expect(&Exit::Wrmsr { index: 0x1_2345, reason: UNKNOWN, data: 0x5678_0000_1234 })?;
    let regs = vcpu.regs()?;
    check_eq!((regs.rbx, regs.rsi), (0x5566_7788, 0x1122_3344));
    vcpu.expect(&Exit::Wrmsr { index: 0x2ff, reason: INVALID, data: 2 })?;
    vcpu.run_page().__bindgen_anon_1.msr.error = 1;
    vcpu.expect_trap(13, 0)?;
    Ok(())
}

/// A filter as the ioctl takes it: whether the rest is denied, and one range.
#[repr(C)]
struct Filter {
    flags: u64,
    ranges: [[u64; 3]; 16],
}

impl Filter {
    fn new(deny: bool, flags: u32, count: u32, base: u32, bitmap: &[u8]) -> Self {
        let mut ranges = [[0; 3]; 16];
        ranges[0] =
            [u64::from(flags) | u64::from(count) << 32, base.into(), bitmap.as_ptr() as u64];
        Self { flags: deny.into(), ranges }
    }

    fn set(&self, vm: &Vm) -> Result<i32, Errno> {
        request::give(vm.file(), request::X86_SET_MSR_FILTER, self)
    }
}

/// What userspace keeps from a guest is a #GP or userspace's to answer, also where the guest usually
/// needs nobody.
fn filter() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER")?;
    let code = guest!(64;
        "mov ecx, 0xc0000100", "mov eax, 0x7000", "xor edx, edx", "wrmsr", "rdmsr", "mov ebx, eax",
        "mov ecx, 0xc0000102", "wrmsr", "mov ecx, 0x10", "rdmsr", "out 0x10, al", "jmp 2f", "2:", "hlt"
    );
    // Reads of FS.base.
    let bitmap = [0xfeu8; 8];
    let reads = Filter::new(false, 1, 2, 0xc000_0100, &bitmap);
    for bad in [
        Filter::new(false, 0, 2, 0, &bitmap),
        Filter::new(false, 5, 2, 0, &bitmap),
        Filter::new(false, 1, 0x600 * 8 + 64, 0, &bitmap),
        Filter::new(true, 1, 0, 0, &bitmap),
    ] {
        check_eq!(bad.set(&vm), Err(Errno::EINVAL));
    }
    let mut vcpu = vm.long(code)?;
    reads.set(&vm).context("KVM_X86_SET_MSR_FILTER")?;
    vcpu.expect_trap(13, 0)?;
    check_eq!(vcpu.sregs()?.fs.base, 0x7000, "writing is allowed");
    vm.enable(abi::KVM_CAP_X86_USER_SPACE_MSR, [FILTERED.into(), 0, 0, 0])
        .context("KVM_CAP_X86_USER_SPACE_MSR")?;
    vcpu.start(Mode::Long, code)?;
    vcpu.expect(&Exit::Rdmsr { index: 0xc000_0100, reason: FILTERED })?;
    vcpu.run_page().__bindgen_anon_1.msr.data = 0x4321;
    match vcpu.run()? {
        Exit::Out { port: 0x10, .. } => check_eq!(vcpu.regs()?.rbx, 0x4321),
        exit => bail!("{}", vcpu.describe(&exit)),
    }
    // All but writes of FS.base are denied; a vCPU that comes later is held to it, too.
    let only = [0x01u8; 8];
    Filter::new(true, 2, 1, 0xc000_0100, &only).set(&vm).context("the rest denied")?;
    let mut other = vm.vcpu(1)?;
    for vcpu in [&mut vcpu, &mut other] {
        vcpu.start(Mode::Long, code)?;
        vcpu.expect(&Exit::Rdmsr { index: 0xc000_0100, reason: FILTERED })?;
        vcpu.expect(&Exit::Wrmsr { index: 0xc000_0102, reason: FILTERED, data: 0 })?;
        vcpu.expect(&Exit::Rdmsr { index: 0x10, reason: FILTERED })?;
        match vcpu.run()? {
            Exit::Out { port: 0x10, .. } => {}
            exit => bail!("{}", vcpu.describe(&exit)),
        }
    }
    // Userspace itself isn't held to it.
    check_eq!(other.msr(0xc000_0100)?, Some(0x7000));
    // No filter.
    Filter::new(false, 1, 0, 0, &bitmap).set(&vm).context("all allowed")?;
    vcpu.start(Mode::Long, code)?;
    match vcpu.run()? {
        Exit::Out { port: 0x10, .. } => check_eq!(vcpu.regs()?.rbx, 0x7000),
        exit => bail!("{}", vcpu.describe(&exit)),
    }
    Ok(())
}
