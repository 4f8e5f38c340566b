// SPDX-License-Identifier: GPL-2.0
//! The registers by which a guest controls speculation.

use super::super::vcpu::Vcpu;
use super::msr::{guest_rdmsr, guest_wrmsr};
use super::*;
use crate::processor;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-speculation-control", control),
    Case::guest("x86/micro-speculation-commands", commands),
    Case::guest("x86/micro-speculation-absent", absent),
];

const SPEC_CTRL: u32 = 0x48;
const PRED_CMD: u32 = 0x49;
const FLUSH_CMD: u32 = 0x10b;
const IBRS: u64 = 1 << 0;
const SSBD: u64 = 1 << 2;

/// EDX of leaf 7: IBRS and IBPB, SSBD, FLUSH_CMD.
const L7_IBRS: u32 = 1 << 26;
const L7_SSBD: u32 = 1 << 31;
const L7_FLUSH: u32 = 1 << 28;

fn leaf_7(vm: &Vm) -> Result<u32> {
    Ok(vm.supported_cpuid()?.find(7, 0).map_or(0, |leaf| leaf.edx))
}

fn need(vm: &Vm, features: u32) -> Result<()> {
    if leaf_7(vm)? & features != features {
        return Err(Skip("guests have no SPEC_CTRL".into()).into());
    }
    Ok(())
}

/// The host's SPEC_CTRL on each CPU.
fn host() -> Result<Vec<u64>> {
    let cpus = 0..processor::online()? as u32;
    let values: Result<Option<Vec<u64>>> =
        cpus.map(|cpu| processor::host_msr(cpu, SPEC_CTRL)).collect();
    values?.context("the host's SPEC_CTRL can't be read")
}

/// The guest's value is in the processor while it runs, another guest's when that runs, and the
/// host's when none does.
fn control() -> Result<()> {
    let vm = Vm::new()?;
    need(&vm, L7_IBRS | L7_SSBD)?;
    let before = host()?;
    let mut first = vm.vcpu(0)?;
    let other_vm = Vm::new()?;
    let mut other = other_vm.vcpu(0)?;
    // The host's isn't seen, whatever it is.
    check_eq!(guest_rdmsr(&mut first, SPEC_CTRL)?, Some(0), "at first");
    ensure!(guest_wrmsr(&mut first, SPEC_CTRL, SSBD)?, "the guest can't set SSBD");
    check_eq!(host()?, before, "the host's after the guest's first write");
    check_eq!(first.msr(SPEC_CTRL)?, Some(SSBD), "what the VMM reads");
    ensure!(other.set_msr(SPEC_CTRL, IBRS | SSBD)?, "the VMM can't set IBRS and SSBD");
    for value in [SSBD, IBRS, 0, IBRS | SSBD, SSBD, 0] {
        ensure!(guest_wrmsr(&mut first, SPEC_CTRL, value)?, "the guest can't write {value:x}");
        check_eq!(guest_rdmsr(&mut other, SPEC_CTRL)?, Some(IBRS | SSBD), "the other guest's");
        check_eq!(guest_rdmsr(&mut first, SPEC_CTRL)?, Some(value), "what the guest reads");
        check_eq!(first.msr(SPEC_CTRL)?, Some(value), "what the VMM reads");
        check_eq!(host()?, before, "the host's with {value:x} in the guest");
    }
    ensure!(first.set_msr(SPEC_CTRL, IBRS)?, "the VMM can't set IBRS");
    check_eq!(guest_rdmsr(&mut first, SPEC_CTRL)?, Some(IBRS), "what the VMM set");
    stays(&mut first)?;
    ensure!(!guest_wrmsr(&mut first, SPEC_CTRL, 1 << 63)?, "the guest may set bit 63");
    ensure!(!first.set_msr(SPEC_CTRL, 1 << 63)?, "the VMM may set bit 63");
    check_eq!(guest_rdmsr(&mut first, SPEC_CTRL)?, Some(IBRS), "after refused writes");
    check_eq!(host()?, before, "the host's at last");
    Ok(())
}

/// Exits of several kinds in between change nothing.
fn stays(vcpu: &mut Vcpu) -> Result<()> {
    vcpu.start(
        Mode::Long,
        guest!(64;
            "mov ecx, 0x48", "mov eax, 4", "xor edx, edx", "wrmsr",
            "mov esi, 50",
            "2: xor eax, eax", "cpuid",
            "mov dx, 0x80", "out dx, al",
            "mov ecx, 0x48", "rdmsr",
            "cmp eax, 4", "jne 3f",
            "dec esi", "jnz 2b",
            "mov eax, 1", "wrmsr",
            "3: hlt"
        ),
    )?;
    for _ in 0..50 {
        ensure!(matches!(vcpu.run()?, Exit::Out { .. }), "at {}", vcpu.place());
    }
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(vcpu.regs()?.rsi, 0, "rounds that are left");
    Ok(())
}

/// Commands are taken, as far as CPUID has them; there is nothing to read.
fn commands() -> Result<()> {
    let vm = Vm::new()?;
    need(&vm, L7_IBRS)?;
    let mut vcpu = vm.vcpu(0)?;
    let flush = leaf_7(&vm)? & L7_FLUSH != 0;
    for (index, is_there) in [(PRED_CMD, true), (FLUSH_CMD, flush)] {
        for value in [1, 0, 1] {
            check_eq!(guest_wrmsr(&mut vcpu, index, value)?, is_there, "MSR {index:x}");
        }
        check_eq!(guest_rdmsr(&mut vcpu, index)?, None, "MSR {index:x} is read");
        ensure!(!guest_wrmsr(&mut vcpu, index, 1 << 40)?, "MSR {index:x} takes bit 40");
    }
    Ok(())
}

/// A guest whose CPUID has none of it has none of the registers.
fn absent() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.bare_vcpu(0)?;
    let mut list = vm.supported_cpuid()?;
    list.leaf_mut(7, 0)?.edx = 0;
    if let Some(leaf) = list.entries_mut().iter_mut().find(|leaf| leaf.function == 0x8000_0008) {
        leaf.ebx = 0;
    }
    if let Some(leaf) = list.entries_mut().iter_mut().find(|leaf| leaf.function == 0x8000_0021) {
        leaf.eax = 0;
    }
    vcpu.set_cpuid(&list)?;
    for index in [SPEC_CTRL, PRED_CMD, FLUSH_CMD] {
        ensure!(!guest_wrmsr(&mut vcpu, index, 1)?, "the guest may write MSR {index:x}");
        check_eq!(guest_rdmsr(&mut vcpu, index)?, None, "MSR {index:x}");
    }
    Ok(())
}
