// SPDX-License-Identifier: GPL-2.0
//! The local APIC of a vCPU, where the kernel has it.
//!
//! Its registers are `state.apic`, for the vCPU's thread alone. What an access asks
//! for is done by [`carry_out`]; nothing on the way of a vCPU's own EOIs, IPIs and
//! task priorities takes a lock.
//!
//! - `access`, `msr`: the registers as memory and as MSRs.
//! - `timer`: the host timer behind the APIC's.
//! - `map`, `send`: from a destination to mailboxes.
//! - `page`: the registers' page, where the processor knows of it.
//! - `eoi`: those that wait for the end of an interrupt; `pv_eoi`: ends without an
//!   exit; `vapic`: task priorities without one.

mod access;
mod eoi;
pub(crate) mod map;
mod msr;
pub mod page;
pub(crate) mod pv_eoi;
pub(crate) mod send;
pub(crate) mod timer;
pub(crate) mod vapic;

pub(crate) use access::{access, end, is_quick as is_quick_access};
pub(crate) use eoi::{exit as eoi_exit, is_owed as owes_eoi, restore_rtc, scan};
pub(crate) use msr::{is_quick_write, read_msr, set_base, write_msr};

use crate::{
    control::Control,
    irqchip::Mode,
    settings::Quirk,
    shared::Published,
    state::{Cx, VcpuState},
    vendor::{Vendor, X86},
};
use kvm_core::{memory::Wait, vm::Vm};
use kvm_irqchip::{
    lapic::{Changed, Config, Effects, Event, LocalApic, Reset},
    VcpuIndex,
};
use kvm_policy::feature::Feature as F;

/// What a vCPU keeps beside the registers of its local APIC.
#[derive(Default)]
pub struct Link {
    /// The interrupt whose EOI userspace is to be told of.
    eoi_exit: Option<u8>,
    /// The highest vector whose EOI is only waited for because of earlier routes.
    stale_eoi: Option<u8>,
    /// Page of a start-up message that userspace says came.
    pub(crate) startup_page: u8,
    /// Ends of interrupts without an exit.
    pub(crate) pv_eoi: pv_eoi::Word,
    /// Task priorities without an exit.
    vapic: vapic::Vapic,
    /// Deadlines of the timer, and the way to the guest.
    ahead: timer::Ahead,
    /// `KVM_RUN` has the vCPU.
    pub(crate) is_running: bool,
}

impl Link {
    /// How far ahead of a TSC deadline the timer's alarm goes off, in ns.
    pub(crate) fn timer_lead(&self) -> u64 {
        self.ahead.lead_ns()
    }
}

/// The local APIC of a new vCPU, if the VM has them in the kernel.
pub(crate) fn new<V: Vendor>(vm: &Vm<X86<V>>, id: u32) -> Option<LocalApic> {
    let (irqchip, settings) = (vm.arch().irqchip(), &vm.arch().settings);
    (irqchip.mode() != Mode::None).then(|| {
        LocalApic::new(Config {
            id,
            bsp: id == settings.boot_cpu(),
            lint0_extint: settings.has_quirk(Quirk::Lint0Reenabled),
            mask_pmi: !V::AMD,
            directed_eoi: irqchip.directed_eoi(),
            wide_ids: irqchip.wide_ids(),
            timer: irqchip.timer_config(),
            ..Config::default()
        })
    })
}

/// What the local APIC of a new vCPU makes known of itself.
pub(crate) fn published<V: Vendor>(vm: &Vm<X86<V>>, id: u32) -> Published {
    new(vm, id).map_or(Published::NONE, |apic| Published::of(&apic))
}

/// The vCPU's CPUID table is another one.
pub(crate) fn cpuid_changed<V: Vendor>(state: &mut VcpuState<V>) {
    let (x2apic, tsc_deadline) = (state.cpuid.has(F::X2APIC), state.cpuid.has(F::TSC_DEADLINE));
    if let Some(apic) = &mut state.apic {
        // An identity has nothing of that.
        let _ = apic.set_config(Config { x2apic, tsc_deadline, ..*apic.config() });
    }
}

/// Takes in what the VM's capabilities say, which may change after the vCPU was
/// made.
pub(crate) fn refresh<V: Vendor>(cx: &mut Cx<'_, V>) {
    let irqchip = cx.vm.arch().irqchip();
    if let Some(apic) = &mut cx.state.apic {
        let wide_ids = irqchip.wide_ids();
        let directed_eoi = irqchip.directed_eoi();
        if wide_ids != apic.config().wide_ids || directed_eoi != apic.config().directed_eoi {
            let _ = apic.set_config(Config { wide_ids, directed_eoi, ..*apic.config() });
        }
    }
}

/// The vCPU's index, as destinations are found by it.
#[inline]
pub(crate) fn index<V: Vendor>(cx: &Cx<'_, V>) -> VcpuIndex {
    VcpuIndex(cx.vcpu.index() as u16)
}

/// Does what an access asks for.
#[inline]
pub(crate) fn carry_out<V: Vendor>(cx: &mut Cx<'_, V>, effects: Effects) {
    match effects.event {
        Some(Event::Ipi(ipi)) => send::ipi(cx, &ipi),
        Some(Event::Eoi(ended)) => eoi::ended(cx, &ended),
        None => {}
    }
    if !effects.changed.is_empty() {
        changed(cx, effects.changed);
    }
}

/// Follows what has changed.
pub(crate) fn changed<V: Vendor>(cx: &mut Cx<'_, V>, changed: Changed) {
    if changed.intersects(Changed::IDENTITY | Changed::LINT0) {
        if let Some(apic) = &cx.state.apic {
            if cx.vcpu.shared().publish(Published::of(apic)) {
                map::update(&cx.vm, cx.vcpu);
            }
        }
    }
    if changed.contains(Changed::TIMER) {
        timer::program(cx);
    }
    if changed.intersects(Changed::RECHECK | Changed::TPR | Changed::LINT0 | Changed::ENABLED) {
        cx.state.events.check = true;
    }
}

/// Resets the APIC as INIT does.
pub(crate) fn reset<V: Vendor>(cx: &mut Cx<'_, V>) {
    let Some(apic) = &mut cx.state.apic else { return };
    cx.vcpu.shared().mailbox().inbox().discard_vectors();
    let what = apic.reset(Reset::Init);
    cx.state.link.reset();
    changed(cx, what);
}

impl Link {
    /// What INIT forgets: the VMM's part stays.
    fn reset(&mut self) {
        self.stale_eoi = None;
        self.pv_eoi = pv_eoi::Word::default();
    }
}

/// After an exit: takes in what the guest did without one.
#[inline]
pub(crate) fn after_exit<V: Vendor>(cx: &mut Cx<'_, V>) {
    let state = &mut *cx.state;
    if state.apic.is_none() {
        return;
    }
    take_in_priority(state);
    if state.link.pv_eoi.is_armed() {
        pv_eoi::take_in(cx);
    }
    if cx.state.link.vapic.is_used() {
        vapic::take_in(cx);
    }
}

/// The same as far as it takes no access to the guest's memory; whether that is all.
#[inline]
pub(crate) fn take_in_at_once<V: Vendor>(state: &mut VcpuState<V>) -> bool {
    take_in_priority(state);
    state.apic.is_none() || !state.link.pv_eoi.is_armed() && !state.link.vapic.is_used()
}

/// Takes in the task priority that the guest has set.
#[inline]
fn take_in_priority<V: Vendor>(state: &mut VcpuState<V>) {
    let Some(apic) = &mut state.apic else { return };
    let tpr = state.control.tpr(apic.tpr());
    if tpr != apic.tpr() {
        state.events.check |= apic.set_tpr(tpr).contains(Changed::RECHECK);
    }
}

/// Before userspace sees the vCPU: takes back what was shown to the guest for an entry that
/// something prevented. The next one, here or where the vCPU moves to, shows it again.
#[inline]
pub(crate) fn withdraw<V: Vendor>(cx: &mut Cx<'_, V>) {
    if cx.state.link.pv_eoi.is_armed() {
        pv_eoi::take_in(cx);
    }
}

/// Before an entry, once it is known which event is delivered: what the guest is to
/// see without an exit, as far as guest memory that is there at once will do.
pub(crate) fn before_entry<V: Vendor>(cx: &mut Cx<'_, V>, wait: Wait) {
    let state = &mut *cx.state;
    let Some(apic) = &state.apic else { return };
    // What waits behind the task priority comes when that falls below its class.
    let class = apic.highest_request().map(|vector| vector >> 4);
    let below = class.filter(|class| apic.cr8() >= *class && !state.link.vapic.is_used());
    state.control.set_tpr(apic.tpr(), below);
    pv_eoi::arm(cx, wait);
    if cx.state.link.vapic.is_used() {
        vapic::show(cx);
    }
}
