// SPDX-License-Identifier: GPL-2.0
//! Events on their way into a guest: the only writer of what is pending.
//!
//! Before each entry [`deliver`] chooses at most one event and hands it to the
//! processor (SDM vol. 3, 6.9; APM vol. 2, 8.5): one whose delivery an exit
//! interrupted, an exception, an SMI, an NMI, an interrupt, in this order. For
//! those that have to wait it asks for a window.

use crate::{
    apic,
    control::Control,
    debug::want,
    interrupts, smm,
    state::{Cx, VcpuState},
    trace,
    vendor::Vendor,
};
use kvm_core::memory::Wait;
use kvm_emulate::{Exception, Shadow};
use x86_defs::{Dr6, Rflags, Vector};

/// An event that the processor delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// An external interrupt.
    Interrupt(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// A fault or trap of the processor.
    Exception {
        /// Vector, 0 to 31.
        vector: u8,
        /// Error code, where the vector has one.
        code: Option<u32>,
    },
    /// INT n, INT3 or INTO, whose instruction is so many bytes long.
    Software {
        /// Vector.
        vector: u8,
        /// Raised by INT3 or INTO.
        is_exception: bool,
        /// Bytes of the instruction, 0 if not known.
        length: u8,
    },
}

/// What waits for delivery to a vCPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Events {
    /// Was given to the processor, or was interrupted on its way: goes first.
    pub injected: Option<Injected>,
    /// The next exception.
    pub exception: Option<Exception>,
    /// NMIs that wait, at most two.
    pub nmis: u8,
    /// An SMI waits.
    pub smi: bool,
    /// A vector from `KVM_INTERRUPT`.
    pub user_interrupt: Option<u8>,
    /// A triple fault.
    pub triple_fault: bool,
    /// INIT came.
    pub init: bool,
    /// A start-up message came after it, with this page.
    pub startup: Option<u8>,
    /// Something may have become deliverable since [`deliver`] looked.
    pub check: bool,
}

impl Events {
    /// Raises an exception, on top of one that is being delivered if there is one
    /// (SDM vol. 3, table 6-5).
    pub fn raise(&mut self, exception: Exception) {
        self.check = true;
        let first = match (self.exception, self.injected) {
            (Some(pending), _) => Some(pending.vector as u8),
            (None, Some(Injected::Exception { vector, .. })) => Some(vector),
            _ => None,
        };
        let Some(first) = first else {
            self.exception = Some(exception);
            return;
        };
        if first == Vector::Df as u8 {
            self.triple_fault = true;
        } else if makes_double_fault(first, exception.vector as u8) {
            self.injected = None;
            self.exception = Some(Exception::with_code(Vector::Df, 0));
        } else {
            // The first one is replaced: it comes again when the instruction is
            // restarted.
            self.injected = None;
            self.exception = Some(exception);
        }
    }

    /// Adds an NMI. While the guest handles one (`blocked`) a second waits, and further ones are lost
    /// as on hardware; otherwise one more waits, which could have been taken meanwhile.
    pub fn add_nmi(&mut self, blocked: bool) {
        let most = if blocked { 1 } else { 2 };
        self.nmis = self.nmis.saturating_add(1).min(most);
        self.check = true;
    }
}

/// Whether `second`, raised while `first` is delivered, makes a double fault.
fn makes_double_fault(first: u8, second: u8) -> bool {
    matches!(
        (class(first), class(second)),
        (Class::Contributory | Class::PageFault, Class::Contributory)
            | (Class::PageFault, Class::PageFault)
    )
}

#[derive(PartialEq, Eq)]
enum Class {
    Benign,
    Contributory,
    PageFault,
}

fn class(vector: u8) -> Class {
    const CONTRIBUTORY: [Vector; 5] = [Vector::De, Vector::Ts, Vector::Np, Vector::Ss, Vector::Gp];
    if vector == Vector::Pf as u8 {
        Class::PageFault
    } else if CONTRIBUTORY.iter().any(|known| *known as u8 == vector) {
        Class::Contributory
    } else {
        Class::Benign
    }
}

/// Chooses what the processor delivers at the next entry.
pub fn deliver<V: Vendor>(cx: &mut Cx<'_, V>) {
    let state = &mut *cx.state;
    state.events.check = false;
    if state.control.nmi_blocked() || state.events.injected == Some(Injected::Nmi) {
        // A processor keeps one while it handles one.
        state.events.nmis = state.events.nmis.min(1);
    }
    if let Some(event) = state.events.injected {
        trace::injected(event, true);
        state.control.inject(event);
    } else if let Some(exception) = state.events.exception.take() {
        inject_exception(cx, exception);
    } else if state.debug.wants(want::NO_INTERRUPTS) {
        // Nor is there a window to wait for: the guest wouldn't get past it.
        state.control.set_interrupt_window(false);
        apic::before_entry(cx, Wait::Allowed);
        return;
    } else {
        if cx.state.events.smi && !cx.state.smm.is_active() {
            cx.state.events.smi = false;
            smm::enter(cx);
        }
        if !deliver_nmi(cx) {
            deliver_interrupt(cx);
        }
    }
    finish(cx, Wait::Allowed);
}

/// The same in any context, if nothing waits but interrupts of a local APIC; whether that is
/// so.
pub(crate) fn deliver_at_once<V: Vendor>(cx: &mut Cx<'_, V>) -> bool {
    let state = &*cx.state;
    let Events { injected, exception, nmis, smi, triple_fault, .. } = &state.events;
    let is_more = injected.is_some()
        || exception.is_some()
        || *nmis != 0
        || *smi
        || *triple_fault
        || state.apic.is_none()
        || interrupts::is_external(cx)
        || state.debug.wants(want::NO_INTERRUPTS);
    if is_more {
        return false;
    }
    cx.state.events.check = false;
    if interrupts_open(&cx.state.control) {
        if let Some(vector) = interrupts::take_own(cx) {
            interrupt(cx, vector);
        }
    }
    finish(cx, Wait::Never);
    true
}

/// It is known what is delivered: what follows from that.
#[inline]
fn finish<V: Vendor>(cx: &mut Cx<'_, V>, wait: Wait) {
    open_windows(cx);
    apic::before_entry(cx, wait);
    apic::timer::wait(cx.state);
}

/// Puts what the pending exception reports where the guest finds it.
pub(crate) fn deliver_payload<V: Vendor>(state: &mut VcpuState<V>) {
    if let Some(exception) = &mut state.events.exception {
        match (exception.vector, exception.payload.take()) {
            (Vector::Pf, Some(address)) => state.control.set_cr2(address),
            (Vector::Db, Some(bits)) => {
                state.debug.raise(bits);
                state.debug.load(&mut state.control);
            }
            _ => {}
        }
    }
}

fn inject_exception<V: Vendor>(cx: &mut Cx<'_, V>, exception: Exception) {
    let state = &mut *cx.state;
    let vector = exception.vector;
    match (vector, exception.payload) {
        (Vector::Pf, Some(address)) => state.control.set_cr2(address),
        (Vector::Db, Some(bits)) => {
            state.debug.raise(bits);
            state.debug.load(&mut state.control);
        }
        _ => {}
    }
    if is_fault(vector, exception.payload) {
        // A debug exception by a code breakpoint must not come again after the
        // handler (SDM vol. 3, 17.3.1.1).
        let rflags = state.control.rflags();
        state.control.set_rflags(rflags | Rflags::RF);
    }
    let event = Injected::Exception { vector: vector as u8, code: exception.error_code };
    trace::injected(event, false);
    state.events.injected = Some(event);
    state.control.inject(event);
}

/// Whether RIP points at the instruction that caused the exception.
fn is_fault(vector: Vector, payload: Option<u64>) -> bool {
    match vector {
        // Data breakpoints and single steps are traps.
        Vector::Db => payload.is_some_and(|bits| bits & Dr6::BD.bits() != 0),
        Vector::Bp | Vector::Of | Vector::Df | Vector::Mc => false,
        _ => true,
    }
}

/// Whether an NMI was injected.
fn deliver_nmi<V: Vendor>(cx: &mut Cx<'_, V>) -> bool {
    let state = &mut *cx.state;
    if state.events.nmis == 0 || !nmis_open(state.control.shadow(), state.control.nmi_blocked()) {
        return false;
    }
    state.events.nmis = state.events.nmis.saturating_sub(1);
    cx.vcpu.stats().arch.nmi_injections.add(1);
    state.events.injected = Some(Injected::Nmi);
    state.control.set_nmi_blocked(true);
    state.control.inject(Injected::Nmi);
    true
}

fn nmis_open(shadow: Shadow, blocked: bool) -> bool {
    !blocked && shadow == Shadow::None
}

/// Whether the guest can take an interrupt now.
pub fn interrupts_open<C: Control>(control: &C) -> bool {
    control.rflags().contains(Rflags::IF) && control.shadow() == Shadow::None
}

fn deliver_interrupt<V: Vendor>(cx: &mut Cx<'_, V>) {
    if !interrupts::is_pending(cx) || !interrupts_open(&cx.state.control) {
        return;
    }
    if let Some(vector) = interrupts::take(cx) {
        interrupt(cx, vector);
    }
}

/// The guest gets this interrupt.
fn interrupt<V: Vendor>(cx: &mut Cx<'_, V>, vector: u8) {
    let event = Injected::Interrupt(vector);
    trace::injected(event, false);
    cx.state.events.injected = Some(event);
    cx.state.control.inject(event);
    cx.vcpu.stats().arch.irq_injections.add(1);
}

/// For what is still waiting, an exit as soon as it can be taken.
fn open_windows<V: Vendor>(cx: &mut Cx<'_, V>) {
    let waits = interrupts::is_pending(cx) || interrupts::window_requested(cx);
    let state = &mut *cx.state;
    state.control.set_interrupt_window(waits);
    if state.events.nmis != 0 {
        state.control.want_nmi_window();
    }
    if state.events.exception.is_some() || state.events.smi && !state.smm.is_active() {
        state.events.check = true;
    }
}
