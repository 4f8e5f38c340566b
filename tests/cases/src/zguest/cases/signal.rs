// SPDX-License-Identifier: GPL-2.0
//! SIGNAL PROCESSOR, by its orders.

use std::thread;
use std::time::Duration;

use kvm_uapi::cap::KVM_CAP_S390_USER_SIGP;

use super::*;

pub(super) const CASES: &[Case] = &[
    case("micro-signal-stop", stop),
    case("micro-signal-orders", orders),
    case("micro-signal-prefix", prefix),
    case("micro-signal-userspace", userspace),
];

/// Orders.
const EXTERNAL_CALL: u8 = 0x02;
const START: u8 = 0x04;
const STOP: u8 = 0x05;
const RESTART: u8 = 0x06;
const INITIAL_RESET: u8 = 0x0b;
const RESET: u8 = 0x0c;
const SET_PREFIX: u8 = 0x0d;
const SET_ARCHITECTURE: u8 = 0x12;
const CONDITIONAL_EMERGENCY: u8 = 0x13;
const SENSE: u8 = 0x01;
const SENSE_RUNNING: u8 = 0x15;

/// Sends an order to CPU 1, and reports condition code and status.
fn send(code: Code, order: u8, parameter: i32) -> Code {
    let code = code.load(4, 1).load(2, 0).load(3, parameter).sigp(2, 4, order);
    code.condition(1).report(1).report(2)
}

/// A CPU stops another one that runs, and sees that it is stopped.
fn stop() -> Result<()> {
    let vm = Vm::new()?;
    let sender = vm.start(&send(send(Code::new(), STOP, 0), SENSE, 0))?;
    vm.ram().write_bytes(CODE + 0x800, Code::new().hang().bytes())?;
    let target = vm.vcpu(1)?;
    target.reset()?;
    target.set_psw(MASK, CODE + 0x800);
    thread::scope(|scope| {
        let run = scope.spawn(|| target.run());
        thread::sleep(Duration::from_millis(30));
        check_eq!([sender.report()?, sender.report()?], [0, 0], "the stop");
        let exit = run.join().map_err(|_| anyhow::anyhow!("the thread panicked"))??;
        ensure!(matches!(exit, Exit::Sie { code: icpt::STOP, .. }), "{exit:x?}");
        Ok(())
    })?;
    check_eq!([sender.report()?, sender.report()?], [1, 0x40], "sense");
    Ok(())
}

/// What a stopped CPU answers to each order that the kernel handles.
fn orders() -> Result<()> {
    const ACCEPTED: [u64; 2] = [0, 0];
    let vm = Vm::new()?;
    let running = if vm.facility(9)? { 0x400 } else { 2 };
    let table = [
        (STOP, 0, ACCEPTED),
        (SENSE, 0, [1, 0x40]),
        (SENSE_RUNNING, 0, [1, running]),
        (CONDITIONAL_EMERGENCY, 0, ACCEPTED),
        (EXTERNAL_CALL, 0, ACCEPTED),
        (EXTERNAL_CALL, 0, [1, 0x80]),
        (SENSE, 0, [1, 0xc0]),
        (SET_ARCHITECTURE, 1, [1, 0x100]),
        (SET_PREFIX, 0x4000_0000, [1, 0x100]),
        (SET_PREFIX, 0x2000, ACCEPTED),
    ];
    let code = table
        .iter()
        .fold(Code::new(), |code, (order, parameter, _)| send(code, *order, *parameter));
    let sender = vm.start(&code)?;
    let _target = vm.vcpu(1)?;
    for (order, parameter, expected) in table {
        let answer = [sender.report()?, sender.report()?];
        check_eq!(answer, expected, "order {order:x} with {parameter:x}");
    }
    Ok(())
}

/// A stopped CPU gets another prefix area; one that runs doesn't.
fn prefix() -> Result<()> {
    let vm = Vm::new()?;
    let sender = vm.start(&send(send(Code::new(), SET_PREFIX, 0x10_0000), SET_PREFIX, 0x2000))?;
    // STPX 0x800.
    let stpx = Code::new().s(0xb211, 0, 0x800).report(1);
    vm.ram().write_bytes(CODE + 0x800, stpx.bytes())?;
    let target = vm.vcpu(1)?;
    target.reset()?;
    target.set_psw(MASK, CODE + 0x800);
    check_eq!([sender.report()?, sender.report()?], [0, 0]);
    target.report()?;
    check_eq!(vm.read_u32(0x10_0800)?, 0x10_0000, "what it stores, and where");
    check_eq!([sender.report()?, sender.report()?], [1, 0x200], "it isn't stopped");
    Ok(())
}

/// Orders that are userspace's, always or if it wants.
fn userspace() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(KVM_CAP_S390_USER_SIGP, "KVM_CAP_S390_USER_SIGP")?;
    const ALWAYS: [u8; 5] = [START, RESTART, INITIAL_RESET, RESET, 0x77];
    const MAYBE: [u8; 3] = [STOP, SET_PREFIX, SET_ARCHITECTURE];
    let all = ALWAYS.iter().chain(&MAYBE);
    let code = all.fold(Code::new().load(4, 1), |code, order| code.sigp(2, 4, *order));
    let sender = vm.start(&send(code, EXTERNAL_CALL, 0))?;
    let _target = vm.vcpu(1)?;
    let comes_out = |order: u8| -> Result<()> {
        let exit = sender.run()?;
        let is_it = matches!(exit, Exit::Sie { code: icpt::INSTRUCTION, ipa: 0xae24, ipb }
            if ipb >> 16 == u32::from(order));
        ensure!(is_it, "order {order:x}: {exit:x?}");
        Ok(())
    };
    ALWAYS.into_iter().try_for_each(comes_out)?;
    vm.enable(KVM_CAP_S390_USER_SIGP, [0; 4])?;
    MAYBE.into_iter().try_for_each(comes_out)?;
    check_eq!([sender.report()?, sender.report()?], [0, 0], "quick ones stay the kernel's");
    Ok(())
}
