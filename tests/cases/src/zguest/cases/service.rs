// SPDX-License-Identifier: GPL-2.0
//! What the guest asks of the hypervisor and learns of the machine, and what isn't there.

use kvm_uapi::ioctl::s390 as z;
use kvm_uapi::run::reason;
use kvm_uapi::s390::{CmmaLog, Psw};
use kvm_uapi::vcpu::DeviceAttr;
use kvm_uapi::{cap, ioctl};
use nix::errno::Errno;

use super::*;
use crate::device::{self, exchange, ioctl_with as give};

pub(super) const CASES: &[Case] = &[
    case("micro-service-diagnose", diagnose),
    case("micro-service-system-information", system_information),
    case("micro-service-system-information-userspace", system_information_userspace),
    case("micro-service-facilities", facilities),
    case("micro-service-features", features),
    case("micro-service-functions", functions),
    case("micro-service-initial-psw", initial_psw),
    case("micro-service-no-collaboration", no_collaboration),
    case("micro-service-no-user-control", no_user_control),
];

/// Capabilities that aren't there.
const CAP_UCONTROL: u32 = 73;
const CAP_CMMA_MIGRATION: u32 = 145;

/// DIAGNOSE functions that are userspace's, and a re-IPL without a clear reset.
fn diagnose() -> Result<()> {
    const USERSPACE: [u16; 6] = [0x204, 0x288, 0x308, 0x318, 0x500, 0x501];
    let vm = Vm::new()?;
    let code = USERSPACE
        .iter()
        .fold(Code::new().load(3, 5).load(1, 3), |code, function| code.diagnose(2, 3, *function));
    let vcpu = vm.start(&code.load(3, 4).diagnose(2, 3, 0x308))?;
    for function in USERSPACE {
        let exit = vcpu.run()?;
        let is_it = matches!(exit, Exit::Sie { code: icpt::INSTRUCTION, ipa: 0x8323, ipb }
            if ipb >> 16 == u32::from(function));
        ensure!(is_it, "function {function:x}: {exit:x?}");
    }
    check_eq!(vcpu.run()?, Exit::Reset(4 | 8 | 16));
    Ok(())
}

/// STSI of a function and selectors to [`DATA`].
fn stsi(code: Code, function: i32, selectors: (i32, i32)) -> Code {
    let code = code.load(0, function << 28 | selectors.0).load(1, selectors.1);
    code.load(2, DATA as i32).s(0xb27d, 2, 0)
}

/// The level, and information that there is, that there isn't, and that there can't be.
fn system_information() -> Result<()> {
    let vm = Vm::new()?;
    let known = stsi(Code::new(), 0, (0, 0)).condition(3).report(3).report(0);
    let known = stsi(known, 3, (2, 2)).condition(3).report(3);
    let absent = stsi(known, 4, (0, 0)).condition(3).report(3);
    let absent = stsi(absent, 3, (2, 1)).condition(3).report(3);
    let vcpu = vm.start(&stsi(absent, 3, (2, 0x1_0002)))?;
    check_eq!([vcpu.report()?, vcpu.report()?], [0, 3 << 28], "the current level");
    check_eq!(vcpu.report()?, 0, "3.2.2");
    check_eq!([vcpu.report()?, vcpu.report()?], [3, 3], "4.0.0 and 3.2.1");
    vcpu.expect_wait(vm::PROGRAM_TRAP)?;
    check_eq!(vm.read_u32(0x8c)?, 0x0004_0006, "specification");
    Ok(())
}

/// Userspace sees STSI after the kernel did it.
fn system_information_userspace() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(cap::KVM_CAP_S390_USER_STSI, "KVM_CAP_S390_USER_STSI")?;
    vm.enable(cap::KVM_CAP_S390_USER_STSI, [0; 4])?;
    let vcpu = vm.start(&stsi(Code::new(), 3, (2, 2)).condition(3).report(3))?;
    check_eq!(vcpu.run()?, Exit::Other(reason::KVM_EXIT_S390_STSI));
    let [address, what, _] = vcpu.exit_words();
    // Access register, reserved, function, selectors.
    check_eq!((address, what >> 16), (DATA, 0x0200_0302_0002));
    ensure!(vm.ram().read::<u8>(DATA + 31)? != 0, "the block is there already");
    check_eq!(vcpu.report()?, 0);
    Ok(())
}

/// An attribute of the CPU model.
fn model(vm: &Vm, request: u32, attr: u64, addr: u64) -> Result<i32, Errno> {
    give(vm.file(), request, &DeviceAttr { flags: 0, group: 3, attr, addr })
}

/// STFLE tells of the processor that userspace chose. Hercules doesn't let the host have a word there: its
/// guests see what the machine has.
fn facilities() -> Result<()> {
    let vm = Vm::new()?;
    let (mut processor, mut machine) = ([0_u64; 258], [0_u64; 514]);
    let at = processor.as_mut_ptr() as u64;
    model(&vm, ioctl::KVM_GET_DEVICE_ATTR, 0, at)?;
    model(&vm, ioctl::KVM_GET_DEVICE_ATTR, 1, machine.as_mut_ptr() as u64)?;
    // One of those that only say what there is: the mode is z/Architecture alone.
    processor[4] |= 1 << (63 - (138 - 128));
    model(&vm, ioctl::KVM_SET_DEVICE_ATTR, 0, at)?;
    // STFLE of four words.
    let code = Code::new().load(0, 3).load(2, DATA as i32).s(0xb2b0, 2, 0).condition(3);
    let vcpu = vm.start(&code.report(3).report(0))?;
    check_eq!(vcpu.report()?, 0, "condition code");
    let last = vcpu.report()?;
    let (whose, list) = match last {
        2 => ("the model", &processor[2..5]),
        _ => ("the machine", &machine[258..260]),
    };
    check_eq!(last, list.len() as u64 - 1, "words but one of {whose}");
    for (word, expected) in (0..).zip(list) {
        check_eq!(vm.read(DATA + word * 8)?, *expected, "word {word} of {whose}");
    }
    Ok(())
}

/// Features that no facility stands for: those of the machine can be chosen, before there is a CPU.
fn features() -> Result<()> {
    let vm = Vm::new()?;
    let mut machine = [0_u64; 16];
    model(&vm, ioctl::KVM_GET_DEVICE_ATTR, 3, machine.as_mut_ptr() as u64)?;
    let set =
        |features: &[u64; 16]| model(&vm, ioctl::KVM_SET_DEVICE_ATTR, 2, features.as_ptr() as u64);
    check_eq!(set(&machine), Ok(0), "all of the machine");
    let mut chosen = [77_u64; 16];
    model(&vm, ioctl::KVM_GET_DEVICE_ATTR, 2, chosen.as_mut_ptr() as u64)?;
    check_eq!(chosen, machine);
    let mut more = machine;
    more[15] |= 1;
    check_eq!(set(&more), Err(Errno::EINVAL), "one that nobody knows");
    let _vcpu = vm.vcpu(0)?;
    check_eq!(set(&machine), Err(Errno::EBUSY));
    Ok(())
}

/// Functions of instructions: the machine's, and those that userspace keeps here.
fn functions() -> Result<()> {
    let vm = Vm::new()?;
    let mut machine = [0_u8; 2048];
    model(&vm, ioctl::KVM_GET_DEVICE_ATTR, 5, machine.as_mut_ptr() as u64)?;
    ensure!(machine.iter().any(|byte| *byte != 0), "the machine has none");
    let set = |functions: &[u8; 2048]| {
        model(&vm, ioctl::KVM_SET_DEVICE_ATTR, 4, functions.as_ptr() as u64)
    };
    check_eq!(set(&machine), Ok(0));
    let mut kept = [0x55_u8; 2048];
    model(&vm, ioctl::KVM_GET_DEVICE_ATTR, 4, kept.as_mut_ptr() as u64)?;
    ensure!(kept == machine, "others come back");
    let _vcpu = vm.vcpu(0)?;
    check_eq!(set(&machine), Err(Errno::EBUSY));
    Ok(())
}

/// The PSW of a CPU that is stopped.
fn initial_psw() -> Result<()> {
    let vm = Vm::new()?;
    check_eq!(
        device::ioctl(&device::open()?, z::KVM_S390_ENABLE_SIE, 0),
        Ok(0),
        "KVM_S390_ENABLE_SIE"
    );
    vm.load(&Code::new().aghi(1, 1).report(1))?;
    let vcpu = vm.vcpu(0)?;
    vcpu.reset()?;
    let psw = Psw { mask: MASK, addr: CODE + 4 };
    check_eq!(vcpu.give(z::KVM_S390_SET_INITIAL_PSW, &psw), Ok(0));
    check_eq!(vcpu.psw(), (MASK, CODE + 4));
    check_eq!(vcpu.report()?, 0);
    check_eq!(vcpu.give(z::KVM_S390_SET_INITIAL_PSW, &psw), Err(Errno::EBUSY), "it isn't stopped");
    Ok(())
}

/// There is no collaborative memory management: the guest has no ESSA, userspace none of its states.
fn no_collaboration() -> Result<()> {
    const MEMORY: u32 = 0;
    const MIGRATION: u32 = 4;
    let vm = Vm::new()?;
    check_eq!(vm.capability(CAP_CMMA_MIGRATION)?, 0);
    let mut values = [0_u8; 8];
    let mut log = CmmaLog {
        start_gfn: 0,
        count: 1,
        flags: 0,
        __bindgen_anon_1: 0,
        values: values.as_mut_ptr() as u64,
    };
    check_eq!(exchange(vm.file(), z::KVM_S390_GET_CMMA_BITS, &mut log), Err(Errno::ENXIO));
    check_eq!(give(vm.file(), z::KVM_S390_SET_CMMA_BITS, &log), Err(Errno::ENXIO));
    for (group, attr) in [(MEMORY, 0), (MEMORY, 1), (MIGRATION, 0), (MIGRATION, 1), (MIGRATION, 2)]
    {
        for request in [ioctl::KVM_HAS_DEVICE_ATTR, ioctl::KVM_SET_DEVICE_ATTR] {
            let attr = DeviceAttr { flags: 0, group, attr, addr: 0 };
            check_eq!(give(vm.file(), request, &attr), Err(Errno::ENXIO), "{group}, {attr:?}");
        }
    }
    let vcpu = vm.start(&Code::new().load(2, DATA as i32).raw(&[0xb9, 0xab, 0x10, 0x12]))?;
    vcpu.expect_wait(vm::PROGRAM_TRAP)?;
    check_eq!(vm.read_u32(0x8c)?, 0x0004_0001, "operation");
    Ok(())
}

/// There are no VMs whose memory userspace manages (`KVM_VM_S390_UCONTROL`).
fn no_user_control() -> Result<()> {
    const UCONTROL: u64 = 1;
    let vm = Vm::new()?;
    check_eq!(vm.capability(CAP_UCONTROL)?, 0);
    let kvm = device::open()?;
    check_eq!(device::ioctl(&kvm, ioctl::KVM_CREATE_VM, UCONTROL), Err(Errno::EINVAL));
    Ok(())
}
