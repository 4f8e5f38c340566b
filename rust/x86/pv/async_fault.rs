// SPDX-License-Identifier: GPL-2.0
//! Page faults that don't stop the guest: while the host gets a page that takes
//! I/O, the guest does something else.
//!
//! The guest is told of a page that isn't there by a #PF of a special kind, with a
//! token in CR2, and by an interrupt with the same token that it has come. Where it
//! can't be told, the vCPU waits, but takes interrupts meanwhile.
//!
//! `Documentation/virt/kvm/x86/msr.rst`, MSR_KVM_ASYNC_PF_EN and the following.

use crate::{
    control::Control,
    inject::interrupts_open,
    outcome::Next,
    request,
    state::{Activity, Cx},
    vendor::Vendor,
};
use kernel::{prelude::*, sync::Arc};
use kvm_core::{memory::GuestRecord, request::Requests};
use kvm_emulate::Exception;
use kvm_irqchip::{lapic::Acceptance, message::Trigger};
use kvm_paging::addr::{Gpa, Hva};
use kvm_policy::{msr::Refusal, pv_msr::AsyncPf};
use kvm_sys::{
    fault_in::{Arrival, FaultIn},
    kick::Kick,
};
use x86_defs::Vector;

/// Most pages that one vCPU waits for.
const MOST: usize = 64;
/// The record's first word: a page isn't there.
const NOT_PRESENT: u32 = 1;
/// Where the token of a page that came is in the record.
const TOKEN_AT: usize = 4;
/// The token for all that the guest waits for.
const EVERYTHING: u32 = u32::MAX;

/// Who is told that a page came.
struct Told {
    requests: Arc<Requests>,
    kick: Arc<Kick>,
}

impl Arrival for Told {
    fn arrived(&self) {
        self.requests.set(request::PAGE_CAME);
        self.kick.kick();
    }
}

/// A page on its way.
struct Waiting {
    page: Arc<FaultIn<Told>>,
    frame: u64,
    /// What the guest knows it by; `None` if it doesn't, or doesn't any more.
    token: Option<u32>,
    /// Another page fault there waits for it.
    counts: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.page.wait();
    }
}

/// A vCPU's side.
pub(crate) struct AsyncFaults {
    enabled: u64,
    vector: u8,
    record: GuestRecord,
    numbered: u32,
    waiting: KVec<Waiting>,
    /// The guest is to look at all that it waits for.
    all: bool,
    /// The vCPU waits itself.
    pub(crate) halted: bool,
}

impl Default for AsyncFaults {
    fn default() -> Self {
        Self {
            enabled: 0,
            vector: 0,
            record: GuestRecord::new(Gpa::new(0), 8),
            numbered: 0,
            waiting: KVec::new(),
            all: false,
            halted: false,
        }
    }
}

impl AsyncFaults {
    /// Whether the guest wants to be told.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        AsyncPf::is_on(self.enabled)
    }

    /// The MSR that turns it on.
    pub(crate) fn msr(&self) -> u64 {
        self.enabled
    }

    /// The MSR with the vector.
    pub(crate) fn vector_msr(&self) -> u64 {
        self.vector.into()
    }

    /// The MSR with the vector was written; the value was checked.
    pub(crate) fn set_vector(&mut self, value: u64) {
        self.vector = value as u8;
    }

    /// As after INIT.
    pub(crate) fn reset(&mut self) {
        (self.enabled, self.vector, self.halted) = (0, 0, false);
        self.forget();
    }

    /// Nobody wants to know of pages any more; they come all the same.
    fn forget(&mut self) {
        self.all = false;
        for waiting in &mut self.waiting {
            (waiting.token, waiting.counts) = (None, false);
        }
    }
}

/// The guest turns it on or off, or moves its record. The value was checked.
///
/// # Errors
///
/// [`Refusal::Invalid`] if the record isn't in memory.
pub(crate) fn enable<V: Vendor>(cx: &mut Cx<'_, V>, value: u64) -> Result<(), Refusal> {
    let faults = &mut cx.state.pv.faults;
    if !AsyncPf::is_on(value) {
        faults.enabled = value;
        faults.forget();
        return Ok(());
    }
    let gpa = Gpa::new(AsyncPf::address(value));
    if cx.vm.memory().kind(gpa) == kvm_core::memory::Kind::Device {
        return Err(Refusal::Invalid);
    }
    faults.enabled = value;
    faults.record = GuestRecord::new(gpa, 8);
    // What a guest waits for that was saved and restored came with its memory.
    faults.all = true;
    cx.vcpu.requests.set(request::PAGE_CAME);
    Ok(())
}

/// The guest is through with what it was told last.
pub(crate) fn acknowledge<V: Vendor>(cx: &Cx<'_, V>, value: u64) {
    if value & 1 != 0 {
        cx.vcpu.requests.set(request::PAGE_CAME);
    }
}

/// Whether a fault now need not wait for its page: the guest can take an interrupt,
/// so nothing that it does depends on going on here.
pub(crate) fn may_delay<V: Vendor>(cx: &Cx<'_, V>) -> bool {
    let events = &cx.state.events;
    cx.state.pv.faults.is_on()
        && cx.state.apic.is_some()
        && events.injected.is_none()
        && events.exception.is_none()
        && interrupts_open(&cx.state.control)
}

/// Whether the guest can be told of it now.
fn can_tell<V: Vendor>(cx: &Cx<'_, V>) -> bool {
    let bits = AsyncPf::from_bits_retain(cx.state.pv.faults.enabled);
    let in_kernel = cx.state.control.cpl() == 0;
    !cx.state.smm.is_active() && (!in_kernel || bits.contains(AsyncPf::SEND_ALWAYS))
}

/// The page at `gpa`, which the VMM has at `address`, takes I/O. `None`: the fault
/// has to wait for it after all.
pub(crate) fn begin<V: Vendor>(cx: &mut Cx<'_, V>, gpa: Gpa, address: Hva) -> Option<Next> {
    let frame = gpa.gfn().raw();
    let faults = &mut cx.state.pv.faults;
    if faults.waiting.iter().any(|waiting| waiting.counts && waiting.frame == frame) {
        halt(cx);
        return Some(Next::Resume);
    }
    if faults.waiting.len() >= MOST {
        return None;
    }
    faults.waiting.reserve(1, GFP_KERNEL_ACCOUNT).ok()?;
    let told = Told { requests: cx.vcpu.requests.clone(), kick: cx.vcpu.kick.clone() };
    let page = FaultIn::start(cx.vm.memory().space(), address, told).ok()?;
    let token = tell_guest(cx);
    let waiting = Waiting { page, frame, token, counts: true };
    // There is room. If there weren't, the page would be waited for here.
    let _ = cx.state.pv.faults.waiting.push_within_capacity(waiting);
    if token.is_none() {
        halt(cx);
    }
    Some(Next::Resume)
}

/// Tells the guest that the page of its access isn't there; the token that it knows
/// the page by.
fn tell_guest<V: Vendor>(cx: &mut Cx<'_, V>) -> Option<u32> {
    if !can_tell(cx) {
        return None;
    }
    let faults = &mut cx.state.pv.faults;
    let flags = NOT_PRESENT.to_le_bytes();
    let guest = cx.vm.memory().guest().by(cx.vcpu.index());
    faults.record.write(&guest, 0, &flags).ok()?;
    // Never 0, which stands for none.
    faults.numbered = faults.numbered.wrapping_add(1) & 0xf_ffff;
    let number = faults.numbered.max(1);
    let token = number.wrapping_shl(12) | cx.vcpu.id() & 0xfff;
    let mut exception = Exception::with_code(Vector::Pf, 0);
    exception.payload = Some(token.into());
    cx.state.events.raise(exception);
    Some(token)
}

fn halt<V: Vendor>(cx: &mut Cx<'_, V>) {
    cx.state.pv.faults.halted = true;
    cx.state.activity = Activity::Halted;
    cx.state.events.check = true;
}

/// A page came, or the guest can be told of the next one.
pub(crate) fn came<V: Vendor>(cx: &mut Cx<'_, V>) {
    while can_take(cx) {
        let faults = &mut cx.state.pv.faults;
        let token = if core::mem::take(&mut faults.all) {
            Some(EVERYTHING)
        } else {
            let Some(index) = faults.waiting.iter().position(|waiting| waiting.page.is_done())
            else {
                return;
            };
            let Ok(done) = faults.waiting.remove(index) else { return };
            done.token
        };
        if let Some(token) = token.filter(|_| cx.state.pv.faults.is_on()) {
            interrupt(cx, token);
        }
        if core::mem::take(&mut cx.state.pv.faults.halted) {
            cx.state.activity = Activity::Runnable;
        }
    }
}

/// Whether the guest can be told of another page: it has seen the last one.
fn can_take<V: Vendor>(cx: &mut Cx<'_, V>) -> bool {
    let faults = &mut cx.state.pv.faults;
    if !faults.is_on() {
        return true;
    }
    let mut token = [0; 4];
    let read = faults.record.read(&cx.vm.memory().guest(), TOKEN_AT, &mut token);
    let is_enabled = cx.state.apic.as_ref().is_some_and(|apic| apic.software_enabled());
    is_enabled && read.is_ok() && u32::from_le_bytes(token) == 0
}

/// Tells the guest that a page came.
fn interrupt<V: Vendor>(cx: &mut Cx<'_, V>, token: u32) {
    let faults = &mut cx.state.pv.faults;
    let vector = faults.vector;
    let guest = cx.vm.memory().guest().by(cx.vcpu.index());
    let written = faults.record.write(&guest, TOKEN_AT, &token.to_le_bytes()).is_ok();
    drop(guest);
    if written && vector >= 16 {
        let interrupt = Acceptance::Vector(vector, Trigger::Edge);
        let _ = cx.vcpu.shared().mailbox().post(interrupt);
    }
}
