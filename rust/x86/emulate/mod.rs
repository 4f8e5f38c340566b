// SPDX-License-Identifier: GPL-2.0
//! The instruction emulator at work on a vCPU.
//!
//! [`instruction`] executes the instruction at RIP, for exits that only it can
//! handle; [`skip`] merely goes past it. An access to a device that userspace has
//! leaves in the middle of the instruction: everything but the accesses that were
//! answered is forgotten, and [`complete_fragment`] executes it again
//! ([`kvm_emulate::io`]).
//!
//! - `batch`: string I/O, many elements at a time.
//! - `cpu`: the vCPU as the emulator's processor.
//! - `linear`: guest memory by linear address.
//! - `plain`: plain moves to and from devices, without all of that.

mod batch;
mod cpu;
mod linear;
pub(crate) mod plain;

use crate::{
    control::{Control, Gprs},
    exit::{debug, halt, task_switch::Switch},
    outcome::Next,
    state::Cx,
    userspace::{self, Completion},
    vendor::Vendor,
};
pub use batch::Batch;
use cpu::{After, Processor};
use kernel::error::Result;
use kvm_emulate::{
    execute,
    fetch::{fetch, plain_length},
    io::FragmentKind,
    task_switch, Completed, Exception, Insn, Op, Shadow, Stop, TaskSwitch, TaskSwitchSource,
};
use kvm_paging::addr::Gpa;
use kvm_sys::{
    irq::IrqOff,
    trace::{kvm_mmio, Mmio},
};
use kvm_uapi::run::{
    reason, KVM_INTERNAL_ERROR_EMULATION, KVM_INTERNAL_ERROR_EMULATION_INSTRUCTION_BYTES,
};
use x86_defs::{Dr6, Rflags, Vector};
use zerocopy::IntoBytes;

/// Executes the instruction at RIP. Exceptions become pending.
///
/// # Errors
///
/// Those of memory accesses by the host.
pub fn instruction<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    access(cx, None)
}

/// An instruction that is executed in several turns.
#[derive(Clone, Copy, Debug)]
pub struct UnderWay {
    rip: u64,
    insn: Insn,
    touched: Option<Gpa>,
}

/// Executes the instruction at RIP, whose own access the processor has translated to
/// `touched` already, if that is known.
///
/// # Errors
///
/// As [`instruction`].
pub(crate) fn access<V: Vendor>(cx: &mut Cx<'_, V>, touched: Option<Gpa>) -> Result<Next> {
    cx.vcpu.stats().arch.insn_emulation.add(1);
    if let Some(done) = touched.and_then(|gpa| plain::access(cx, gpa)) {
        return done;
    }
    cx.state.replay.clear();
    cx.state.batch = None;
    match decoded(cx, touched.is_some()) {
        Ok(insn) => {
            let rip = cx.state.control.rip();
            execute_once(cx, UnderWay { rip, insn, touched })
        }
        Err(stop) => stopped(cx, stop),
    }
}

/// Executes the instruction whose access userspace has answered.
///
/// # Errors
///
/// As [`instruction`].
pub(crate) fn complete_fragment<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    let rip = cx.state.control.rip();
    let Some(under_way) = cx.state.under_way.take().filter(|under_way| under_way.rip == rip) else {
        // Userspace has moved the guest elsewhere, where the answer means nothing.
        cx.state.replay.clear();
        cx.state.batch = None;
        return Ok(Next::Resume);
    };
    if batch::serve(cx) {
        return execute_once(cx, under_way);
    }
    let Some(fragment) = cx.state.replay.pending().copied() else { return Ok(Next::Resume) };
    let is_port = matches!(fragment.kind, FragmentKind::PortIn | FragmentKind::PortOut);
    let data = userspace::fragment_data(cx, is_port)?;
    if fragment.kind == FragmentKind::MmioRead {
        kvm_mmio(fragment.addr, fragment.len, Mmio::Read(data));
    }
    cx.state.replay.complete(data);
    execute_once(cx, under_way)
}

/// The instruction at RIP. `is_whole`: a processor has decoded it, so that no end of a
/// segment is in its middle.
fn decoded<V: Vendor>(cx: &mut Cx<'_, V>, is_whole: bool) -> core::result::Result<Insn, Stop> {
    if is_whole && cx.state.control.fetched().is_empty() {
        let mut processor = Processor::new(cx);
        let words = processor.fetch_words::<2>(&processor.guest());
        let window = words.as_ref().map_or(&[] as &[u8], |words| words.as_bytes());
        return fetch(&mut processor, window);
    }
    let window = cx.state.control.fetched().len();
    let mut bytes = [0; 15];
    bytes.iter_mut().zip(cx.state.control.fetched()).for_each(|(byte, fetched)| *byte = *fetched);
    fetch(&mut Processor::new(cx), bytes.get(..window.min(15)).unwrap_or(&[]))
}

fn execute_once<V: Vendor>(cx: &mut Cx<'_, V>, under_way: UnderWay) -> Result<Next> {
    cx.state.replay.rewind();
    // Of other instructions it isn't known which access it is.
    let touched = under_way.touched.filter(|_| under_way.insn.is_plain_move());
    let mut processor = Processor::with_touched(cx, touched);
    let result = execute(&mut processor, &under_way.insn);
    let after = processor.after();
    if matches!(result, Err(Stop::NeedsExit)) {
        cx.state.under_way = Some(under_way);
    }
    match result {
        Ok(completed) => {
            cx.state.replay.clear();
            finish(cx, completed);
            match after {
                After::Nothing => Ok(Next::Resume),
                After::Halt => halt::halted(cx),
                After::LowerPriority => userspace::exit(cx, reason::KVM_EXIT_SET_TPR),
            }
        }
        Err(stop) => stopped(cx, stop),
    }
}

/// What a completed instruction leaves behind.
fn finish<V: Vendor>(cx: &mut Cx<'_, V>, completed: Completed) {
    let state = &mut *cx.state;
    state.events.check = true;
    if !completed.repeat {
        state.control.set_shadow(completed.shadow);
    }
    let mut debug = Dr6::empty();
    state.debug.executed();
    debug.set(Dr6::BS, completed.single_step);
    debug.set(Dr6::BT, completed.task_trap);
    if !debug.is_empty() {
        let mut trap = Exception::new(Vector::Db);
        trap.payload = Some(debug.bits());
        state.events.raise(trap);
    }
}

fn stopped<V: Vendor>(cx: &mut Cx<'_, V>, stop: Stop) -> Result<Next> {
    match stop {
        Stop::Fault(exception) => {
            cx.state.replay.clear();
            cx.state.events.raise(exception);
            Ok(Next::Resume)
        }
        Stop::NeedsExit => leave(cx),
        Stop::Retry => Ok(Next::Resume),
        Stop::TripleFault => {
            cx.state.events.triple_fault = true;
            Ok(Next::Resume)
        }
        Stop::Unsupported => failed(cx),
    }
}

/// Takes the pending access to userspace.
fn leave<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    if matches!(cx.state.completion, Completion::Msr { .. }) {
        // Userspace was asked already.
        return Ok(Next::ToUser);
    }
    if let Some(left) = batch::leave(cx) {
        return left;
    }
    let Some(fragment) = cx.state.replay.pending().copied() else { return failed(cx) };
    let len = fragment.len;
    match fragment.kind {
        FragmentKind::MmioRead => {
            userspace::mmio(cx, fragment.addr, len, None, Completion::Fragment)
        }
        FragmentKind::MmioWrite => {
            userspace::mmio(cx, fragment.addr, len, Some(fragment.data), Completion::Fragment)
        }
        FragmentKind::PortIn => {
            userspace::port_io(cx, fragment.addr as u16, len, None, Completion::Fragment)
        }
        FragmentKind::PortOut => userspace::port_io(
            cx,
            fragment.addr as u16,
            len,
            Some(fragment.data as u32),
            Completion::Fragment,
        ),
    }
}

/// An instruction that the emulator doesn't know. User mode of the guest gets
/// #UD, for it must not be able to stop the VM; for the guest's kernel userspace
/// is told. Userspace that wants to see to all of them itself gets them as they are.
pub(crate) fn failed<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    cx.vcpu.stats().arch.insn_emulation_fail.add(1);
    cx.state.replay.clear();
    if !cx.vm.arch().settings.exit_on_failure() {
        cx.state.events.raise(Exception::new(Vector::Ud));
        if cx.state.control.cpl() != 0 {
            return Ok(Next::Resume);
        }
    }
    let (size, bytes) = code(cx);
    if size == 0 {
        return userspace::internal_error(cx, KVM_INTERNAL_ERROR_EMULATION, &[0]);
    }
    // The size, and fifteen bytes behind it.
    let mut words = [size, 0];
    for (byte, index) in bytes.into_iter().zip(1_u32..) {
        if let Some(word) = words.get_mut((index / 8) as usize) {
            *word |= u64::from(byte).wrapping_shl(index.wrapping_mul(8));
        }
    }
    let [first, second] = words;
    let data = [KVM_INTERNAL_ERROR_EMULATION_INSTRUCTION_BYTES, first, second];
    userspace::internal_error(cx, KVM_INTERNAL_ERROR_EMULATION, &data)
}

/// The code at RIP, as far as it is there: number of bytes, and the bytes with NOPs
/// behind them.
fn code<V: Vendor>(cx: &mut Cx<'_, V>) -> (u64, [u8; 15]) {
    let mut bytes = [0x90; 15];
    let mut size = 0;
    let start = crate::exit::debug::linear_rip(&cx.state.control);
    let mut processor = Processor::new(cx);
    for (byte, ahead) in bytes.iter_mut().zip(0_u64..) {
        let at = start.wrapping_add(ahead);
        if processor.fetch_linear(at, core::slice::from_mut(byte)).is_err() {
            *byte = 0x90;
            break;
        }
        size = ahead.wrapping_add(1);
    }
    (size, bytes)
}

/// Goes past the instruction at RIP, which was executed elsewhere.
///
/// # Errors
///
/// As [`instruction`].
pub fn skip<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    let next = match cx.state.control.next_rip() {
        Some(next) => next,
        None => match length(cx) {
            Ok(length) => cx.state.control.rip().wrapping_add(u64::from(length)),
            Err(stop) => return stopped(cx, stop),
        },
    };
    advance(cx, next);
    Ok(Next::Resume)
}

/// The same for an instruction that accessed a device.
///
/// # Errors
///
/// As [`instruction`].
pub(crate) fn skip_access<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    let next = match cx.state.control.next_rip() {
        None => plain::next_rip(cx),
        known => known,
    };
    match next {
        Some(next) => {
            advance(cx, next);
            Ok(Next::Resume)
        }
        None => skip(cx),
    }
}

/// Where the instruction after the one that exited is, if that can be found out in any
/// context.
#[inline]
pub(crate) fn next_rip_at_once<V: Vendor>(cx: &mut Cx<'_, V>) -> Option<u64> {
    if let Some(next) = cx.state.control.next_rip() {
        return Some(next);
    }
    let processor = Processor::new(cx);
    let [word] = processor.fetch_words(&processor.guest_atomic())?;
    Some(cx.state.control.rip().wrapping_add(u64::from(plain_length(word)?)))
}

/// The same for an instruction that accessed a device.
#[inline]
pub(crate) fn access_next_at_once<V: Vendor>(cx: &mut Cx<'_, V>) -> Option<u64> {
    cx.state.control.next_rip().or_else(|| plain::next_rip_at_once(cx))
}

/// Executes the instruction at RIP in any context in which spin locks may be taken, if it is
/// a plain move to or from what the kernel has at `touched`; whether it did.
#[inline]
pub(crate) fn access_at_once<V: Vendor>(cx: &mut Cx<'_, V>, touched: Gpa, off: &IrqOff) -> bool {
    let is_done = plain::access_at_once(cx, touched, off);
    if is_done {
        cx.vcpu.stats().arch.insn_emulation.add(1);
    }
    is_done
}

/// Bytes of the instruction at RIP.
fn length<V: Vendor>(cx: &mut Cx<'_, V>) -> core::result::Result<u8, Stop> {
    let mut processor = Processor::new(cx);
    let plain = processor.fetch_words(&processor.guest()).and_then(|[word]| plain_length(word));
    match plain {
        Some(length) => Ok(length),
        None => fetch(&mut processor, &[]).map(|insn| insn.len),
    }
}

/// An instruction was executed and RIP is `next`: what else that means.
pub(crate) fn advance<V: Vendor>(cx: &mut Cx<'_, V>, next: u64) {
    let control = &mut cx.state.control;
    // RIP gets above 4 GiB in 64-bit mode only: from there, or from right below it.
    let crosses = next >> 32 != 0 && control.rip() >> 32 == 0;
    let wraps = crosses && !control.is_64_bit_code();
    control.set_rip(if wraps { next & 0xffff_ffff } else { next });
    let had_shadow = control.shadow() != Shadow::None;
    if had_shadow {
        control.set_shadow(Shadow::None);
    }
    let rflags = control.rflags();
    if rflags.contains(Rflags::RF) {
        control.set_rflags(rflags.difference(Rflags::RF));
    }
    if had_shadow {
        cx.state.events.check = true;
    }
    cx.state.debug.executed();
    if rflags.contains(Rflags::TF) {
        let mut trap = Exception::new(Vector::Db);
        trap.payload = Some(Dr6::BS.bits());
        cx.state.events.raise(trap);
    }
}

/// Where a linear address leads, for the guest's kernel; nothing is changed.
pub(crate) fn physical<V: Vendor>(cx: &mut Cx<'_, V>, linear: u64) -> Option<u64> {
    linear::physical(cx, linear)
}

/// Whether the instruction at RIP is RSM, which the emulator leaves to its caller.
pub(crate) fn is_rsm<V: Vendor>(cx: &mut Cx<'_, V>) -> bool {
    const RSM: [u8; 2] = [0x0f, 0xaa];
    let at = crate::exit::debug::linear_rip(&cx.state.control);
    let mut bytes = [0; 2];
    Processor::new(cx).fetch_linear(at, &mut bytes).is_ok() && bytes == RSM
}

/// Whether the instruction at RIP is the hypercall instruction of the other vendor.
pub(crate) fn is_foreign_hypercall<V: Vendor>(cx: &mut Cx<'_, V>) -> bool {
    let foreign = if V::AMD { Op::Vmcall } else { Op::Vmmcall };
    fetch(&mut Processor::new(cx), &[]).is_ok_and(|insn| insn.op == foreign)
}

/// Goes past the prefix that has an instruction emulated, if it is at RIP; whether it
/// was.
pub(crate) fn skip_prefix<V: Vendor>(cx: &mut Cx<'_, V>) -> bool {
    /// UD2, "kvm".
    const PREFIX: [u8; 5] = [0x0f, 0x0b, b'k', b'v', b'm'];
    let start = debug::linear_rip(&cx.state.control);
    let mut processor = Processor::new(cx);
    let is_there = (0..).zip(PREFIX).all(|(index, expected)| {
        let mut byte = [0];
        let read = processor.fetch_linear(start.wrapping_add(index), &mut byte);
        read.is_ok() && byte == [expected]
    });
    if is_there {
        let rip = cx.state.control.rip();
        cx.state.control.set_rip(rip.wrapping_add(PREFIX.len() as u64));
    }
    is_there
}

/// Switches to another task. `past_instruction`: the instruction at RIP is over
/// as far as the old task is concerned.
///
/// # Errors
///
/// As [`instruction`].
pub(crate) fn switch_task<V: Vendor>(
    cx: &mut Cx<'_, V>,
    switch: &Switch,
    source: TaskSwitchSource,
    past_instruction: bool,
) -> Result<Next> {
    let mut next_rip = cx.state.control.rip();
    if past_instruction {
        match length(cx) {
            Ok(length) => next_rip = next_rip.wrapping_add(length.into()),
            Err(stop) => return stopped(cx, stop),
        }
    }
    let request =
        TaskSwitch { selector: switch.selector, source, error_code: switch.error_code, next_rip };
    match task_switch(&mut Processor::new(cx), &request) {
        Ok(completed) => {
            finish(cx, completed);
            Ok(Next::Resume)
        }
        Err(stop) => stopped(cx, stop),
    }
}

/// AL, AX or EAX.
pub(crate) fn accumulator(gprs: &Gprs, size: u8) -> u32 {
    let [rax, ..] = gprs;
    match size {
        1 => (*rax & 0xff) as u32,
        2 => (*rax & 0xffff) as u32,
        _ => *rax as u32,
    }
}

/// Sets AL, AX or EAX (which clears the upper half of RAX).
pub(crate) fn set_accumulator(gprs: &mut Gprs, size: u8, value: u32) {
    let [rax, ..] = gprs;
    *rax = match size {
        1 => *rax & !0xff | u64::from(value & 0xff),
        2 => *rax & !0xffff | u64::from(value & 0xffff),
        _ => u64::from(value),
    };
}
