// SPDX-License-Identifier: GPL-2.0
//! The state of a vCPU, as userspace has it.

use kvm_uapi::ioctl::s390 as z;
use kvm_uapi::ioctl::{KVM_GET_DEVICE_ATTR, KVM_HAS_DEVICE_ATTR, KVM_SET_DEVICE_ATTR};
use kvm_uapi::s390::{Fpu, MemOp, Regs, Sregs, run, sync};
use kvm_uapi::vcpu::DeviceAttr;
use nix::errno::Errno;

use super::*;
use crate::device::{exchange, ioctl_with as give};

pub(super) const CASES: &[Case] = &[
    case("micro-state-resets", resets),
    case("micro-state-one-reg", one_reg),
    case("micro-state-ioctls", ioctls),
    case("micro-state-floating-point", floating_point),
    case("micro-state-store-status", store_status),
    case("micro-state-stopped", stopped),
    case("micro-state-immediate-exit", immediate_exit),
    case("micro-state-identity", identity),
    case("micro-state-privileged", privileged),
    case("micro-state-re-ipl", re_ipl),
    case("micro-state-attributes", attributes),
    case("micro-state-mem-op", mem_op),
    case("micro-state-wrapping-keys", wrapping_keys),
];

/// Each reset clears what the manual says and keeps the rest.
fn resets() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.start(&Code::new().report(5))?;
    let fill = || {
        vcpu.set_gpr(5, 55);
        vcpu.set_control(2, 22);
        vcpu.set_prefix(0x2000);
        vcpu.set_sync_word(run::CKC, 99, sync::ARCH0);
        vcpu.set_psw(MASK, CODE);
    };
    let trap = |vm: &Vm| vm.write_psw(0x2000 + 0x1d0, MASK | vm::WAIT, 1);
    trap(&vm)?;
    for (request, is_initial, is_clear) in [
        (z::KVM_S390_NORMAL_RESET, false, false),
        (z::KVM_S390_INITIAL_RESET, true, false),
        (z::KVM_S390_CLEAR_RESET, true, true),
    ] {
        fill();
        check_eq!(vcpu.report()?, 55);
        vcpu.call(request, 0)?;
        let expected = if is_initial { 0 } else { 22 };
        check_eq!(vcpu.control(2), expected, "control register 2 after {request:x}");
        check_eq!(vcpu.control(0) == 0xe0, true, "control register 0 after {request:x}");
        let expected = if is_initial { 0 } else { 0x2000 };
        check_eq!(vcpu.sync_word(run::PREFIX), expected, "prefix after {request:x}");
        check_eq!(vcpu.psw().1 == 0, is_initial, "PSW after {request:x}");
        let expected = if is_clear { 0 } else { 55 };
        check_eq!(vcpu.gpr(5), expected, "general register 5 after {request:x}");
        check_eq!(vcpu.state()?, 5, "state after {request:x}");
    }
    Ok(())
}

/// Registers by id.
fn one_reg() -> Result<()> {
    const U64: u64 = 0x5030_0000_0000_0000;
    let vm = Vm::new()?;
    let vcpu = vm.vcpu(0)?;
    for number in 2..=9 {
        let value = 0x0123_4567_89ab_cd00 + number;
        vcpu.set_one_reg(U64 | number, value)?;
        check_eq!(vcpu.one_reg(U64 | number)?, value, "register {number}");
    }
    check_eq!(vcpu.one_reg(U64 | 10), Err(Errno::EINVAL));
    Ok(())
}

/// The ioctls and `kvm_run` show the same registers.
fn ioctls() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.start(&Code::new().aghi(7, 1).report(7))?;
    let mut gprs = [0; 16];
    gprs[7] = 70;
    vcpu.give(z::KVM_SET_REGS, &Regs { gprs })?;
    check_eq!(vcpu.report()?, 71);
    let mut regs = Regs { gprs: [0; 16] };
    exchange(vcpu.file(), z::KVM_GET_REGS, &mut regs)?;
    check_eq!(regs.gprs[7], 71);
    let mut special = Sregs { acrs: [0; 16], crs: [0; 16] };
    exchange(vcpu.file(), z::KVM_GET_SREGS, &mut special)?;
    check_eq!((special.crs[0], special.crs[14]), (0xe0, 0xc200_0000));
    special.acrs[3] = 33;
    special.crs[9] = 99;
    vcpu.give(z::KVM_SET_SREGS, &special)?;
    let mut again = Sregs { acrs: [0; 16], crs: [0; 16] };
    exchange(vcpu.file(), z::KVM_GET_SREGS, &mut again)?;
    check_eq!(again, special);
    Ok(())
}

/// Floating-point and access registers reach the guest and come back.
fn floating_point() -> Result<()> {
    let vm = Vm::new()?;
    // LGDR would be newer: STD, LG; then LD from memory. EAR and SAR for access registers.
    let code = Code::new()
        .load(2, DATA as i32)
        .rs(0x60, 0x42, 0, 0)
        .rs(0x60, 0x40, 2, 0x10)
        .lg(1, 2, 0x10)
        .report(1)
        .stg(2, 2, 0x18)
        .rs(0x68, 0x40, 2, 0x18)
        .rre(0xb24f, 3, 5)
        .report(3)
        .rre(0xb24e, 5, 2)
        .report(2);
    let vcpu = vm.start(&code)?;
    vcpu.set_control(0, 0xe0 | 0x4_0000);
    let mut fpu: Fpu = [0; 17];
    fpu[5] = 0x4011_2233_4455_6677;
    vcpu.give(z::KVM_SET_FPU, &fpu)?;
    let mut special = Sregs { acrs: [0; 16], crs: [0; 16] };
    exchange(vcpu.file(), z::KVM_GET_SREGS, &mut special)?;
    special.acrs[5] = 0x55;
    vcpu.give(z::KVM_SET_SREGS, &special)?;
    vcpu.set_control(0, 0xe0 | 0x4_0000);
    vcpu.set_gpr(3, 0);
    check_eq!(vcpu.report()?, 0x4011_2233_4455_6677);
    check_eq!(vcpu.report()?, 0x55);
    check_eq!(vcpu.report()?, DATA);
    exchange(vcpu.file(), z::KVM_GET_FPU, &mut fpu)?;
    check_eq!(fpu[5], DATA, "floating-point register 4");
    exchange(vcpu.file(), z::KVM_GET_SREGS, &mut special)?;
    check_eq!(u64::from(special.acrs[5]), DATA, "access register 5");
    Ok(())
}

/// The status in memory is that of the CPU.
fn store_status() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.start(&Code::new().load(9, 0x99).report(9))?;
    vcpu.report()?;
    vcpu.call(z::KVM_S390_STORE_STATUS, 0x10_0000)?;
    check_eq!(vm.read(0x10_0080 + 9 * 8)?, 0x99, "general register 9");
    check_eq!(vm.read(0x10_0100)?, MASK, "PSW");
    check_eq!(vm.read(0x10_0108)?, CODE + 10, "PSW");
    check_eq!(vm.read(0x10_0180)?, 0xe0, "control register 0");
    Ok(())
}

/// Userspace that starts and stops vCPUs itself can't run a stopped one.
fn stopped() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.start(&Code::new().report(1))?;
    vcpu.set_state(5)?;
    check_eq!(vcpu.try_run(), Err(Errno::EINVAL));
    check_eq!(vcpu.set_state(3), Err(Errno::ENXIO));
    vcpu.set_state(7)?;
    check_eq!(vcpu.state()?, 7);
    check_eq!(vcpu.report()?, 0);
    Ok(())
}

/// Userspace may want to return at once.
fn immediate_exit() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.start(&Code::new().report(1))?;
    vcpu.set_immediate_exit(true);
    check_eq!(vcpu.try_run(), Err(Errno::EINTR));
    check_eq!(vcpu.psw().1, CODE);
    vcpu.set_immediate_exit(false);
    check_eq!(vcpu.report()?, 0);
    Ok(())
}

/// CPU address and id, facilities, what the system is.
fn identity() -> Result<()> {
    let vm = Vm::new()?;
    let code = Code::new()
        .load(2, DATA as i32)
        // STAP, STIDP, STFL.
        .s(0xb212, 2, 0)
        .s(0xb202, 2, 8)
        .s(0xb2b1, 0, 0)
        // STSI of 3.2.2.
        .load(0, 0x3000_0002)
        .load(1, 2)
        .s(0xb27d, 2, 0)
        .condition(3)
        .report(3);
    let vcpu = vm.vcpu(5)?;
    vm.load(&code)?;
    vcpu.reset()?;
    vcpu.set_psw(MASK, CODE);
    check_eq!(vcpu.report()?, 0, "condition code of STSI");
    check_eq!(vm.read_u32(0xc8)? >> 29, 7, "the first three facilities");
    let name: Vec<u8> = vm.ram().read_bytes(DATA + 32 + 12, 8)?;
    check_eq!(name, [0xd2, 0xe5, 0xd4, 0x87, 0xa4, 0x85, 0xa2, 0xa3], "KVMguest");
    Ok(())
}

/// In problem state what is intercepted is refused: code 2.
fn privileged() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.start(&Code::new().load(2, DATA as i32).s(0xb211, 2, 0))?;
    vcpu.set_psw(MASK | 1 << 48, CODE);
    vcpu.expect_wait(vm::PROGRAM_TRAP)?;
    check_eq!(vm.read_u32(0x8c)?, 0x0004_0002, "length and code");
    Ok(())
}

/// The guest wants to start over.
fn re_ipl() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.start(&Code::new().load(3, 3).diagnose(2, 3, 0x308))?;
    check_eq!(vcpu.run()?, Exit::Reset(2 | 4 | 8 | 16));
    check_eq!(vcpu.state()?, 5);
    Ok(())
}

/// The clock, and the processor that the guest sees.
fn attributes() -> Result<()> {
    const TOD: u32 = 1;
    const CPU_MODEL: u32 = 3;
    let vm = Vm::new()?;
    vm.need(kvm_uapi::cap::KVM_CAP_VM_ATTRIBUTES, "KVM_CAP_VM_ATTRIBUTES")?;
    let attr = |request, group, attr, addr: u64| {
        give(vm.file(), request, &DeviceAttr { flags: 0, group, attr, addr })
    };
    check_eq!(attr(KVM_HAS_DEVICE_ATTR, TOD, 0, 0), Ok(0));
    check_eq!(attr(KVM_HAS_DEVICE_ATTR, 77, 0, 0), Err(Errno::ENXIO));
    let wanted = 0x1234_5678_0000_0000_u64;
    attr(KVM_SET_DEVICE_ATTR, TOD, 0, &raw const wanted as u64)?;
    let mut now = 0_u64;
    attr(KVM_GET_DEVICE_ATTR, TOD, 0, &raw mut now as u64)?;
    ensure!((wanted..wanted + (60_000_000 << 12)).contains(&now), "the clock is at {now:#x}");

    // CPU id, instruction blocking, facilities.
    let mut processor = [0_u64; 258];
    attr(KVM_GET_DEVICE_ATTR, CPU_MODEL, 0, processor.as_mut_ptr() as u64)?;
    check_eq!(processor[0] >> 56, 0xff, "version in the CPU id");
    check_eq!(processor[2] >> 61, 7, "the first three facilities");
    let mut machine = [0_u64; 514];
    attr(KVM_GET_DEVICE_ATTR, CPU_MODEL, 1, machine.as_mut_ptr() as u64)?;
    check_eq!(machine[2], processor[2], "facilities that a guest can have");
    processor[0] = 0xff12_3456_2818_0000;
    attr(KVM_SET_DEVICE_ATTR, CPU_MODEL, 0, processor.as_ptr() as u64)?;
    // STIDP, STCK.
    let code = Code::new().load(2, DATA as i32).s(0xb202, 2, 0).s(0xb205, 2, 8).report(2);
    let vcpu = vm.start(&code)?;
    vcpu.report()?;
    check_eq!(vm.read(DATA)?, processor[0]);
    let clock = vm.read(DATA + 8)?;
    ensure!((now..now + (60_000_000 << 12)).contains(&clock), "the guest's clock is at {clock:#x}");
    let late = attr(KVM_SET_DEVICE_ATTR, CPU_MODEL, 0, processor.as_ptr() as u64);
    check_eq!(late, Err(Errno::EBUSY));
    Ok(())
}

/// Guest memory by real and absolute addresses, and what isn't memory.
fn mem_op() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(kvm_uapi::cap::KVM_CAP_S390_MEM_OP, "KVM_CAP_S390_MEM_OP")?;
    let vcpu = vm.start(&Code::new().report(1))?;
    vcpu.set_prefix(0x10_0000);
    vcpu.report()?;
    vm.write(0x10_0100, 0x1111)?;
    vm.write(0x100, 0x2222)?;
    let mut value = 0_u64;
    let mut op = |on_vm: bool, op: u32, gaddr: u64, flags: u64| {
        let request = MemOp {
            gaddr,
            flags,
            size: 8,
            op,
            buf: &raw mut value as u64,
            __bindgen_anon_1: [0; 32],
        };
        let file = if on_vm { vm.file() } else { vcpu.file() };
        give(file, z::KVM_S390_MEM_OP, &request).map(|code| (code, u64::from_be(value)))
    };
    check_eq!(op(false, 0, 0x100, 0), Ok((0, 0x1111)), "logical, in the prefix area");
    check_eq!(op(true, 4, 0x100, 0), Ok((0, 0x2222)), "absolute");
    check_eq!(op(false, 1, 0x20_0000, 0), Ok((0, 0x2222)), "a write");
    check_eq!(op(false, 0, 0x4000_0000, 0).map(|(code, _)| code), Ok(5), "no memory");
    check_eq!(op(true, 4, 0x4000_0000, 1).map(|(code, _)| code), Ok(5), "no memory, checked");
    check_eq!(op(false, 9, 0, 0), Err(Errno::EINVAL), "no such operation");
    check_eq!(vm.read(0x20_0000)?, 0x2222);
    Ok(())
}

/// A guest protects a key with one that is its own; userspace can turn that off.
fn wrapping_keys() -> Result<()> {
    const PROTECTED_KEYS: u16 = 76;
    const CRYPTO: u32 = 2;
    let vm = Vm::new()?;
    let set = |attr: u64| {
        let attr = DeviceAttr { flags: 0, group: CRYPTO, attr, addr: 0 };
        give(vm.file(), KVM_SET_DEVICE_ATTR, &attr)
    };
    if !vm.facility(PROTECTED_KEYS)? {
        check_eq!(set(0), Err(Errno::EINVAL), "the guest hasn't the facility");
        return Ok(());
    }
    // PCKMO: what is there, and an AES key of 128 bits.
    let pckmo = |code: Code, function: i32, block: u64| {
        code.load(0, function).load(1, block as i32).raw(&[0xb9, 0x28, 0, 0x24])
    };
    let code = pckmo(Code::new(), 0, DATA).lg(4, 1, 0).report(4);
    let code = pckmo(code, 18, DATA + 0x100).lg(4, 1, 0).report(4).lg(4, 1, 16).report(4);
    vm.write(DATA + 0x100, 0x1122_3344_5566_7788)?;
    let vcpu = vm.start(&code)?;
    ensure!(vcpu.report()? >> 63 == 1, "there is a query");
    ensure!(vcpu.report()? != 0x1122_3344_5566_7788, "the key isn't encrypted");
    ensure!(vcpu.report()? != 0, "nothing tells the wrapping key");
    for attr in 0..4 {
        check_eq!(set(attr), Ok(0), "attribute {attr}");
    }
    check_eq!(set(9), Err(Errno::ENXIO), "no such attribute");
    Ok(())
}
