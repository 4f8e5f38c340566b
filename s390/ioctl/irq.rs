// SPDX-License-Identifier: GPL-2.0
//! Interruptions from userspace.

use crate::{
    floating::{self, Floating, Io},
    sie::Sie,
    state::Cx,
};
use core::mem::size_of;
use kernel::prelude::*;
use kvm_core::{vcpu::Vcpu, vm::Vm};
use kvm_sys::user;
use kvm_uapi::{
    ioctl::s390::{KVM_S390_INTERRUPT, KVM_S390_IRQ},
    s390::{Interrupt, Irq, IrqState},
};
use s390_arch::{
    pending::{external, External, Kinds, Local, MachineCheck},
    program::Program,
};

/// Types of interruptions (`KVM_S390_*`).
mod kind {
    pub(super) const STOP: u64 = 0xfffe_0000;
    pub(super) const PROGRAM: u64 = 0xfffe_0001;
    pub(super) const SET_PREFIX: u64 = 0xfffe_0002;
    pub(super) const RESTART: u64 = 0xfffe_0003;
    pub(super) const PFAULT_INIT: u64 = 0xfffe_0004;
    pub(super) const MACHINE_CHECK: u64 = 0xfffe_1000;
    pub(super) const CLOCK_COMPARATOR: u64 = 0xffff_1004;
    pub(super) const CPU_TIMER: u64 = 0xffff_1005;
    pub(super) const EMERGENCY: u64 = 0xffff_1201;
    pub(super) const EXTERNAL_CALL: u64 = 0xffff_1202;
    pub(super) const SERVICE: u64 = 0xffff_2401;
    pub(super) const VIRTIO: u64 = 0xffff_2603;
    pub(super) const PFAULT_DONE: u64 = 0xfffe_0005;
    /// The last number of I/O interruptions, which begin with 0.
    pub(super) const IO_MAX: u64 = 0xfffd_ffff;
}

/// `KVM_S390_IRQ` and `KVM_S390_INTERRUPT` of a vCPU, which need not be held.
pub(crate) fn unheld(
    vm: &Vm<Sie>,
    vcpu: &Vcpu<Sie>,
    request: u32,
    arg: usize,
) -> Option<Result<u32>> {
    match request {
        KVM_S390_IRQ => Some(user::read::<Irq>(arg).and_then(|irq| inject(vm, vcpu, &irq))),
        KVM_S390_INTERRUPT => Some(
            user::read::<Interrupt>(arg)
                .and_then(|interrupt| from_interrupt(&interrupt))
                .and_then(|irq| inject(vm, vcpu, &irq)),
        ),
        _ => None,
    }
}

/// The longer form of an interruption of a vCPU.
fn from_interrupt(interrupt: &Interrupt) -> Result<Irq> {
    let type_ = u64::from(interrupt.type_);
    // The first member of each union is what the parameter says, in the upper part
    // of the word.
    let parameter = u64::from(interrupt.parm);
    let words = match type_ {
        kind::SET_PREFIX => [parameter << 32, 0, 0, 0],
        kind::EXTERNAL_CALL | kind::EMERGENCY if parameter > 0xffff => return Err(EINVAL),
        kind::EXTERNAL_CALL | kind::EMERGENCY => [parameter << 48, 0, 0, 0],
        kind::PROGRAM => [0, 0, 0, (parameter & 0xffff) << 16],
        kind::MACHINE_CHECK => [parameter, interrupt.parm64, 0, 0],
        _ => [0; 4],
    };
    let [first, second, third, fourth] = words;
    Ok(Irq { type_, u: [first, second, third, fourth, 0, 0, 0, 0] })
}

/// Injects an interruption of a vCPU.
fn inject(vm: &Vm<Sie>, vcpu: &Vcpu<Sie>, irq: &Irq) -> Result<u32> {
    let shared = vcpu.shared();
    let [first, second, third, fourth, fifth, ..] = irq.u;
    let posted = |change: &mut dyn FnMut(&mut Local)| {
        let _ = shared.post(|local| {
            change(local);
            true
        });
        Ok(0)
    };
    match irq.type_ {
        kind::PROGRAM => {
            let program = program([first, second, third, fourth, fifth]);
            posted(&mut |local| local.add_program(program))
        }
        kind::SET_PREFIX => {
            if !shared.is_stopped() {
                return Err(EBUSY);
            }
            posted(&mut |local| {
                local.prefix = (first >> 32) as u32;
                local.kinds |= Kinds::SET_PREFIX;
            })
        }
        kind::STOP => stop(vcpu, (first >> 32) as u32),
        kind::RESTART => posted(&mut |local| local.kinds |= Kinds::RESTART),
        kind::CLOCK_COMPARATOR => posted(&mut |local| local.kinds |= Kinds::CLOCK_COMPARATOR),
        kind::CPU_TIMER => posted(&mut |local| local.kinds |= Kinds::CPU_TIMER),
        kind::EMERGENCY => {
            let sender = sender(vm, first)? as u8;
            posted(&mut |local| local.add_emergency(sender))
        }
        kind::EXTERNAL_CALL => {
            let caller = sender(vm, first)?;
            if shared.post_external_call(caller) {
                Ok(0)
            } else {
                Err(EBUSY)
            }
        }
        kind::PFAULT_INIT => posted(&mut |local| {
            local.pfault = second;
            local.kinds |= Kinds::PFAULT_INIT;
        }),
        kind::MACHINE_CHECK => posted(&mut |local| {
            local.machine_check = machine_check(&irq.u);
            local.kinds |= Kinds::MACHINE_CHECK;
        }),
        _ => Err(EINVAL),
    }
}

/// The CPU of the guest that an interruption is from.
fn sender(vm: &Vm<Sie>, word: u64) -> Result<u16> {
    let address = (word >> 48) as u16;
    let is_there = vm.vcpus().iter().any(|vcpu| vcpu.id() == u32::from(address));
    is_there.then_some(address).ok_or(EINVAL)
}

/// What `struct kvm_s390_mchk_info` says.
fn machine_check(words: &[u64; 8]) -> MachineCheck {
    let [subclasses, code, failing_storage, damage, first, second, ..] = *words;
    MachineCheck {
        subclasses,
        code,
        failing_storage,
        external_damage: (damage >> 32) as u32,
        fixed_logout: (u128::from(first) << 64 | u128::from(second)).to_be_bytes(),
    }
}

/// What [`machine_check`] reads.
fn machine_check_words(check: &MachineCheck) -> [u64; 6] {
    let logout = u128::from_be_bytes(check.fixed_logout);
    let damage = u64::from(check.external_damage) << 32;
    let (first, second) = ((logout >> 64) as u64, logout as u64);
    [check.subclasses, check.code, check.failing_storage, damage, first, second]
}

/// What `struct kvm_s390_pgm_info` says.
fn program(words: [u64; 5]) -> Program {
    /// The length of the instruction is given.
    const LENGTH_VALID: u64 = 1;
    /// The PSW points where it is to.
    const NO_REWIND: u64 = 8;
    let [translation, monitor_code, per_address, codes, ids] = words;
    let flags = ids >> 16 & 0xff;
    let program = Program {
        translation,
        monitor_code,
        per_address,
        data_code: (codes >> 32) as u32,
        code: (codes >> 16) as u16,
        monitor_class: codes as u16,
        per_code: (ids >> 56) as u8,
        per_atmid: (ids >> 48) as u8,
        exception_access: (ids >> 40) as u8,
        per_access: (ids >> 32) as u8,
        operand_access: (ids >> 24) as u8,
        length: if flags & LENGTH_VALID != 0 { flags as u8 & 6 } else { 0 },
        rewind: false,
    };
    Program { rewind: program.is_nullifying() && flags & NO_REWIND == 0, ..program }
}

/// Asks a vCPU to stop.
fn stop(vcpu: &Vcpu<Sie>, flags: u32) -> Result<u32> {
    const STORE_STATUS: u32 = 1;
    if flags & !STORE_STATUS != 0 {
        return Err(EINVAL);
    }
    let shared = vcpu.shared();
    let store_status = flags & STORE_STATUS != 0;
    if shared.is_stopped() {
        // Its state belongs to whoever holds it.
        return if store_status { Err(EBUSY) } else { Ok(0) };
    }
    if shared.post_stop(store_status) {
        Ok(0)
    } else {
        Err(EBUSY)
    }
}

/// `KVM_S390_INTERRUPT` of a VM.
pub(super) fn inject_floating(vm: &Vm<Sie>, arg: usize) -> Result<u32> {
    let interrupt: Interrupt = user::read(arg)?;
    let Interrupt { type_, parm, parm64 } = interrupt;
    // The longer form has the same in other places.
    let words = match u64::from(type_) {
        kind::MACHINE_CHECK => [parm.into(), parm64],
        ..=kind::IO_MAX => [u64::from(parm) << 32 | parm64 >> 32, parm64 << 32],
        _ => [u64::from(parm) << 32, parm64],
    };
    let [first, second] = words;
    let irq = Irq { type_: type_.into(), u: [first, second, 0, 0, 0, 0, 0, 0] };
    floating::inject(vm, to_floating(&irq)?).map(|()| 0)
}

/// What is to wait for any CPU.
///
/// # Errors
///
/// `EINVAL` for interruptions of one CPU.
pub(crate) fn to_floating(irq: &Irq) -> Result<Floating> {
    let [first, second, ..] = irq.u;
    let parameter = (first >> 32) as u32;
    Ok(match irq.type_ {
        kind::SERVICE => Floating::Service(parameter),
        kind::VIRTIO => host(external::VIRTIO, Some(parameter), second),
        kind::PFAULT_DONE => host(external::PFAULT_DONE, None, second),
        kind::MACHINE_CHECK => Floating::MachineCheck(machine_check(&irq.u)),
        ..=kind::IO_MAX => Floating::Io(Io {
            subchannel_id: (first >> 48) as u16,
            subchannel: (first >> 32) as u16,
            parameter: first as u32,
            word: (second >> 32) as u32,
        }),
        _ => return Err(EINVAL),
    })
}

/// The other way round.
pub(crate) fn from_floating(floating: &Floating) -> Irq {
    /// Of the type: it is an adapter's.
    const ADAPTER: u64 = 0x0400_0000;
    let (type_, [a, b, c, d, e, f]) = match floating {
        Floating::Service(parameter) => {
            (kind::SERVICE, [u64::from(*parameter) << 32, 0, 0, 0, 0, 0])
        }
        Floating::Host(external) => {
            let type_ =
                if external.cpu == external::VIRTIO { kind::VIRTIO } else { kind::PFAULT_DONE };
            let parameter = u64::from(external.parameter.unwrap_or(0)) << 32;
            (type_, [parameter, external.parameter_2.unwrap_or(0), 0, 0, 0, 0])
        }
        Floating::MachineCheck(check) => (kind::MACHINE_CHECK, machine_check_words(check)),
        Floating::Io(io) => {
            let [id, parameter, word] = io.words().map(u64::from);
            let set = u64::from(io.subchannel_id >> 1 & 3) << 16;
            let system = u64::from(io.subchannel_id >> 8) << 18;
            let type_ =
                if io.is_adapters() { ADAPTER } else { u64::from(io.subchannel) | set | system };
            (type_, [id << 32 | parameter, word << 32, 0, 0, 0, 0])
        }
    };
    Irq { type_, u: [a, b, c, d, e, f, 0, 0] }
}

/// An interruption of the host's own kind.
pub(super) fn host(what: u16, parameter: Option<u32>, parameter_2: u64) -> Floating {
    Floating::Host(External {
        cpu: what,
        parameter,
        parameter_2: Some(parameter_2),
        ..External::new(external::HOST)
    })
}

/// Bytes of an interruption in a list.
const EACH: u32 = size_of::<Irq>() as u32;
/// Most that can wait for one CPU: an emergency signal of each, and the others.
const MOST: u32 = 256 + 10;

/// `KVM_S390_GET_IRQ_STATE`: what waits for this CPU; the number of bytes.
pub(super) fn get_state(cx: &Cx<'_>, arg: usize) -> Result<u32> {
    let state: IrqState = user::read(arg)?;
    if state.len == 0 {
        return Err(EINVAL);
    }
    let local = cx.vcpu.shared().with_local(|local| local.clone());
    let mut used = 0_u32;
    let mut put = |type_: u64, words: [u64; 6]| -> Result {
        let [a, b, c, d, e, f] = words;
        let next = used.wrapping_add(EACH);
        if next > state.len {
            return Err(ENOBUFS);
        }
        let at = (state.buf as usize).wrapping_add(used as usize);
        user::write(at, &Irq { type_, u: [a, b, c, d, e, f, 0, 0] })?;
        used = next;
        Ok(())
    };
    for kind in local.kinds.iter() {
        if kind == Kinds::EMERGENCY {
            for sender in local.emergencies() {
                put(kind::EMERGENCY, [u64::from(sender) << 48, 0, 0, 0, 0, 0])?;
            }
        } else if let Some((type_, words)) = describe(&local, kind) {
            put(type_, words)?;
        }
    }
    Ok(used)
}

/// An interruption that waits, as the ABI has it.
fn describe(local: &Local, kind: Kinds) -> Option<(u64, [u64; 6])> {
    const NONE: [u64; 6] = [0; 6];
    Some(match kind {
        Kinds::PROGRAM => (kind::PROGRAM, program_words(&local.program)),
        Kinds::MACHINE_CHECK => (kind::MACHINE_CHECK, machine_check_words(&local.machine_check)),
        Kinds::EXTERNAL_CALL => {
            (kind::EXTERNAL_CALL, [u64::from(local.external_call) << 48, 0, 0, 0, 0, 0])
        }
        Kinds::CLOCK_COMPARATOR => (kind::CLOCK_COMPARATOR, NONE),
        Kinds::CPU_TIMER => (kind::CPU_TIMER, NONE),
        Kinds::PFAULT_INIT => (kind::PFAULT_INIT, [0, local.pfault, 0, 0, 0, 0]),
        Kinds::RESTART => (kind::RESTART, NONE),
        Kinds::SET_PREFIX => (kind::SET_PREFIX, [u64::from(local.prefix) << 32, 0, 0, 0, 0, 0]),
        Kinds::STOP => {
            let flags = u64::from(local.stop.store_status) << 32;
            (kind::STOP, [flags, 0, 0, 0, 0, 0])
        }
        _ => return None,
    })
}

/// What [`program`] reads.
fn program_words(program: &Program) -> [u64; 6] {
    let codes = u64::from(program.data_code) << 32
        | u64::from(program.code) << 16
        | u64::from(program.monitor_class);
    let rewind = if program.is_nullifying() && !program.rewind { 8 } else { 0 };
    let flags = u64::from(program.length & 6) | u64::from(program.length != 0) | rewind;
    let ids = u64::from(program.per_code) << 56
        | u64::from(program.per_atmid) << 48
        | u64::from(program.exception_access) << 40
        | u64::from(program.per_access) << 32
        | u64::from(program.operand_access) << 24
        | flags << 16;
    [program.translation, program.monitor_code, program.per_address, codes, ids, 0]
}

/// `KVM_S390_SET_IRQ_STATE`: what is to wait for this CPU, for which nothing waits.
pub(super) fn set_state(cx: &Cx<'_>, arg: usize) -> Result<u32> {
    let state: IrqState = user::read(arg)?;
    let is_list = state.len != 0 && state.len % EACH == 0 && state.len <= MOST * EACH;
    if !is_list {
        return Err(EINVAL);
    }
    if !cx.vcpu.shared().kinds().is_empty() {
        return Err(EBUSY);
    }
    for offset in (0..state.len).step_by(EACH as usize) {
        let irq: Irq = user::read((state.buf as usize).wrapping_add(offset as usize))?;
        let _ = inject(&cx.vm, cx.vcpu, &irq)?;
    }
    Ok(0)
}
