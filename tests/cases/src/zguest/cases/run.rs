// SPDX-License-Identifier: GPL-2.0
//! Into the guest and out again.

use super::*;
use crate::memory;

pub(super) const CASES: &[Case] = &[
    case("micro-run-first", first),
    case("micro-run-each-cpu", each_cpu),
    case("micro-run-memory", memory),
    case("micro-run-read-write", read_write),
    case("micro-run-registers", registers),
    case("micro-run-operation", operation),
    case("micro-run-operation-userspace", operation_userspace),
    case("micro-run-no-memory", no_memory),
    case("micro-run-wait", wait),
    case("micro-run-churn", churn),
];

/// A guest computes and reports.
fn first() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.start(&Code::new().load(1, 40).aghi(1, 2).report(1).aghi(1, 1).report(1))?;
    check_eq!(vcpu.report()?, 42);
    check_eq!(vcpu.psw().1, CODE + 6 + 4 + 4);
    check_eq!(vcpu.report()?, 43);
    Ok(())
}

/// On each processor of the machine, none of whose pages is mapped at first.
fn each_cpu() -> Result<()> {
    use nix::sched::{CpuSet, sched_setaffinity};
    use nix::unistd::Pid;
    let this = Pid::from_raw(0);
    let all = nix::sched::sched_getaffinity(this)?;
    for cpu in (0..CpuSet::count()).filter(|cpu| all.is_set(*cpu) == Ok(true)) {
        let mut one = CpuSet::new();
        one.set(cpu)?;
        sched_setaffinity(this, &one)?;
        first()?;
    }
    sched_setaffinity(this, &all)?;
    Ok(())
}

/// It reads and writes memory, which the case sees.
fn memory() -> Result<()> {
    let vm = Vm::new()?;
    vm.write(DATA, 0x1122_3344_5566_7788)?;
    let code = Code::new().load(2, DATA as i32).lg(1, 2, 0).stg(1, 2, 0x800).report(1);
    let vcpu = vm.start(&code)?;
    check_eq!(vcpu.report()?, 0x1122_3344_5566_7788);
    check_eq!(vm.read(DATA + 0x800)?, 0x1122_3344_5566_7788);
    Ok(())
}

/// A page is read before it is written to: the host may show it its page of zeroes first.
fn read_write() -> Result<()> {
    let vm = Vm::new()?;
    let code = Code::new().load(2, 0x10_0000).load(1, 7).lg(3, 2, 0).report(3);
    let vcpu = vm.start(&code.stg(1, 2, 0x10).lg(3, 2, 0x10).report(3))?;
    check_eq!(vcpu.report()?, 0);
    check_eq!(vcpu.report()?, 7);
    check_eq!(vm.read(0x10_0010)?, 7);
    Ok(())
}

/// All general registers go in and come out.
fn registers() -> Result<()> {
    let vm = Vm::new()?;
    let mut code = Code::new();
    for register in 0..16 {
        code = code.aghi(register, 1);
    }
    let vcpu = vm.start(&code.report(0))?;
    for register in 0..16 {
        vcpu.set_gpr(register, u64::from(register) << 32 | 0xff);
    }
    vcpu.report()?;
    for register in 0..16 {
        check_eq!(vcpu.gpr(register), u64::from(register) << 32 | 0x100, "register {register}");
    }
    Ok(())
}

/// An instruction that doesn't exist is a program interruption, code 1.
fn operation() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.start(&Code::new().raw(&[0, 0]))?;
    vcpu.expect_wait(vm::PROGRAM_TRAP)?;
    check_eq!(vm.read_u32(0x8c)? & 0xffff, 1);
    check_eq!(vm.read(0x150)?, MASK, "old PSW");
    check_eq!(vm.read(0x158)?, CODE + 2, "old PSW");
    Ok(())
}

/// Userspace may want to see instruction 0, or all that don't exist.
fn operation_userspace() -> Result<()> {
    use kvm_uapi::cap::{KVM_CAP_S390_USER_INSTR0, KVM_CAP_S390_USER_OPEREXEC};
    let vm = Vm::new()?;
    vm.need(KVM_CAP_S390_USER_INSTR0, "KVM_CAP_S390_USER_INSTR0")?;
    let vcpu = vm.start(&Code::new().raw(&[0, 0]).raw(&[0x08, 0x07]))?;
    vm.enable(KVM_CAP_S390_USER_INSTR0, [0; 4])?;
    let exit = vcpu.run()?;
    ensure!(matches!(exit, Exit::Sie { code: icpt::OPERATION, ipa: 0, .. }), "{exit:x?}");
    // The other one is the guest's.
    vcpu.expect_wait(vm::PROGRAM_TRAP)?;
    vm.need(KVM_CAP_S390_USER_OPEREXEC, "KVM_CAP_S390_USER_OPEREXEC")?;
    vm.enable(KVM_CAP_S390_USER_OPEREXEC, [0; 4])?;
    vcpu.set_psw(MASK, CODE + 2);
    let exit = vcpu.run()?;
    ensure!(matches!(exit, Exit::Sie { code: icpt::OPERATION, ipa: 0x0807, .. }), "{exit:x?}");
    Ok(())
}

/// So is an access to memory that isn't there, code 5.
fn no_memory() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.start(&Code::new().load(2, 0x4000_0000).lg(1, 2, 0))?;
    vcpu.expect_wait(vm::PROGRAM_TRAP)?;
    check_eq!(vm.read_u32(0x8c)?, 0x0006_0005, "length and code");
    check_eq!(vm.read(0x158)?, CODE + 12, "old PSW");
    Ok(())
}

/// A disabled wait is userspace's.
fn wait() -> Result<()> {
    let vm = Vm::new()?;
    vm.write_psw(DATA, MASK | vm::WAIT, 0x1234)?;
    let vcpu = vm.start(&Code::new().load(2, DATA as i32).s(0xb2b2, 2, 0))?;
    let exit = vcpu.run()?;
    ensure!(matches!(exit, Exit::Sie { code: icpt::WAIT, .. }), "{exit:x?}");
    check_eq!(vcpu.psw(), (MASK | vm::WAIT, 0x1234));
    Ok(())
}

/// VMs come and go, and nothing of them stays: one page of each would be 128 KiB.
fn churn() -> Result<()> {
    memory::leaves_no_page(100 << 10, || {
        for _ in 0..32 {
            let vm = Vm::new()?;
            let vcpus = [vm.start(&Code::new().load(1, 7).report(1))?, vm.vcpu(1)?];
            check_eq!(vcpus[0].report()?, 7);
        }
        Ok(())
    })
}
