// SPDX-License-Identifier: GPL-2.0
//! KVM's hypercalls (`Documentation/virt/kvm/x86/hypercalls.rst`).

use crate::{apic::send, control::Control, pv, state::Cx, vendor::Vendor};
use kvm_irqchip::message::{Delivery, DestMode, Message, Trigger};
use kvm_paging::addr::Gpa;
use kvm_policy::hypercall::{decode, Call, CallError, CallRegs, CallRules, SendIpi};
use kvm_sys::x86::{
    trace::kvm_hypercall,
    tsc::{self as host, Clock},
};

/// Carries out the hypercall in RAX; the answer goes there.
pub(crate) fn call<V: Vendor>(cx: &mut Cx<'_, V>) {
    let asked = Asked::of(cx);
    asked.tell();
    let answer = match asked.call {
        Ok(call) => carry_out(cx, call).unwrap_or_else(CallError::rax),
        Err(error) => error.rax(),
    };
    asked.answer(cx, answer);
}

/// The same in any context, if it asks for nothing, or for something that it doesn't get; whether
/// it does.
#[inline]
pub(crate) fn at_once<V: Vendor>(cx: &mut Cx<'_, V>) -> bool {
    let asked = Asked::of(cx);
    let answer = match asked.call {
        Ok(Call::PollIrq) => 0,
        Err(error) => error.rax(),
        Ok(_) => return false,
    };
    asked.tell();
    asked.answer(cx, answer);
    true
}

/// A hypercall.
struct Asked {
    /// It is one of 64-bit mode.
    long: bool,
    regs: CallRegs,
    call: Result<Call, CallError>,
}

impl Asked {
    #[inline]
    fn of<V: Vendor>(cx: &Cx<'_, V>) -> Self {
        let [rax, rcx, rdx, rbx, _, _, rsi, ..] = cx.state.gprs;
        let regs = CallRegs { rax, rbx, rcx, rdx, rsi };
        let control = &cx.state.control;
        let long = control.is_64_bit_code();
        let rules = CallRules { features: pv::usable(cx.state), map_gpa_range: false };
        let call = decode(&regs, long, control.cpl(), &rules);
        Self { long, regs, call }
    }

    /// Tells it to who traces, before anything that follows from it. Outside of 64-bit mode
    /// the registers have 32 bits.
    #[inline]
    fn tell(&self) {
        kvm_hypercall(|| {
            let CallRegs { rax, rbx, rcx, rdx, rsi } = self.regs;
            let bits = if self.long { u64::MAX } else { u32::MAX.into() };
            (rax & bits, rbx & bits, rcx & bits, rdx & bits, rsi & bits)
        });
    }

    #[inline]
    fn answer<V: Vendor>(&self, cx: &mut Cx<'_, V>, answer: u64) {
        cx.vcpu.stats().arch.hypercalls.add(1);
        let [rax, ..] = &mut cx.state.gprs;
        *rax = if self.long { answer } else { answer & 0xffff_ffff };
    }
}

fn carry_out<V: Vendor>(cx: &mut Cx<'_, V>, call: Call) -> Result<u64, CallError> {
    match call {
        Call::PollIrq => Ok(0),
        Call::Kick { apic_id } => {
            let wake = to(apic_id, 0, Delivery::RemoteRead);
            let _ = send::message(&cx.vm, &wake, |_| {});
            yield_to(cx, apic_id);
            Ok(0)
        }
        Call::Yield { apic_id } => {
            yield_to(cx, apic_id);
            Ok(0)
        }
        Call::SendIpi(ipi) => Ok(send_ipi(cx, &ipi)),
        Call::ClockPairing { gpa } => pair_clocks(cx, gpa),
        Call::MapGpaRange { .. } => Err(CallError::Unknown),
    }
}

/// Lets the vCPU with an APIC ID run instead of this one, if it is waiting to.
fn yield_to<V: Vendor>(cx: &Cx<'_, V>, apic_id: u32) {
    let stats = &cx.vcpu.stats().arch;
    stats.directed_yield_attempted.add(1);
    let Some(to) = send::with_id(&cx.vm, apic_id) else { return };
    if cx.vm.vcpus().yield_to(cx.vcpu, to.0.into()) > 0 {
        stats.directed_yield_successful.add(1);
    }
}

/// A message to one APIC.
fn to(apic_id: u32, vector: u8, delivery: Delivery) -> Message {
    Message {
        dest: apic_id,
        vector,
        delivery,
        dest_mode: DestMode::Physical,
        trigger: Trigger::Edge,
        assert: true,
        redirect_hint: false,
    }
}

/// Sends an interrupt to many; how many took it.
fn send_ipi<V: Vendor>(cx: &Cx<'_, V>, ipi: &SendIpi) -> u64 {
    let message = to(0, ipi.icr as u8, Delivery::from_register(ipi.icr));
    ipi.words().fold(0u64, |count, (first, ids)| {
        count.saturating_add(send::to_ids(&cx.vm, &message, ids, first).into())
    })
}

/// Tells the time of day and the guest's TSC of one moment.
fn pair_clocks<V: Vendor>(cx: &Cx<'_, V>, gpa: u64) -> Result<u64, CallError> {
    const SECOND: i64 = 1_000_000_000;
    const BYTES: usize = 64;
    if !cx.vm.arch().clock.is_stable() {
        return Err(CallError::NotSupported);
    }
    let now = host::read(Clock::Realtime).ok_or(CallError::NotSupported)?;
    let mut record = [0; BYTES];
    let fields = now
        .time
        .div_euclid(SECOND)
        .to_le_bytes()
        .into_iter()
        .chain(now.time.rem_euclid(SECOND).to_le_bytes())
        .chain(cx.state.tsc.at(now.tsc).to_le_bytes());
    for (byte, value) in record.iter_mut().zip(fields) {
        *byte = value;
    }
    cx.vm
        .memory()
        .guest()
        .by(cx.vcpu.index())
        .write(Gpa::new(gpa), &record)
        .map_err(|_| CallError::Fault)?;
    Ok(0)
}
