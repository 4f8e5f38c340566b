// SPDX-License-Identifier: GPL-2.0
//! `KVM_RUN`: enter, exit, handle, enter.
//!
//! One turn of the loop: serve requests, deliver interruptions, enter SIE, and
//! handle the interception. Whatever is left for the vCPU after it has looked gets
//! it out of SIE again ([`kvm_sys::kick`]).

use crate::{
    crypto::{self, SET_KEYS},
    debug, deliver, exit,
    ioctl::clock::SET_EPOCH,
    pfault::{self, PAGE_CAME},
    sie::{MAP_PREFIX, SEE_OPERATIONS},
    state::{operation_control, Cx, Next},
    sync,
    vm::Choice,
};
use core::mem;
use kernel::{prelude::*, sync::atomic::Relaxed};
use kvm_core::memory::Fault;
use kvm_paging::{addr::Gpa, entry::Access};
use kvm_sys::{
    guest_mode,
    irq::{self, IrqOff},
    preempt::PreemptOff,
    s390::{self, registers},
};
use kvm_uapi::run::{offset, reason, SieIntercept};
use s390_arch::sie::CpuFlags;
use s390_hw::Exit;
use zerocopy::{Immutable, IntoBytes};

/// Runs the vCPU until userspace is needed.
///
/// # Errors
///
/// `EINTR` if a signal is pending or userspace asked to return at once; `EINVAL`
/// for registers or a state that can't run; `EFAULT`, `ENOMEM`.
pub(crate) fn run(cx: &mut Cx<'_>) -> Result<u32> {
    let page = sync::page(cx)?;
    if page.read::<u8, { offset::IMMEDIATE_EXIT }>() != 0 {
        return Err(EINTR);
    }
    let shared = cx.vcpu.shared();
    if shared.is_stopped() {
        if cx.vm.arch().choices.has(Choice::UserCpuState) {
            return Err(EINVAL);
        }
        start(cx);
    }
    sync::accept(cx)?;
    let mut loaded = mem::take(&mut cx.state.registers);
    shared.set_running(true);
    let is_debugged = cx.state.debug.is_some();
    let run = |cx: &mut Cx<'_>| if is_debugged { run_debugged(cx) } else { run_loop(cx) };
    let result = registers::with_loaded(&mut loaded, || run(cx)).unwrap_or(Err(EFAULT));
    shared.set_running(false);
    cx.state.registers = loaded;
    sync::publish(cx)?;
    cx.vcpu.stats().arch.exit_userspace.add(1);
    result.map(|()| 0)
}

/// From the stopped to the operating state.
pub(crate) fn start(cx: &mut Cx<'_>) {
    cx.vcpu.shared().set_stopped(false);
    cx.state.set_flags(CpuFlags::STOPPED, false);
    cx.state.flush();
}

/// From the operating to the stopped state.
pub(crate) fn stop(cx: &mut Cx<'_>) {
    cx.vcpu.shared().set_stopped(true);
    cx.state.set_flags(CpuFlags::STOPPED, true);
}

fn run_loop(cx: &mut Cx<'_>) -> Result {
    run_with::<false>(cx)
}

/// With a debugger outside.
#[cold]
#[inline(never)]
fn run_debugged(cx: &mut Cx<'_>) -> Result {
    if debug::resume(cx)?.is_some() {
        return Ok(());
    }
    run_with::<true>(cx)
}

#[inline(always)]
fn run_with<const DEBUGGED: bool>(cx: &mut Cx<'_>) -> Result {
    loop {
        match turn::<DEBUGGED>(cx)? {
            Next::Resume => {}
            Next::ToUser => return Ok(()),
            Next::Intercept => return intercept(cx),
        }
    }
}

/// Returns to userspace with the interception as it is.
fn intercept(cx: &Cx<'_>) -> Result {
    let block = &*cx.state.block;
    let what = SieIntercept { icptcode: block.intercept, pad: 0, ipa: block.ipa, ipb: block.ipb };
    exit_with(cx, reason::KVM_EXIT_S390_SIEIC, what).map(|_| ())
}

/// Returns to userspace with a reason and what it says.
pub(crate) fn exit_with<T: IntoBytes + Immutable>(
    cx: &Cx<'_>,
    reason: u32,
    payload: T,
) -> Result<Next> {
    let page = sync::page(cx)?;
    page.write::<T, { offset::EXIT }>(payload);
    page.write::<u32, { offset::EXIT_REASON }>(reason);
    Ok(Next::ToUser)
}

/// A signal wants the thread back.
pub(crate) fn interrupted<T>(cx: &Cx<'_>) -> Result<T> {
    cx.vcpu.stats().arch.signal_exits.add(1);
    sync::page(cx)?.write::<u32, { offset::EXIT_REASON }>(reason::KVM_EXIT_INTR);
    Err(EINTR)
}

/// One turn of the loop.
#[inline(always)]
fn turn<const DEBUGGED: bool>(cx: &mut Cx<'_>) -> Result<Next> {
    if guest_mode::maybe_work_pending() && guest_mode::handle_work().is_err() {
        return interrupted(cx);
    }
    if DEBUGGED {
        if let Some(next) = debug::deliver(cx)? {
            return Ok(next);
        }
    } else {
        let _ = deliver::deliver(cx)?;
    }
    if !serve(cx)? {
        return Ok(Next::Resume);
    }
    cx.state.block.intercept = 0;
    let _ = s390::take_host_fault();
    let exit = if DEBUGGED { debug::enter(cx, step) } else { step(cx) };
    match exit {
        None => Ok(Next::Resume),
        Some(Exit::Normal) if DEBUGGED => debug::handle(cx),
        Some(Exit::Normal) => exit::handle(cx),
        Some(Exit::MachineCheck) => exit::machine_check(cx),
    }
}

/// Enters SIE and comes out.
#[inline(always)]
fn step(cx: &mut Cx<'_>) -> Option<Exit> {
    let _on_this_cpu = PreemptOff::new();
    irq::with_irqs_off(|off| enter(cx, off))
}

/// Does what was asked of the vCPU; whether the guest can be entered now.
#[inline]
fn serve(cx: &mut Cx<'_>) -> Result<bool> {
    let requests = cx.vcpu.requests.take();
    if requests.is_empty() {
        return Ok(true);
    }
    if requests.has(SEE_OPERATIONS) {
        cx.state.block.intercept_control |= operation_control(&cx.vm);
    }
    if requests.has(SET_EPOCH) {
        cx.state.block.epoch = cx.vm.arch().epoch.load(Relaxed);
    }
    if requests.has(SET_KEYS) {
        crypto::set_up(&cx.vm, cx.state);
    }
    let is_mapped = !requests.has(MAP_PREFIX) || map_prefix(cx)?;
    if requests.has(PAGE_CAME) {
        pfault::came(&cx.vm, cx.vcpu)?;
        // What it tells the guest is delivered first.
        return Ok(false);
    }
    Ok(is_mapped)
}

/// Makes the pages of the prefix there for SIE; whether they are.
fn map_prefix(cx: &mut Cx<'_>) -> Result<bool> {
    let prefix = u64::from(cx.state.block.prefix());
    let vm = cx.vm;
    for page in [prefix, prefix.wrapping_add(0x1000)] {
        let access = Access::READ | Access::WRITE;
        match vm.memory().fault(&mut cx.state.memory, Gpa::new(page), access) {
            Ok(Fault::Mapped | Fault::Spurious) => {}
            Ok(Fault::Retry | Fault::Slow(_)) => {
                cx.vcpu.requests.set(MAP_PREFIX);
                return Ok(false);
            }
            // The guest finds out when it uses them.
            Ok(Fault::Mmio | Fault::ReadOnly) => {}
            Err(error) => {
                cx.vcpu.requests.set(MAP_PREFIX);
                return Err(error);
            }
        }
    }
    Ok(true)
}

/// Enters SIE, unless something has to be seen to first.
#[inline]
fn enter(cx: &mut Cx<'_>, off: &mut IrqOff) -> Option<Exit> {
    let vcpu = cx.vcpu;
    guest_mode::prepare(off);
    vcpu.kick.enter(off);
    let busy =
        guest_mode::work_pending(off) || !vcpu.requests.is_empty() || vcpu.shared().has_news();
    if busy {
        vcpu.kick.leave();
        return None;
    }
    let state = &mut *cx.state;
    let [.., gpr14, gpr15] = state.gprs;
    state.block.gpr14 = gpr14;
    state.block.gpr15 = gpr15;
    guest_mode::timing_enter(off);
    let exit = guest_mode::in_guest(off, || {
        s390_hw::enter(off, &mut state.block, &mut state.gprs, state.space)
    });
    guest_mode::note_quiescence(off);
    guest_mode::timing_exit(off);
    vcpu.kick.leave();
    let [.., gpr14, gpr15] = &mut state.gprs;
    *gpr14 = state.block.gpr14;
    *gpr15 = state.block.gpr15;
    Some(exit)
}
