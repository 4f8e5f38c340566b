// SPDX-License-Identifier: GPL-2.0
//! Priority logic: from the IRR to the processor and back by EOI.
//!
//! SDM vol. 3, 12.8.3 (priorities) to 12.8.5 (EOI), and 12.5.1 for the local
//! vector table.

use super::{
    inbox::Events, spec, Acceptance, Changed, Harvest, Inbox, LocalApic, Lvt, Mode, Now, TimerMode,
};
use crate::message::{Delivery, Message, Trigger, FIRST_LEGAL_VECTOR};
use crate::vectors::VectorSet;

/// Bits of a vector or priority that form the priority class.
const CLASS: u8 = 0xf0;

/// The end of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eoi {
    /// The vector that left the ISR.
    pub vector: u8,
    /// Trigger mode in the TMR.
    pub trigger: Trigger,
    /// The vector is one of [`LocalApic::set_eoi_intercepts`]: IOAPIC, resample
    /// notifiers or the VMM wait for it.
    pub intercepted: bool,
    /// The EOI goes out to the IOAPICs. False when the guest uses directed EOI:
    /// it then writes the IOAPIC's EOI register itself.
    pub broadcast: bool,
}

/// What a local interrupt source led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum LocalEvent {
    /// Nothing: masked, or the APIC is off.
    None,
    /// The IRR has a new vector: look at [`LocalApic::pending`] again.
    Vector,
    /// An NMI for this vCPU.
    Nmi,
    /// An SMI for this vCPU.
    Smi,
    /// INIT for this vCPU.
    Init,
    /// The 8259 is to be asked for a vector.
    ExtInt,
}

impl LocalApic {
    /// Takes what others have posted. Vectors and errors end here, the other
    /// events are the owner's to handle.
    #[inline]
    pub fn harvest(&mut self, inbox: &Inbox) -> Harvest {
        let harvest = inbox.harvest(&mut self.irr, &mut self.tmr);
        if harvest.events.contains(Events::ILLEGAL_VECTOR) {
            let _ = self.raise_error(spec::ESR_RECEIVE_ILLEGAL_VECTOR);
        }
        harvest
    }

    /// A message to itself. A vector ends here; what else it was accepted as is the owner's to
    /// handle.
    #[inline]
    pub fn accept_own(&mut self, message: &Message) -> Option<Acceptance> {
        match self.identity().accept(message) {
            Acceptance::Vector(vector, trigger) => {
                self.irr.insert(vector);
                self.tmr.assign(vector, trigger == Trigger::Level);
                None
            }
            other => Some(other),
        }
    }

    /// The processor priority: the higher of task priority and the highest
    /// interrupt in service.
    #[inline]
    pub fn ppr(&self) -> u8 {
        let in_service = self.isr.highest().unwrap_or(0) & CLASS;
        if self.tpr & CLASS >= in_service {
            self.tpr
        } else {
            in_service
        }
    }

    /// The vector that the processor would take now: the highest request, if
    /// its class is above the processor priority's.
    #[inline]
    pub fn pending(&self) -> Option<u8> {
        let vector = self.irr.highest()?;
        (vector & CLASS > self.ppr() & CLASS && self.mode() != Mode::Disabled).then_some(vector)
    }

    /// The highest requested vector whatever the priorities, for the threshold
    /// below which a TPR write matters.
    #[inline]
    pub fn highest_request(&self) -> Option<u8> {
        self.irr.highest()
    }

    /// Whether `vector` is requested or in service.
    pub fn is_active(&self, vector: u8) -> bool {
        self.irr.contains(vector) || self.isr.contains(vector)
    }

    /// The processor takes `vector`: from the IRR to the ISR.
    #[inline]
    pub fn ack(&mut self, vector: u8) {
        self.irr.remove(vector);
        self.isr.insert(vector);
    }

    /// The processor takes `vector`, which needs no EOI (Hyper-V's automatic
    /// EOI).
    pub fn ack_auto_eoi(&mut self, vector: u8) {
        self.irr.remove(vector);
    }

    /// Undoes a request that was cancelled before it was taken.
    pub fn withdraw(&mut self, vector: u8) {
        self.irr.remove(vector);
    }

    /// The guest ends the interrupt of highest priority in service. `None` when
    /// there is none. A lower one may be deliverable now.
    #[inline]
    pub fn eoi(&mut self) -> Option<Eoi> {
        let vector = self.isr.highest()?;
        self.isr.remove(vector);
        Some(Eoi {
            vector,
            trigger: if self.tmr.contains(vector) { Trigger::Level } else { Trigger::Edge },
            intercepted: self.eoi_intercepts.contains(vector),
            broadcast: self.broadcasts_eoi(),
        })
    }

    /// Sets which vectors' EOIs matter to others.
    pub fn set_eoi_intercepts(&mut self, vectors: VectorSet) {
        self.eoi_intercepts = vectors;
    }

    /// Which vectors' EOIs matter to others.
    pub const fn eoi_intercepts(&self) -> &VectorSet {
        &self.eoi_intercepts
    }

    /// Whether the guest may be spared the exit for its next EOI: an interrupt
    /// is in service, nothing else waits that the EOI would let through, and
    /// nobody but this APIC has to hear of it.
    #[inline]
    pub fn may_skip_eoi(&self) -> bool {
        self.irr.is_empty()
            && self.isr.highest().is_some_and(|vector| !self.eoi_intercepts.contains(vector))
    }

    /// Whether nobody but this APIC has to hear of the guest's next EOI.
    #[inline]
    pub fn ends_quietly(&self) -> bool {
        !self.isr.highest().is_some_and(|vector| self.eoi_intercepts.contains(vector))
    }

    /// CR8: the class of the task priority, 0 to 15.
    #[inline]
    pub const fn cr8(&self) -> u8 {
        self.tpr >> 4
    }

    /// Writes CR8; bits 7:4 of `cr8` are ignored.
    #[inline]
    pub fn set_cr8(&mut self, cr8: u8) -> Changed {
        self.set_tpr(cr8 << 4)
    }

    /// The task priority register.
    #[inline]
    pub const fn tpr(&self) -> u8 {
        self.tpr
    }

    /// Writes the task priority. Lowering it may let a request through.
    #[inline]
    pub fn set_tpr(&mut self, tpr: u8) -> Changed {
        let lowered = tpr & CLASS < self.tpr & CLASS;
        self.tpr = tpr;
        if lowered && self.pending().is_some() {
            Changed::RECHECK
        } else {
            Changed::empty()
        }
    }

    /// The word that `KVM_SET_VAPIC_ADDR` keeps in guest memory: the TPR in bits
    /// 7:0, the highest class in service in 15:8, the highest request in 31:24.
    pub fn vapic_word(&self) -> u32 {
        let in_service = self.isr.highest().unwrap_or(0) & CLASS;
        u32::from_le_bytes([self.tpr, in_service, 0, self.irr.highest().unwrap_or(0)])
    }

    /// Whether an interrupt of the 8259 reaches this vCPU through LINT0. It
    /// does so past a hardware-disabled APIC.
    pub fn accepts_pic(&self) -> bool {
        let lint0 = self.lvt(Lvt::Lint0);
        self.mode() == Mode::Disabled
            || lint0 & spec::LVT_MASKED == 0 && Delivery::from_register(lint0) == Delivery::ExtInt
    }

    /// Whether LINT0 turns the PIT's tick into an NMI (a watchdog in virtual
    /// wire mode).
    pub fn lint0_is_nmi(&self) -> bool {
        let lint0 = self.lvt(Lvt::Lint0);
        lint0 & spec::LVT_MASKED == 0 && Delivery::from_register(lint0) == Delivery::Nmi
    }

    /// A local source raises its interrupt.
    pub fn raise_local(&mut self, entry: Lvt) -> LocalEvent {
        let lvt = self.lvt(entry);
        if self.mode() == Mode::Disabled || lvt & spec::LVT_MASKED != 0 || !self.has_lvt(entry) {
            return LocalEvent::None;
        }
        let delivery = match entry {
            // These two have no delivery mode field.
            Lvt::Timer | Lvt::Error => Delivery::Fixed,
            _ => Delivery::from_register(lvt),
        };
        let event = match delivery {
            Delivery::Fixed | Delivery::LowestPriority => self.raise_vector(entry, lvt),
            Delivery::Nmi => LocalEvent::Nmi,
            Delivery::Smi => LocalEvent::Smi,
            Delivery::Init => LocalEvent::Init,
            Delivery::ExtInt => LocalEvent::ExtInt,
            Delivery::RemoteRead | Delivery::Startup => LocalEvent::None,
        };
        if entry == Lvt::Performance && self.config.mask_pmi && event != LocalEvent::None {
            self.set_lvt(entry, lvt | spec::LVT_MASKED);
        }
        event
    }

    fn raise_vector(&mut self, entry: Lvt, lvt: u32) -> LocalEvent {
        let vector = lvt as u8;
        if vector < FIRST_LEGAL_VECTOR {
            // The error entry itself must not raise another error.
            if entry == Lvt::Error {
                self.errors |= spec::ESR_RECEIVE_ILLEGAL_VECTOR;
                return LocalEvent::None;
            }
            return self.raise_error(spec::ESR_RECEIVE_ILLEGAL_VECTOR);
        }
        let level = matches!(entry, Lvt::Lint0 | Lvt::Lint1) && lvt & spec::LVT_LEVEL != 0;
        self.irr.insert(vector);
        self.tmr.assign(vector, level);
        LocalEvent::Vector
    }

    /// Logs an error and raises the error interrupt.
    pub(super) fn raise_error(&mut self, error: u32) -> LocalEvent {
        self.errors |= error;
        self.raise_local(Lvt::Error)
    }

    /// The host timer went off (or the clock may have passed the timer's
    /// expiry). Afterwards [`Timer::expiry`](super::Timer::expiry) is the time
    /// to program next, also when nothing came due yet.
    pub fn timer_expired(&mut self, now: Now) -> LocalEvent {
        if self.timer.advance(now) {
            self.raise_local(Lvt::Timer)
        } else {
            LocalEvent::None
        }
    }

    /// Whether the timer's interrupt waits in the IRR or ISR (the owner then
    /// waits out a timer that it programmed a little early).
    pub fn timer_vector_active(&self) -> bool {
        self.is_active(self.lvt(Lvt::Timer) as u8)
    }

    /// The IA32_TSC_DEADLINE MSR.
    pub fn tsc_deadline(&self, now_tsc: u64) -> u64 {
        if self.mode() == Mode::Disabled {
            0
        } else {
            self.timer.deadline(now_tsc)
        }
    }

    /// Writes IA32_TSC_DEADLINE. The timer is to be programmed anew unless the
    /// APIC is in another timer mode, where the write is ignored.
    #[inline]
    pub fn set_tsc_deadline(&mut self, deadline: u64) -> Changed {
        if self.mode() != Mode::Disabled && self.timer.set_deadline(deadline) {
            Changed::TIMER
        } else {
            Changed::empty()
        }
    }

    /// The timer's mode.
    pub const fn timer_mode(&self) -> TimerMode {
        self.timer.mode()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BaseRules, Config, DirectedEoi};
    use super::*;
    use crate::message::Ipi;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn enabled(config: Config) -> LocalApic {
        let mut apic = LocalApic::new(config);
        apic.svr |= spec::SVR_ENABLE;
        apic
    }

    /// The same comes of a message to itself as of one that was posted.
    #[test]
    fn own_messages() {
        for low in [0x4_4061, 0x4_4420, 0x4_c061, 0x4_8061, 0x4_400f, 0x4_4300] {
            let message = Ipi::decode(low, 0).message;
            let (mut own, mut other) = (enabled(Config::default()), enabled(Config::default()));
            own.tmr.insert(0x61);
            other.tmr.insert(0x61);
            let inbox = Inbox::new();
            let _ = inbox.post(other.identity().accept(&message));
            other.harvest(&inbox);
            if let Some(rest) = own.accept_own(&message) {
                assert!(!matches!(rest, Acceptance::Vector(..)));
                let _ = inbox.post(rest);
                own.harvest(&inbox);
            }
            assert_eq!((own.irr, own.tmr, own.errors), (other.irr, other.tmr, other.errors));
        }
        let mut off = LocalApic::new(Config::default());
        assert_eq!(off.accept_own(&Ipi::decode(0x4_4061, 0).message), Some(Acceptance::Ignored));
    }

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Post(u8, bool),
        Ack,
        Eoi,
        Tpr(u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (16u8..=255, any::<bool>()).prop_map(|(v, l)| Op::Post(v, l)),
            2 => Just(Op::Ack),
            2 => Just(Op::Eoi),
            1 => any::<u8>().prop_map(Op::Tpr),
        ]
    }

    /// The manual's rules, one set at a time.
    #[derive(Default)]
    struct Model {
        irr: BTreeSet<u8>,
        isr: BTreeSet<u8>,
        tmr: BTreeSet<u8>,
        tpr: u8,
    }

    impl Model {
        fn ppr(&self) -> u8 {
            let isrv = self.isr.last().copied().unwrap_or(0);
            if self.tpr >> 4 >= isrv >> 4 {
                self.tpr
            } else {
                isrv & 0xf0
            }
        }
        fn pending(&self) -> Option<u8> {
            self.irr.last().copied().filter(|v| v >> 4 > self.ppr() >> 4)
        }
    }

    proptest! {
        #[test]
        fn against_the_model(ops in prop::collection::vec(op(), 0..200)) {
            let mut apic = enabled(Config::default());
            let inbox = Inbox::new();
            let mut model = Model::default();
            for op in ops {
                match op {
                    Op::Post(v, level) => {
                        let trigger = if level { Trigger::Level } else { Trigger::Edge };
                        let _ = inbox.post(Acceptance::Vector(v, trigger));
                        apic.harvest(&inbox);
                        model.irr.insert(v);
                        if level { model.tmr.insert(v); } else { model.tmr.remove(&v); }
                    }
                    Op::Ack => {
                        prop_assert_eq!(apic.pending(), model.pending());
                        if let Some(v) = apic.pending() {
                            apic.ack(v);
                            model.irr.remove(&v);
                            model.isr.insert(v);
                        }
                    }
                    Op::Eoi => {
                        let expected = model.isr.pop_last();
                        let eoi = apic.eoi();
                        prop_assert_eq!(eoi.map(|e| e.vector), expected);
                        prop_assert_eq!(
                            eoi.map(|e| e.trigger == Trigger::Level),
                            expected.map(|v| model.tmr.contains(&v))
                        );
                    }
                    Op::Tpr(tpr) => {
                        let before = model.pending();
                        model.tpr = tpr;
                        let changed = apic.set_tpr(tpr);
                        // A newly deliverable request is always announced.
                        if before.is_none() && model.pending().is_some() {
                            prop_assert_eq!(changed, Changed::RECHECK);
                        }
                    }
                }
                prop_assert_eq!(apic.ppr(), model.ppr());
                prop_assert_eq!(apic.pending(), model.pending());
                prop_assert_eq!(apic.may_skip_eoi(), model.irr.is_empty() && !model.isr.is_empty());
            }
        }
    }

    #[test]
    fn eoi_says_who_must_hear() {
        let config =
            Config { x2apic: true, directed_eoi: DirectedEoi::Obeyed, ..Config::default() };
        let mut apic = enabled(config);
        let mut set = VectorSet::EMPTY;
        set.insert(0x51);
        apic.set_eoi_intercepts(set);
        apic.ack(0x51);
        assert!(!apic.may_skip_eoi() && !apic.ends_quietly());
        let eoi = apic.eoi().unwrap();
        assert!(eoi.intercepted && eoi.broadcast);
        apic.svr |= spec::SVR_DIRECTED_EOI;
        apic.ack(0x41);
        assert!(apic.may_skip_eoi() && apic.ends_quietly());
        let eoi = apic.eoi().unwrap();
        assert!(!eoi.intercepted && !eoi.broadcast);
        assert_eq!(apic.eoi(), None);
    }

    #[test]
    fn local_sources() {
        let mut apic = enabled(Config { mask_pmi: true, ..Config::default() });
        assert_eq!(apic.raise_local(Lvt::Timer), LocalEvent::None);
        apic.set_lvt(Lvt::Timer, 0x5ec);
        assert_eq!(apic.raise_local(Lvt::Timer), LocalEvent::Vector);
        assert_eq!(apic.pending(), Some(0xec));
        apic.set_lvt(Lvt::Performance, 0x400);
        assert_eq!(apic.raise_local(Lvt::Performance), LocalEvent::Nmi);
        assert_eq!(apic.raise_local(Lvt::Performance), LocalEvent::None);
        apic.set_lvt(Lvt::Lint0, 0x700);
        assert!(apic.accepts_pic());
        apic.set_lvt(Lvt::Lint0, 0x400);
        assert!(apic.lint0_is_nmi() && !apic.accepts_pic());
        apic.set_lvt(Lvt::Cmci, 0x200);
        assert_eq!(apic.raise_local(Lvt::Cmci), LocalEvent::None);
        apic.set_lvt(Lvt::Lint1, 0x8060);
        assert_eq!(apic.raise_local(Lvt::Lint1), LocalEvent::Vector);
        assert!(apic.tmr.contains(0x60));
    }

    #[test]
    fn illegal_vectors_raise_the_error_interrupt() {
        let mut apic = enabled(Config::default());
        apic.set_lvt(Lvt::Error, 0xfe);
        let inbox = Inbox::new();
        let _ = inbox.post(Acceptance::IllegalVector);
        apic.harvest(&inbox);
        assert_eq!(apic.pending(), Some(0xfe));
        assert_eq!(apic.errors, spec::ESR_RECEIVE_ILLEGAL_VECTOR);
        apic.set_lvt(Lvt::Error, 1);
        apic.set_lvt(Lvt::Timer, 2);
        assert_eq!(apic.raise_local(Lvt::Timer), LocalEvent::None);
    }

    #[test]
    fn a_disabled_apic_delivers_nothing() {
        let mut apic = enabled(Config::default());
        apic.irr.insert(0x80);
        let rules = BaseRules { address_bits: 40, x2apic: false, host: false };
        apic.write_base(0xfee0_0000, rules).unwrap();
        assert_eq!(apic.pending(), None);
        assert!(apic.accepts_pic());
        assert_eq!(apic.set_tsc_deadline(5), Changed::empty());
    }

    #[test]
    fn timer_interrupts() {
        let mut apic = enabled(Config { tsc_deadline: true, ..Config::default() });
        let lvt = 0x40 | spec::LVT_TSC_DEADLINE;
        apic.set_lvt(Lvt::Timer, lvt);
        apic.timer.set_lvt(lvt, Now { ns: 0, tsc: 0 });
        assert_eq!(apic.set_tsc_deadline(1000), Changed::TIMER);
        assert_eq!(apic.timer_expired(Now { ns: 0, tsc: 999 }), LocalEvent::None);
        assert_eq!(apic.timer_expired(Now { ns: 0, tsc: 1000 }), LocalEvent::Vector);
        assert!(apic.timer_vector_active());
        assert_eq!(apic.tsc_deadline(1000), 0);
        apic.ack(0x35);
        let _ = apic.set_cr8(2);
        assert_eq!(apic.vapic_word(), 0x4000_3020);
    }
}
