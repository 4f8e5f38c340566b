// SPDX-License-Identifier: GPL-2.0
//! How an interruption reaches the guest: what is stored, and the PSWs that change
//! places (Principles of Operation, "Interruptions").
//!
//! Interruptions that the guest doesn't let in make SIE come out as soon as it
//! does: a flag of the CPU while the PSW holds them back, intercepted loads of
//! control registers otherwise.

use crate::{
    adapter,
    floating::{self, Floating},
    guest::{read_low, write_low},
    state::{set_prefix, Cx},
};
use kernel::error::Result;
use s390_arch::{
    lowcore::{self, PswPair},
    pending::{External, Gate, Kinds, MachineCheck, Taken},
    program::{code, Detail, Program},
    psw::Mask,
    sie::{intercept_control, load_control, CpuFlags},
};

/// Delivers what waits and can be taken, and arranges for what can't; whether there was
/// anything.
///
/// # Errors
///
/// `EFAULT` if the prefix area isn't memory.
#[inline]
pub(crate) fn deliver(cx: &mut Cx<'_>) -> Result<bool> {
    if cx.vcpu.shared().take_news() {
        cx.state.kinds = cx.vcpu.shared().kinds();
    }
    if cx.state.waits {
        look_at_clock(cx);
    }
    if cx.state.kinds.is_empty() && cx.vm.arch().floating.glance().is_empty() {
        clear_conditions(cx);
        return Ok(false);
    }
    deliver_some(cx)
}

/// Whether a vCPU that waits has a reason to go on.
pub(crate) fn has_reason(cx: &Cx<'_>) -> bool {
    let gate = cx.state.gate();
    let ready = cx.vcpu.shared().with_local(|local| {
        local.deliverable(&gate) | local.kinds & (Kinds::STOP | Kinds::RESTART)
    });
    let floating = cx.vm.arch().floating.glance().open(&gate);
    !ready.is_empty() || !floating.is_empty() || clock_is_due(cx, &gate) || timer_is_due(cx, &gate)
}

/// Whether the clock comparator interrupts a CPU with these masks.
fn clock_is_due(cx: &Cx<'_>, gate: &Gate) -> bool {
    gate.open().contains(Kinds::CLOCK_COMPARATOR)
        && cx.state.clock() > cx.state.block.clock_comparator
}

/// Whether the CPU timer does.
fn timer_is_due(cx: &Cx<'_>, gate: &Gate) -> bool {
    gate.open().contains(Kinds::CPU_TIMER) && cx.state.block.cpu_timer >> 63 != 0
}

/// A CPU that waited doesn't get these two from SIE.
fn look_at_clock(cx: &mut Cx<'_>) {
    let gate = cx.state.gate();
    let mut due = Kinds::empty();
    due.set(Kinds::CLOCK_COMPARATOR, clock_is_due(cx, &gate));
    due.set(Kinds::CPU_TIMER, timer_is_due(cx, &gate));
    if !due.is_empty() {
        cx.vcpu.shared().with_local(|local| local.kinds |= due);
        cx.state.kinds |= due;
    }
    cx.state.waits = false;
}

fn deliver_some(cx: &mut Cx<'_>) -> Result<bool> {
    adapter::serve(&cx.vm);
    let mut is_any = false;
    loop {
        let gate = cx.state.gate();
        let shared = cx.vcpu.shared();
        let (taken, kinds) = shared.with_local(|local| (local.take(&gate), local.kinds));
        cx.state.kinds = kinds;
        match taken {
            None if deliver_floating(cx, &gate)? => {}
            None => break,
            Some(Taken::Program(program)) => deliver_program(cx, &program)?,
            Some(Taken::MachineCheck(check)) => deliver_machine_check(cx, &check)?,
            Some(Taken::External(external)) => deliver_external(cx, &external)?,
            Some(Taken::Restart) => swap(cx, lowcore::RESTART)?,
            Some(Taken::SetPrefix(prefix)) => set_prefix(cx, prefix),
        }
        is_any = true;
    }
    set_conditions(cx);
    Ok(is_any)
}

/// Delivers one of the interruptions that wait for any CPU; whether there was one.
fn deliver_floating(cx: &mut Cx<'_>, gate: &Gate) -> Result<bool> {
    match cx.vm.arch().floating.take(gate) {
        None => return Ok(false),
        Some(Floating::Service(parameter)) => {
            deliver_external(cx, &floating::service_signal(parameter))?;
        }
        Some(Floating::Host(external)) => deliver_external(cx, &external)?,
        Some(Floating::MachineCheck(check)) => deliver_machine_check(cx, &check)?,
        Some(Floating::Io(io)) => {
            write_low(cx, lowcore::IO, io.words())?;
            swap(cx, lowcore::INPUT_OUTPUT)?;
        }
    }
    Ok(true)
}

/// Nothing waits.
#[inline]
fn clear_conditions(cx: &mut Cx<'_>) {
    let block = &mut *cx.state.block;
    if block.load_control != 0 {
        block.load_control = 0;
    }
    let conditions = CpuFlags::EXTERNAL_PENDING | CpuFlags::IO_PENDING | CpuFlags::STOP_PENDING;
    let flags = block.cpuflags.load(core::sync::atomic::Ordering::Relaxed);
    if flags & conditions.bits() != 0 {
        cx.state.set_flags(conditions, false);
    }
    cx.state.block.intercept_control &= !intercept_control::LOAD_PSW;
}

/// What waits gets the guest out when it can be taken.
fn set_conditions(cx: &mut Cx<'_>) {
    clear_conditions(cx);
    let waits = cx.state.kinds;
    let gate = cx.state.gate();
    let floating = cx.vm.arch().floating.glance();
    let mut control = 0;
    if waits.intersects(Kinds::EXTERNAL) || floating.has_external() {
        if gate.psw.has(Mask::EXTERNAL) {
            control |= load_control::CR0;
        } else {
            cx.state.set_flags(CpuFlags::EXTERNAL_PENDING, true);
        }
    }
    if floating.has_io() {
        if gate.psw.has(Mask::IO) {
            control |= load_control::CR6;
        } else {
            cx.state.set_flags(CpuFlags::IO_PENDING, true);
        }
    }
    if waits.contains(Kinds::MACHINE_CHECK) || floating.has_machine_check() {
        if gate.psw.has(Mask::MACHINE_CHECK) {
            control |= load_control::CR14;
        } else {
            cx.state.block.intercept_control |= intercept_control::LOAD_PSW;
        }
    }
    if waits.contains(Kinds::STOP) {
        cx.state.set_flags(CpuFlags::STOP_PENDING, true);
    }
    cx.state.block.load_control = control;
}

/// Stores the PSW and loads the new one.
fn swap(cx: &mut Cx<'_>, pair: PswPair) -> Result {
    let old = cx.state.block.psw;
    write_low(cx, pair.old, [old.mask, old.address])?;
    let [mask, address] = read_low::<[u64; 2]>(cx, pair.new)?;
    cx.state.block.psw.mask = mask;
    cx.state.block.psw.address = address;
    Ok(())
}

fn deliver_external(cx: &mut Cx<'_>, external: &External) -> Result {
    write_low(cx, lowcore::EXTERNAL_CODE, external.code)?;
    write_low(cx, lowcore::EXTERNAL_CPU, external.cpu)?;
    if let Some(parameter) = external.parameter {
        write_low(cx, lowcore::EXTERNAL_PARAMETER, parameter)?;
    }
    if let Some(parameter) = external.parameter_2 {
        write_low(cx, lowcore::EXTERNAL_PARAMETER_2, parameter)?;
    }
    swap(cx, lowcore::EXTERNAL)
}

fn deliver_program(cx: &mut Cx<'_>, program: &Program) -> Result {
    match program.detail() {
        Detail::None => {}
        Detail::Translation => write_low(cx, lowcore::TRANSLATION, program.translation)?,
        Detail::Access => {
            write_low(cx, lowcore::TRANSLATION, program.translation)?;
            write_low(cx, lowcore::ACCESS_IDS, program.exception_access)?;
            write_low(cx, lowcore::ACCESS_IDS.wrapping_add(2), program.operand_access)?;
        }
        Detail::AccessRegister => write_low(cx, lowcore::ACCESS_IDS, program.exception_access)?,
        Detail::Monitor => {
            write_low(cx, lowcore::MONITOR_CLASS, program.monitor_class)?;
            write_low(cx, lowcore::MONITOR_CODE, program.monitor_code)?;
        }
        Detail::Data => write_low(cx, lowcore::DATA_CODE, program.data_code)?,
    }
    if program.code & code::PER != 0 {
        write_low(cx, lowcore::PER_CODE, [program.per_code, program.per_atmid])?;
        write_low(cx, lowcore::PER_ADDRESS, program.per_address)?;
        write_low(cx, lowcore::ACCESS_IDS.wrapping_add(1), program.per_access)?;
    }
    if program.rewind {
        cx.state.block.psw.step(i64::from(program.length).wrapping_neg());
    }
    let length = u16::from(program.length);
    write_low(cx, lowcore::PROGRAM_LENGTH, [length, program.code])?;
    write_low(cx, lowcore::BREAKING_EVENT, cx.state.block.breaking_event)?;
    swap(cx, lowcore::PROGRAM)
}

fn deliver_machine_check(cx: &mut Cx<'_>, check: &MachineCheck) -> Result {
    crate::exit::store_status::store(cx, u64::from(cx.state.block.prefix()))?;
    write_low(cx, lowcore::MACHINE_CHECK_CODE, check.code)?;
    write_low(cx, lowcore::EXTERNAL_DAMAGE, check.external_damage)?;
    write_low(cx, lowcore::FAILING_STORAGE, check.failing_storage)?;
    swap(cx, lowcore::MACHINE_CHECK)
}
