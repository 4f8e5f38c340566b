// SPDX-License-Identifier: GPL-2.0
//! What a guest finds out about its processor: features, memory types, machine checks.

use super::super::cpuid::Cpuid;
use super::super::vcpu::Vcpu;
use super::*;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-machine-cpuid-list", cpuid_list),
    Case::guest("x86/micro-machine-cpuid-true", cpuid_true),
    Case::guest("x86/micro-machine-features", features),
    Case::guest("x86/micro-machine-mtrr", mtrr),
    Case::guest("x86/micro-machine-mce", mce),
    Case::guest("x86/micro-machine-mce-refused", mce_refused),
    Case::guest("x86/micro-machine-apic-base", apic_base),
];

/// The list is given whole or not at all.
fn cpuid_list() -> Result<()> {
    let vm = Vm::new()?;
    let all = vm.supported_cpuid()?.entries().len();
    ensure!(all > 10, "{all} leaves");
    let mut list = Cpuid::room();
    list.clear();
    let short = request::exchange(vm.kvm(), request::GET_SUPPORTED_CPUID, &mut list);
    check_eq!(short, Err(Errno::E2BIG), "no room");
    let list = vm.supported_cpuid()?;
    for (index, entry) in list.entries().iter().enumerate() {
        let twice = list.entries()[..index]
            .iter()
            .any(|other| (other.function, other.index) == (entry.function, entry.index));
        ensure!(!twice, "leaf {:x}.{} is there twice", entry.function, entry.index);
        check_eq!(entry.padding, [0; 3], "leaf {:x}", entry.function);
    }
    Ok(())
}

/// What the list says and what capabilities say agree, and no feature is there that this processor
/// hasn't got.
fn cpuid_true() -> Result<()> {
    let vm = Vm::new()?;
    let list = vm.supported_cpuid()?;
    let leaf = |function, index| list.find(function, index).copied().unwrap_or_default();
    let bit = |word: u32, bit: u32| word >> bit & 1 == 1;
    check_eq!(bit(leaf(1, 0).ecx, 26), vm.has(abi::KVM_CAP_XCRS)?, "XSAVE");
    if bit(leaf(1, 0).ecx, 24) {
        ensure!(vm.has(abi::KVM_CAP_TSC_DEADLINE_TIMER)?, "a deadline timer");
    }
    if bit(leaf(1, 0).ecx, 26) {
        let size = leaf(0xd, 0).ecx.max(4096);
        check_eq!(vm.capability(abi::KVM_CAP_XSAVE2)?, size, "the size of XSAVE's area");
    }
    // SAFETY: every processor that has 64 bits has the instruction, and these leaves.
    let (host_1, host_7, host_d) = unsafe {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        (__cpuid(1), __cpuid_count(7, 0), __cpuid_count(0xd, 0))
    };
    // x2APIC, TSC deadline and the hypervisor's bit come from KVM; OSXSAVE from the guest.
    let own = 1 << 21 | 1 << 24 | 1 << 31 | 1 << 27;
    check_eq!(leaf(1, 0).ecx & !own & !host_1.ecx, 0, "leaf 1, ECX");
    check_eq!(leaf(1, 0).edx & !host_1.edx, 0, "leaf 1, EDX");
    // TSC_ADJUST and UMIP may be emulated.
    check_eq!(leaf(7, 0).ebx & !2 & !host_7.ebx, 0, "leaf 7, EBX");
    check_eq!(leaf(7, 0).ecx & !(1 << 2 | 1 << 4) & !host_7.ecx, 0, "leaf 7, ECX");
    check_eq!(leaf(0xd, 0).eax & !host_d.eax, 0, "XCR0");
    let bits = leaf(0x8000_0008, 0).eax;
    ensure!((32..=52).contains(&(bits & 0xff)), "{} bits of physical addresses", bits & 0xff);
    ensure!(bit(leaf(0x8000_0001, 0).edx, 29), "no 64-bit mode");
    Ok(())
}

/// Instructions of features that are there work, and end in #UD where they aren't.
fn features() -> Result<()> {
    let vm = Vm::new()?;
    let list = vm.supported_cpuid()?;
    let has = |function: u32, register: fn(&abi::kvm_cpuid_entry2) -> u32, bit: u32| {
        list.find(function, 0).is_some_and(|leaf| register(leaf) >> bit & 1 == 1)
    };
    let instructions: [(&str, &[u8], bool); 10] = [
        ("POPCNT", guest!(64; "popcnt eax, ecx"), has(1, |l| l.ecx, 23)),
        ("CMPXCHG16B", guest!(64; "cmpxchg16b [rsp - 64]"), has(1, |l| l.ecx, 13)),
        ("MOVBE", guest!(64; "movbe eax, [rsp - 64]"), has(1, |l| l.ecx, 22)),
        ("AESENC", guest!(64; "aesenc xmm0, xmm1"), has(1, |l| l.ecx, 25)),
        ("RDRAND", guest!(64; "rdrand eax"), has(1, |l| l.ecx, 30)),
        ("RDFSBASE", guest!(64; "rdfsbase rax"), has(7, |l| l.ebx, 0)),
        ("TZCNT", guest!(64; "tzcnt eax, ecx"), true),
        ("ADCX", guest!(64; "adcx eax, ecx"), has(7, |l| l.ebx, 19)),
        ("CLFLUSHOPT", guest!(64; "clflushopt [rsp - 64]"), has(7, |l| l.ebx, 23)),
        ("RDTSCP", guest!(64; "rdtscp"), has(0x8000_0001, |l| l.edx, 27)),
    ];
    let mut vcpu = vm.vcpu(0)?;
    for (name, code, there) in instructions {
        if !there {
            continue;
        }
        vcpu.start(Mode::Long, &[code, &[0xf4]].concat())?;
        vcpu.change_sregs(|sregs| {
            if has(7, |l| l.ebx, 0) {
                sregs.cr4 |= 1 << 16;
            }
        })?;
        vcpu.expect(&Exit::Hlt).with_context(|| name.to_owned())?;
    }
    // A bit of CR4 whose feature CPUID doesn't tell of is refused.
    let mut without = vm.supported_cpuid()?;
    without.leaf_mut(7, 0)?.ebx &= !1;
    let vcpu = vm.bare_vcpu(100)?;
    vcpu.set_cpuid(&without)?;
    vcpu.start(Mode::Long, &[0xf4])?;
    let mut sregs = vcpu.sregs()?;
    sregs.cr4 |= 1 << 16;
    check_eq!(vcpu.try_set(request::SET_SREGS, &sregs), Err(Errno::EINVAL), "FSGSBASE");
    Ok(())
}

/// Lets the guest write an MSR and read it back; none if writing is a #GP.
fn write_read(vcpu: &mut Vcpu, index: u32, value: u64) -> Result<Option<u64>> {
    vcpu.start(Mode::Long, guest!(64; "wrmsr", "rdmsr", "out 0x10, al"))?;
    vcpu.change_regs(|regs| {
        (regs.rcx, regs.rax, regs.rdx) = (index.into(), value & 0xffff_ffff, value >> 32);
    })?;
    if !matches!(vcpu.run()?, Exit::Out { port: 0x10, .. }) {
        let trap = super::super::trap::Trap::read(vcpu.ram())?;
        check_eq!((trap.vector, trap.error), (13, 0), "MSR {index:x}");
        return Ok(None);
    }
    let regs = vcpu.regs()?;
    Ok(Some(regs.rdx << 32 | regs.rax & 0xffff_ffff))
}

/// Memory types: what can be set is kept, what can't be is refused.
fn mtrr() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    let capability = vcpu.msr(0xfe)?.context("no MTRRs")?;
    ensure!(capability & 0xff >= 2 && capability & 0x100 != 0, "MTRRcap {capability:x}");
    for (index, value) in [
        (0x2ff, 0xc06),
        (0x200, 0x1000_0000 | 6),
        (0x201, 0xff_f000_0000 & 0xf_ffff_f000 | 0x800),
        (0x250, 0x0606_0606_0606_0606),
        (0x26f, 0x0505_0404_0101_0000),
    ] {
        check_eq!(write_read(&mut vcpu, index, value)?, Some(value), "MSR {index:x}");
        check_eq!(vcpu.msr(index)?, Some(value), "MSR {index:x}");
    }
    for (index, value) in
        [(0x2ff, 0x02), (0x200, 3), (0x250, 0x0606_0606_0606_0602), (0x2ff, 1 << 20)]
    {
        check_eq!(write_read(&mut vcpu, index, value)?, None, "MSR {index:x} {value:x}");
    }
    check_eq!(write_read(&mut vcpu, 0xfe, capability)?, None, "MTRRcap is read only");
    Ok(())
}

/// A machine check: from the VMM into a bank and to the guest's handler.
fn mce() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_MCE, "KVM_CAP_MCE")?;
    let mut vcpu = vm.vcpu(0)?;
    let banks = u64::from(vm.capability(abi::KVM_CAP_MCE)?);
    ensure!(banks >= 10, "{banks} banks");
    // MCG_CTL_P and ten banks.
    let capability = 10 | 1 << 8;
    vcpu.set(request::X86_SETUP_MCE, &capability)?;
    check_eq!(vcpu.msr(0x179)?, Some(capability), "MCG_CAP");
    check_eq!(vcpu.msr(0x17b)?, Some(u64::MAX), "MCG_CTL");
    check_eq!(vcpu.msr(0x400)?, Some(u64::MAX), "MC0_CTL");
    vcpu.start(Mode::Long, guest!(64;
        "nop", "out 0x10, al", "nop", "mov ecx, 0x411", "rdmsr", "shl rdx, 32", "or rax, rdx", "mov rbx, rax",
        "xor eax, eax", "xor edx, edx", "wrmsr", "inc eax", "wrmsr"
    ))?;
    vcpu.change_sregs(|sregs| sregs.cr4 |= 1 << 6)?;
    vcpu.expect_out(0x10, &[0])?;
    // Valid, uncorrected, enabled, with an address.
    let status = 1 << 63 | 1 << 61 | 1 << 60 | 1 << 58 | 0x134;
    let event = abi::kvm_x86_mce {
        status,
        addr: 0x1234_5000,
        mcg_status: 5,
        bank: 4,
        ..Default::default()
    };
    vcpu.set(request::X86_SET_MCE, &event)?;
    vcpu.expect_trap(18, 0)?;
    check_eq!(vcpu.msr(0x17a)?, Some(5), "MCG_STATUS");
    check_eq!((vcpu.msr(0x411)?, vcpu.msr(0x412)?), (Some(status), Some(0x1234_5000)));
    // Zero may be written to a status, one not.
    vcpu.expect_trap(13, 0)?;
    check_eq!(vcpu.regs()?.rbx, status);
    check_eq!(vcpu.msr(0x411)?, Some(0));
    Ok(())
}

/// Banks and features that there are not.
fn mce_refused() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_MCE, "KVM_CAP_MCE")?;
    let vcpu = vm.vcpu(0)?;
    for capability in [0u64, 200, 10 | 1 << 40] {
        let refused = vcpu.try_set(request::X86_SETUP_MCE, &capability);
        check_eq!(refused, Err(Errno::EINVAL), "MCG_CAP {capability:x}");
    }
    vcpu.set(request::X86_SETUP_MCE, &10u64)?;
    let event = abi::kvm_x86_mce { status: 1 << 63, bank: 10, ..Default::default() };
    check_eq!(vcpu.try_set(request::X86_SET_MCE, &event), Err(Errno::EINVAL), "bank 10");
    let event = abi::kvm_x86_mce { status: 0, bank: 1, ..Default::default() };
    check_eq!(vcpu.try_set(request::X86_SET_MCE, &event), Err(Errno::EINVAL), "nothing");
    Ok(())
}

/// The local APIC turned off and on, and the ways there are not.
fn apic_base() -> Result<()> {
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    let mut vcpu = vm.vcpu(0)?;
    let base = vcpu.msr(0x1b)?.context("no APIC_BASE")?;
    check_eq!(base & 0xf_ffff_ff00, 0xfee0_0900, "after reset");
    check_eq!(write_read(&mut vcpu, 0x1b, base | 0x400)?, Some(base | 0x400), "x2APIC");
    check_eq!(write_read(&mut vcpu, 0x1b, base)?, None, "from x2APIC to xAPIC");
    check_eq!(write_read(&mut vcpu, 0x1b, base & !0x800)?, Some(base & !0x800), "off");
    check_eq!(write_read(&mut vcpu, 0x1b, base & !0x800 | 0x400)?, None, "x2APIC while off");
    check_eq!(write_read(&mut vcpu, 0x1b, base)?, Some(base), "on");
    Ok(())
}
