// SPDX-License-Identifier: GPL-2.0
//! The devices wired together the way an owner wires them: a small board.

use crate::ioapic::{Deliver, EoiOutcome, IoApic, LineOutcome};
use crate::lapic::{
    Config, DestRules, Effects, Eoi, Event, Events, Harvest, Identity, Inbox, LocalApic, Now,
    Posted,
};
use crate::line::LineStatus;
use crate::map::{slots_needed, ApicMap, Route, Slot};
use crate::message::{Ipi, Message, Trigger};
use crate::msi;
use crate::VcpuIndex;
use std::vec::Vec;

const NOW: Now = Now { ns: 0, tsc: 0 };

/// vCPUs with an IOAPIC, and who was kicked.
struct Board {
    apics: Vec<LocalApic>,
    inboxes: Vec<Inbox>,
    map: ApicMap<Vec<Slot>, Vec<Identity>>,
    ioapic: IoApic,
    kicked: Vec<u16>,
}

impl Board {
    fn new(vcpus: u32) -> Self {
        let apics: Vec<_> = (0..vcpus)
            .map(|id| LocalApic::new(Config { id, bsp: id == 0, ..Config::default() }))
            .collect();
        let inboxes = (0..vcpus).map(|_| Inbox::new()).collect();
        let map = ApicMap::new(Vec::new(), Vec::new(), DestRules::default());
        let mut board = Self { apics, inboxes, map, ioapic: IoApic::new(), kicked: Vec::new() };
        for vcpu in 0..vcpus as usize {
            board.write(vcpu, 0xf0, 0x1ff);
            board.write(vcpu, 0xd0, 0x0100_0000 << vcpu);
        }
        board
    }

    fn write(&mut self, vcpu: usize, offset: u32, value: u32) {
        let effects = self.apics[vcpu].write_mmio(offset, value, || NOW);
        self.carry_out(vcpu, effects);
    }

    fn carry_out(&mut self, vcpu: usize, effects: Effects) {
        if effects.changed.contains(crate::lapic::Changed::IDENTITY) {
            let members: Vec<_> = self.apics.iter().map(LocalApic::identity).collect();
            let slots = std::vec![Slot::EMPTY; slots_needed(&members)];
            self.map = ApicMap::new(members, slots, DestRules::default());
        }
        match effects.event {
            Some(Event::Ipi(ipi)) => self.ipi(vcpu, &ipi),
            Some(Event::Eoi(eoi)) => self.eoi(vcpu, &eoi),
            None => {}
        }
    }

    fn ipi(&mut self, vcpu: usize, ipi: &Ipi) {
        let route = self.map.route_ipi(ipi, VcpuIndex(vcpu as u16));
        let targets = Self::chosen(&self.map, route, &ipi.message);
        self.post(&targets, &ipi.message);
    }

    fn chosen(
        map: &ApicMap<Vec<Slot>, Vec<Identity>>,
        route: Route<'_>,
        message: &Message,
    ) -> Vec<VcpuIndex> {
        match route {
            Route::One(vcpu) => vcpu.into_iter().collect(),
            Route::All(targets) => targets.collect(),
            Route::OneOf(targets) => {
                map.pick_by_hash(targets, message.vector).into_iter().collect()
            }
        }
    }

    /// Posts to each target; the number that accepted.
    fn post(&mut self, targets: &[VcpuIndex], message: &Message) -> u32 {
        let mut accepted = 0;
        for target in targets {
            let Some(identity) = self.map.identity(*target) else { continue };
            let posted = self.inboxes[usize::from(target.0)].post(identity.accept(message));
            accepted += u32::from(posted != Posted::Dropped);
            if posted == Posted::Kick {
                self.kicked.push(target.0);
            }
        }
        accepted
    }

    fn device(&mut self, message: &Message) -> u32 {
        let targets = Self::chosen(&self.map, self.map.route(message), message);
        self.post(&targets, message)
    }

    fn deliver(&mut self, deliver: Deliver) -> u32 {
        let accepted = self.device(&deliver.message);
        self.ioapic.delivered(&deliver, accepted);
        accepted
    }

    fn line(&mut self, pin: u8, level: bool) -> i32 {
        match self.ioapic.set_line(pin, 0, level, false) {
            LineOutcome::Done(status) => status.code(),
            LineOutcome::Deliver(deliver) => self.deliver(deliver) as i32,
        }
    }

    fn eoi(&mut self, vcpu: usize, eoi: &Eoi) {
        if !eoi.intercepted {
            return;
        }
        for pin in self.ioapic.eoi_pins(VcpuIndex(vcpu as u16), eoi.vector) {
            if eoi.trigger == Trigger::Level && eoi.broadcast {
                if let EoiOutcome::Deliver(deliver) = self.ioapic.end_of_interrupt(pin) {
                    self.deliver(deliver);
                }
            }
        }
    }

    fn redirect(&mut self, pin: u32, low: u32, dest: u32) {
        for (register, value) in [(0x11 + 2 * pin, dest << 24), (0x10 + 2 * pin, low)] {
            let _ = self.ioapic.write(0, register);
            let _ = self.ioapic.write(0x10, value);
        }
        for (vcpu, apic) in (0u16..).zip(&mut self.apics) {
            let identity = apic.identity();
            let concerns = |m: &Message| {
                let source = crate::lapic::Source::Device;
                identity.matches(m.dest, m.dest_mode, source, DestRules::default())
                    || apic.is_active(m.vector)
            };
            let vectors = self.ioapic.eoi_intercepts(VcpuIndex(vcpu), |_| false, concerns);
            apic.set_eoi_intercepts(vectors);
        }
    }

    /// What a vCPU does before it enters the guest: takes a vector, if any.
    fn enter(&mut self, vcpu: usize) -> (Harvest, Option<u8>) {
        let harvest = self.apics[vcpu].harvest(&self.inboxes[vcpu]);
        let vector = self.apics[vcpu].pending();
        if let Some(vector) = vector {
            self.apics[vcpu].ack(vector);
        }
        (harvest, vector)
    }
}

#[test]
fn a_level_interrupt_from_pin_to_eoi() {
    let mut board = Board::new(2);
    board.redirect(10, 1 << 15 | 0x3a, 1);
    assert_eq!(board.line(10, true), 1);
    assert_eq!(board.kicked, [1]);
    assert_eq!(board.enter(1).1, Some(0x3a));
    assert_eq!(board.line(10, true), LineStatus::Ignored.code());
    board.write(1, 0xb0, 0);
    assert_eq!(board.enter(1).1, Some(0x3a));
    assert_eq!(board.line(10, false), 1);
    board.write(1, 0xb0, 0);
    assert_eq!(board.enter(1).1, None);
    assert_eq!(board.line(10, true), 1);
}

#[test]
fn starting_a_processor() {
    let mut board = Board::new(2);
    board.write(0, 0x310, 1 << 24);
    board.write(0, 0x300, 0xc500);
    board.write(0, 0x300, 0x8500);
    board.write(0, 0x300, 0x4699);
    board.write(0, 0x300, 0x4699);
    assert_eq!(board.kicked, [1]);
    let (harvest, vector) = board.enter(1);
    assert_eq!(harvest.events, Events::INIT | Events::STARTUP);
    assert_eq!((harvest.startup_page, vector), (0x99, None));
    assert_eq!(board.enter(0), (Harvest::default(), None));
}

#[test]
fn ipis_and_msis() {
    let mut board = Board::new(4);
    board.write(2, 0x300, 3 << 18 | 0x40fd);
    assert_eq!(board.kicked, [0, 1, 3]);
    assert_eq!(board.enter(3).1, Some(0xfd));
    board.write(0, 0x300, 1 << 18 | 0x4051);
    assert_eq!(board.enter(0).1, Some(0xfd));
    board.write(0, 0xb0, 0);
    assert_eq!(board.enter(0).1, Some(0x51));
    let message = msi::decode(0xfee0_f00c, 0, 0x4142, msi::DestFormat::Compat).unwrap();
    assert_eq!(board.device(&message), 1);
    assert_eq!(board.enter(2).1, Some(0x42));
    let nobody = msi::decode(0xfee0_9000, 0, 0x4042, msi::DestFormat::Compat).unwrap();
    assert_eq!(board.device(&nobody), 0);
}

#[test]
fn a_disabled_processor_takes_only_nmi() {
    let mut board = Board::new(2);
    board.write(1, 0xf0, 0xff);
    board.redirect(5, 0x35, 1);
    assert_eq!(board.line(5, true), 0);
    board.redirect(6, 0x436, 1);
    assert_eq!(board.line(6, true), 1);
    assert_eq!(board.enter(1).0.events, Events::NMI);
}
