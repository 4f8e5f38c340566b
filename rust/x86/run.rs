// SPDX-License-Identifier: GPL-2.0
//! `KVM_RUN`: enter, exit, handle, enter.
//!
//! One turn of the loop: serve requests, take in what others left in the mailbox,
//! choose an event to deliver, enter, and handle the exit. Whatever is left for
//! the vCPU after it has looked gets it out of the guest again ([`kvm_sys::kick`]).

use crate::{
    apic,
    control::{Control, Entry},
    exit, host, inject,
    ioctl::sync_regs,
    irqchip::ioapic,
    mailbox, msr_filter,
    outcome::Next,
    pv::{async_fault, clock, steal},
    quick, request,
    settings::Quirk,
    state::{Activity, Cx},
    trace, userspace,
    vendor::Vendor,
};
use kernel::{error::Result, prelude::*};
use kvm_core::request::{Request, Taken};
use kvm_sys::{
    guest_mode,
    irq::{self, IrqOff},
    kick::Woken,
    preempt::{with_hooks, PreemptOff},
    x86::{debugreg, fpu::with_loaded, spec_ctrl},
};
use kvm_uapi::run::{offset, reason};

/// Runs the vCPU until userspace is needed.
///
/// # Errors
///
/// `EINTR` if a signal is pending or userspace asked to return at once; `EFAULT`
/// if memory that a slot promises isn't there; `ENOMEM`.
pub(crate) fn run<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<u32> {
    cx.state.extended.begin_run();
    cx.vcpu.stats().arch.fpu_reload.add(1);
    let (vm, vcpu) = (cx.vm, cx.vcpu);
    let hooks = steal::Hooks { vm: &vm, vcpu };
    let result = with_hooks(vm.arch().hooks(), &hooks, || {
        cx.state.link.is_running = true;
        let result = with_loaded(cx, |cx| &mut cx.state.fpu, run_loop);
        cx.state.link.is_running = false;
        // What was offered for an entry that didn't come to be is not to be saved.
        apic::withdraw(cx);
        V::Control::left(vcpu.shared().control(), PreemptOff::new().pinned());
        result
    });
    let result = with_owed(cx, result);
    userspace::publish(cx)?;
    sync_regs::publish(cx)?;
    result.map(|()| 0)
}

/// A signal, or userspace itself, ends the run: what userspace waits for goes first. Whoever saves the
/// vCPU now would never hear of it.
fn with_owed<V: Vendor>(cx: &mut Cx<'_, V>, result: Result) -> Result {
    match result {
        Err(EINTR) if apic::owes_eoi(cx) => apic::eoi_exit(cx).map(drop),
        other => other,
    }
}

fn run_loop<V: Vendor>(cx: &mut Cx<'_, V>) -> Result {
    if cx.state.activity == Activity::Uninitialized {
        return wait_for_start(cx);
    }
    steal::begin(cx);
    sync_regs::accept(cx)?;
    userspace::accept(cx)?;
    if userspace::complete(cx)? == Next::ToUser {
        return Ok(());
    }
    if userspace::run_page(cx)?.read::<u8, { offset::IMMEDIATE_EXIT }>() != 0 {
        // The last exit is finished; its reason stays for whoever looks at it again.
        return Err(EINTR);
    }
    if cx.state.events.init {
        // Userspace said that it came.
        mailbox::start(cx);
    }
    while turn(cx)? == Next::Resume {}
    Ok(())
}

/// A signal wants the thread back.
fn interrupted<V: Vendor>(cx: &Cx<'_, V>) -> Result {
    cx.vcpu.stats().arch.signal_exits.add(1);
    let _ = userspace::exit(cx, reason::KVM_EXIT_INTR)?;
    Err(EINTR)
}

/// One turn of the loop.
fn turn<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    if guest_mode::maybe_work_pending() && guest_mode::handle_work().is_err() {
        interrupted(cx)?;
    }
    let requests = cx.vcpu.requests.take();
    if !requests.is_empty() && serve(cx, requests)? == Next::ToUser {
        return Ok(Next::ToUser);
    }
    if !cx.vcpu.shared().mailbox().inbox().is_empty() {
        mailbox::open(cx);
    }
    if cx.state.activity != Activity::Runnable {
        return block(cx);
    }
    if cx.state.debug.is_stepping() {
        if cx.state.debug.take_step() {
            return exit::debug::stepped(cx);
        }
        // An event that was delivered has taken the trap flag away.
        cx.state.control.set_stepping(true);
    }
    if cx.state.events.check {
        cx.vcpu.stats().arch.req_event.add(1);
        inject::deliver(cx);
    }
    if cx.state.events.triple_fault {
        cx.state.events.triple_fault = false;
        return userspace::exit(cx, reason::KVM_EXIT_SHUTDOWN);
    }
    let on_this_cpu = PreemptOff::new();
    cx.state.control.prepare(cx.vcpu.shared().control(), on_this_cpu.pinned());
    let has_exited = irq::with_irqs_off(|off| enter(cx, off));
    drop(on_this_cpu);
    if !has_exited {
        return Ok(Next::Resume);
    }
    cx.vcpu.stats().arch.exits.add(1);
    after_exit(cx);
    V::handle_exit(cx)
}

/// Does what others want of the vCPU.
#[inline(never)]
fn serve<V: Vendor>(cx: &mut Cx<'_, V>, requests: Taken) -> Result<Next> {
    if cx.vcpu.is_ring_full(requests) {
        return userspace::exit(cx, reason::KVM_EXIT_DIRTY_RING_FULL);
    }
    if requests.has(Request::FLUSH_TLB) {
        cx.vcpu.stats().arch.tlb_flush.add(1);
        cx.state.control.flush_tlb();
    }
    if requests.has(clock::UPDATE) {
        clock::update(cx);
    }
    if requests.has(steal::UPDATE) {
        steal::update(cx);
    }
    if requests.has(request::MSR_FILTER) {
        msr_filter::changed(cx);
    }
    if requests.has(request::QUIRKS) {
        let by_guest = !cx.vm.arch().settings.has_quirk(Quirk::CdNwCleared);
        cx.state.control.set_caches_by_guest(by_guest);
    }
    if requests.has(request::PAUSE_WINDOW) {
        exit::pause::rested(cx);
    }
    if requests.has(request::PAGE_CAME) {
        async_fault::came(cx);
    }
    serve_interrupts(cx, requests)
}

/// Requests about interrupts.
fn serve_interrupts<V: Vendor>(cx: &mut Cx<'_, V>, requests: Taken) -> Result<Next> {
    if requests.has(request::START) {
        mailbox::start(cx);
    }
    if requests.has(request::SCAN_EOI) {
        apic::scan(cx);
    }
    if requests.has(request::RTC_STATUS) {
        apic::restore_rtc(cx);
    }
    let irqchip = cx.vm.arch().irqchip();
    if let Some(pit) = irqchip.pit().filter(|_| requests.has(request::PIT_TICK)) {
        pit.expired(&cx.vm);
    }
    if let Some(board) = irqchip.board().filter(|_| requests.has(request::IOAPIC_RETRY)) {
        ioapic::retry(&cx.vm, board);
    }
    let result = exits(cx, requests);
    if requests.has(request::APIC_MAP) && apic::map::rebuild(&cx.vm).is_err() {
        cx.vcpu.requests.set(request::APIC_MAP);
        if matches!(result, Ok(Next::Resume)) {
            return Err(ENOMEM);
        }
    }
    result
}

/// Requests to tell userspace of something; one at a time.
fn exits<V: Vendor>(cx: &mut Cx<'_, V>, requests: Taken) -> Result<Next> {
    if requests.has(request::EOI_EXIT) {
        if requests.has(request::TPR_EXIT) {
            cx.vcpu.requests.set(request::TPR_EXIT);
        }
        return apic::eoi_exit(cx);
    }
    if requests.has(request::TPR_EXIT) {
        return apic::vapic::exit(cx);
    }
    Ok(Next::Resume)
}

/// Enters the guest, unless something has to be seen to first; whether there is an exit to
/// handle.
#[inline]
fn enter<V: Vendor>(cx: &mut Cx<'_, V>, off: &mut IrqOff) -> bool {
    let vcpu = cx.vcpu;
    guest_mode::prepare(off);
    vcpu.kick.enter(off);
    if is_wanted_outside(cx, off) {
        vcpu.kick.leave();
        return false;
    }
    let here = off.pinned().number();
    if cx.state.pv.clock.is_from_elsewhere(here) && !cx.vm.arch().clock.is_stable() {
        vcpu.requests.set(clock::UPDATE);
        vcpu.kick.leave();
        return false;
    }
    // While everything is the host's still: who traces may run programs of his own.
    trace::entry(cx);
    let state = &mut *cx.state;
    state.has_run = true;
    if let Ok(host) = host::get() {
        host.cpus.enter(&mut state.presence, || state.control.user_msrs(), off);
    }
    state.fpu.before_entry(off);
    state.extended.before_entry(off);
    debugreg::before_entry(off, state.debug.active());
    guest_mode::timing_enter(off);
    state.extended.before_entry_pkru(off);
    let has_exited = run_guest(cx, off);
    let state = &mut *cx.state;
    state.extended.after_exit_pkru(off);
    if state.debug.is_open() {
        state.debug.close(&mut state.control, debugreg::addresses(off));
    }
    debugreg::after_exit(off);
    vcpu.kick.leave();
    state.extended.after_exit(off);
    state.fpu.after_exit(off);
    spec_ctrl::guest_ran(off);
    guest_mode::note_quiescence(off);
    // The interrupt that got the guest out is the guest's time still.
    state.control.take_host_event(off);
    off.window();
    guest_mode::timing_exit(off);
    has_exited
}

/// Whether somebody wants something of the vCPU. What comes after this interrupts the guest.
#[inline]
pub(crate) fn is_wanted_outside<V: Vendor>(cx: &Cx<'_, V>, off: &IrqOff) -> bool {
    let vcpu = cx.vcpu;
    guest_mode::work_pending(off)
        || !vcpu.requests.is_empty()
        || !vcpu.shared().mailbox().inbox().is_empty()
}

/// In the guest, as long as its exits are over at once; whether the last one is not.
#[inline]
fn run_guest<V: Vendor>(cx: &mut Cx<'_, V>, off: &IrqOff) -> bool {
    let mut entry = Entry::First;
    loop {
        let state = &mut *cx.state;
        state.control.enter(cx.vcpu.shared().control(), &mut state.gprs, entry, off);
        if !quick::handle(cx, off) {
            return true;
        }
        if !quick::may_go_on(cx, off) && !quick::deliver(cx, off) {
            return false;
        }
        entry = Entry::Again;
    }
}

/// What is the same after every exit.
#[inline]
fn after_exit<V: Vendor>(cx: &mut Cx<'_, V>) {
    trace::exit(cx);
    apic::after_exit(cx);
    let state = &mut *cx.state;
    if state.events.injected.is_some() {
        state.events.injected = None;
        state.events.check = true;
    }
    if let Some(event) = state.control.interrupted() {
        state.events.injected = Some(event);
        state.events.check = true;
    }
}

/// HLT and its like: sleeps until there is something to do.
#[inline(never)]
fn block<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    let vcpu = cx.vcpu;
    if mailbox::has_reason_to_run(cx) {
        cx.state.pv.unhalted = false;
        cx.state.pv.faults.halted = false;
        cx.state.activity = Activity::Runnable;
        return Ok(Next::Resume);
    }
    if cx.state.events.startup.is_some() {
        // Userspace said that it came.
        mailbox::start(cx);
        return Ok(Next::Resume);
    }
    if apic::timer::sleep(cx) {
        // Look once more.
        return Ok(Next::Resume);
    }
    let is_hlt = cx.state.activity == Activity::Halted && !cx.state.pv.faults.halted;
    let may_poll = is_hlt && cx.state.pv.may_poll();
    let woken = vcpu.halt(may_poll, cx.vm.longest_halt_poll(), || {
        !vcpu.shared().mailbox().inbox().is_empty() || !vcpu.requests.is_empty()
    });
    if woken == Woken::Signal {
        interrupted(cx)?;
    }
    Ok(Next::Resume)
}

/// A processor that was never started waits for its INIT; userspace is not to
/// call in a loop meanwhile.
#[inline(never)]
fn wait_for_start<V: Vendor>(cx: &mut Cx<'_, V>) -> Result {
    if userspace::run_page(cx)?.read::<u8, { offset::IMMEDIATE_EXIT }>() != 0 {
        return Err(EINTR);
    }
    let vcpu = cx.vcpu;
    let is_here = cx.state.events.init;
    let woken = vcpu.kick.block(|| is_here || !vcpu.shared().mailbox().inbox().is_empty());
    if woken == Woken::Signal {
        return interrupted(cx);
    }
    mailbox::open(cx);
    Err(EAGAIN)
}
