// SPDX-License-Identifier: GPL-2.0
//! Page faults that the guest handles: it does something else until the page is there.

use std::thread;

use kvm_uapi::ioctl::KVM_SET_DEVICE_ATTR;
use micro::userfault::Userfault;

use super::super::vcpu::Vcpu;
use super::flic::Flic;
use super::*;
use crate::ram::Ram;

pub(super) const CASES: &[Case] = &[
    case("micro-pfault-told", told),
    case("micro-pfault-forbidden", forbidden),
    case("micro-pfault-refused", refused),
];

/// Memory whose pages come when the case says so.
const SLOT: u64 = 0x1000_0000;
/// Where the guest's parameter blocks are, and its token.
const BLOCKS: u64 = DATA + 0x200;
const TOKEN: u64 = DATA + 0x300;
/// Attributes of the controller.
const ALLOW: u32 = 4;
const FORBID: u32 = 5;

/// DIAGNOSE 258 with one of the blocks; reports the answer.
fn page_reference(code: Code, block: i32) -> Code {
    code.load(4, BLOCKS as i32 + block * 40).load(5, 99).diagnose(4, 5, 0x258).report(5)
}

/// Writes the parameter blocks: 0 turns it on, 1 off.
fn write_blocks(vm: &Vm) -> Result<()> {
    let blocks =
        [[0x0258_0000_0005_0002, TOKEN, 0, 0, 1 << 63], [0x0258_0001_0005_0002, 0, 0, 0, 0]];
    for (at, word) in (BLOCKS..).step_by(8).zip(blocks.into_iter().flatten()) {
        vm.write(at, word)?;
    }
    vm.write(TOKEN, 0x7777)
}

/// A vCPU that turns it on and loads from the slot; external interruptions report code, what is in the
/// place of the CPU address, and the second parameter.
fn start(vm: &Vm) -> Result<Vcpu> {
    const HANDLER: u64 = CODE + 0x800;
    write_blocks(vm)?;
    vm.write_psw(DATA, MASK | vm::WAIT | vm::EXTERNAL, 0x1234)?;
    vm.write_psw(0x1b0, MASK, HANDLER)?;
    let llgh = |code: Code, register: u8, at| code.rxy(0xe391, register << 4, 0, at);
    let handler = llgh(llgh(Code::new(), 1, 0x86).report(1), 2, 0x84).report(2);
    let handler = handler.load(8, 0x1000).lg(3, 8, 0x1b8).report(3);
    let handler = handler.load(3, DATA as i32).s(0xb2b2, 3, 0);
    vm.ram().write_bytes(HANDLER, handler.bytes())?;
    let code = page_reference(page_reference(Code::new(), 0), 0);
    let vcpu = vm.start(&code.load(6, SLOT as i32).lg(7, 6, 0).report(7))?;
    vcpu.set_psw(MASK | vm::EXTERNAL, CODE);
    vcpu.set_control(0, 0xe0 | 0x200);
    check_eq!([vcpu.report()?, vcpu.report()?], [0, 8], "answers of DIAGNOSE 258");
    Ok(vcpu)
}

/// The guest is told that the page isn't there, and later that it is.
fn told() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(kvm_uapi::cap::KVM_CAP_ASYNC_PF, "KVM_CAP_ASYNC_PF")?;
    let ram = Ram::new(0x10_0000)?;
    vm.add_slot(1, SLOT, &ram)?;
    let flic = Flic::new(&vm)?;
    flic.call(KVM_SET_DEVICE_ATTR, ALLOW, 0, 0)?;
    let fault = Userfault::new(&ram)?;
    let vcpu = start(&vm)?;
    check_eq!([vcpu.report()?, vcpu.report()?, vcpu.report()?], [0x2603, 0x0600, 0x7777]);
    let (_, address) = (vm.read(0x130)?, vm.read(0x138)?);
    ensure!((CODE..CODE + 0x100).contains(&address), "the load is to be repeated: {address:#x}");
    check_eq!(fault.wait()?, 0);
    fault.provide(0, 0x1111_2222)?;
    check_eq!([vcpu.report()?, vcpu.report()?, vcpu.report()?], [0x2603, 0x0680, 0x7777]);
    vcpu.set_psw(MASK, address);
    check_eq!(vcpu.report()?, 0x1111_2222_0000_0000);
    Ok(())
}

/// Where userspace forbids it the guest waits.
fn forbidden() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(0x10_0000)?;
    vm.add_slot(1, SLOT, &ram)?;
    let flic = Flic::new(&vm)?;
    flic.call(KVM_SET_DEVICE_ATTR, ALLOW, 0, 0)?;
    flic.call(KVM_SET_DEVICE_ATTR, FORBID, 0, 0)?;
    let fault = Userfault::new(&ram)?;
    let vcpu = start(&vm)?;
    thread::scope(|scope| {
        let provider = scope.spawn(|| fault.wait().and_then(|_| fault.provide(0, 0x3333_4444)));
        check_eq!(vcpu.report()?, 0x3333_4444_0000_0000);
        provider.join().map_err(|_| anyhow::anyhow!("the thread panicked"))?
    })
}

/// Turned off twice, and blocks that can't be.
fn refused() -> Result<()> {
    let vm = Vm::new()?;
    write_blocks(&vm)?;
    let code = page_reference(page_reference(page_reference(Code::new(), 1), 0), 1);
    let vcpu = vm.start(&code.load(4, 0x4000_0000).diagnose(4, 5, 0x258))?;
    check_eq!([vcpu.report()?, vcpu.report()?, vcpu.report()?], [4, 0, 0]);
    vcpu.expect_wait(vm::PROGRAM_TRAP)?;
    check_eq!(vm.read_u32(0x8c)?, 0x0004_0005, "no memory");
    // Another version.
    vm.write(BLOCKS, 0x0258_0000_0005_0001)?;
    vcpu.reset()?;
    vcpu.set_psw(MASK, CODE);
    vm.load(&page_reference(Code::new(), 0))?;
    vcpu.expect_wait(vm::PROGRAM_TRAP)?;
    check_eq!(vm.read_u32(0x8c)?, 0x0004_0006, "another version");
    Ok(())
}
