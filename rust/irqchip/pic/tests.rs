// SPDX-License-Identifier: GPL-2.0
//! Tests of the 8259 pair: by example, and against a model of one chip.

use super::*;
use proptest::prelude::*;

const CMD: [Port; 2] = [Port::Command(ChipId::First), Port::Command(ChipId::Second)];
const DATA: [Port; 2] = [Port::Data(ChipId::First), Port::Data(ChipId::Second)];

fn init_with(icw4: u8) -> Pic {
    let mut pic = Pic::new();
    for (chip, base, cascade) in [(0, 0x30, 4), (1, 0x38, 2)] {
        let _ = pic.write(CMD[chip], 0x11);
        for value in [base, cascade, icw4] {
            let _ = pic.write(DATA[chip], value);
        }
    }
    pic
}

fn init() -> Pic {
    init_with(1)
}

fn pulse(pic: &mut Pic, pin: u8) -> bool {
    let (_, up) = pic.set_line(pin, 0, true);
    let (_, down) = pic.set_line(pin, 0, false);
    up.raised | down.raised
}

#[test]
fn ports() {
    assert_eq!(Port::decode(0xa1), Some(DATA[1]));
    assert_eq!(Port::decode(0x4d0), Some(Port::Elcr(ChipId::First)));
    assert_eq!(Port::decode(0x22), None);
}

#[test]
fn an_edge_is_served_and_ended() {
    let mut pic = init();
    assert!(pulse(&mut pic, 4) && pic.output());
    assert!(!pulse(&mut pic, 4));
    let (vector, effects) = pic.acknowledge();
    assert_eq!((vector, effects.ended, pic.output()), (0x34, Pins(0), false));
    assert!(!pulse(&mut pic, 5));
    assert!(pulse(&mut pic, 3));
    assert_eq!(pic.acknowledge().0, 0x33);
    assert_eq!(pic.write(CMD[0], 0x20).ended, Pins(1 << 3));
    let effects = pic.write(CMD[0], 0x64);
    assert_eq!((effects.ended, effects.raised), (Pins(1 << 4), true));
    assert_eq!(pic.acknowledge().0, 0x35);
}

#[test]
fn line_status() {
    let mut pic = init();
    assert_eq!(pic.set_line(4, 0, true).0, LineStatus::Taken);
    assert_eq!(pic.set_line(4, 0, false).0, LineStatus::Taken);
    assert_eq!(pic.set_line(4, 0, true).0, LineStatus::Coalesced);
    assert_eq!(pic.write(DATA[0], 0x10).mask_changed, Pins(0x10));
    assert!(pic.is_masked(4));
    assert_eq!(pic.set_line(4, 1, true).0, LineStatus::Ignored);
    assert_eq!(pic.set_line(16, 0, true).0, LineStatus::Ignored);
}

#[test]
fn cascade() {
    let mut pic = init();
    assert!(pulse(&mut pic, 12));
    assert_eq!(pic.acknowledge().0, 0x3c);
    assert_eq!((pic.save(ChipId::First).isr, pic.save(ChipId::Second).isr), (4, 0x10));
    assert!(!pulse(&mut pic, 8));
    assert_eq!(pic.write(CMD[1], 0x20).ended, Pins(1 << 12));
    assert!(pic.write(CMD[0], 0x20).raised);
    assert_eq!(pic.acknowledge().0, 0x38);
}

#[test]
fn fully_nested_lets_the_second_chip_nest() {
    let mut pic = init_with(0x11);
    assert!(pulse(&mut pic, 12));
    assert_eq!(pic.acknowledge().0, 0x3c);
    assert!(!pulse(&mut pic, 13));
    assert!(pulse(&mut pic, 9));
    assert_eq!(pic.acknowledge().0, 0x39);
}

#[test]
fn spurious() {
    let mut pic = init();
    assert_eq!(pic.acknowledge().0, 0x37);
    assert_eq!(pic.save(ChipId::First).isr, 0);
    let _ = pulse(&mut pic, 12);
    let _ = pic.write(DATA[1], 0xff);
    assert!(pic.output());
    assert_eq!(pic.acknowledge().0, 0x3f);
    assert_eq!((pic.save(ChipId::First).isr, pic.save(ChipId::Second).isr), (4, 0));
}

#[test]
fn level_triggered_inputs() {
    let mut pic = init();
    for (chip, mask) in [(ChipId::First, 0xf8), (ChipId::Second, 0xde)] {
        let _ = pic.write(Port::Elcr(chip), 0xff);
        assert_eq!(pic.read(Port::Elcr(chip)).0, mask);
    }
    let _ = pic.set_line(10, 0, true);
    let _ = pic.set_line(10, 1, true);
    assert_eq!(pic.acknowledge().0, 0x3a);
    let _ = pic.set_line(10, 0, false);
    let _ = pic.write(CMD[1], 0x20);
    assert!(pic.write(CMD[0], 0x20).raised);
    let _ = pic.acknowledge();
    let _ = pic.set_line(10, 1, false);
    let _ = pic.write(CMD[1], 0x20);
    assert!(!pic.write(CMD[0], 0x20).raised);
    assert!(!pic.output());
}

#[test]
fn automatic_eoi_with_rotation() {
    let mut pic = init_with(3);
    let _ = pic.write(CMD[0], 0x80);
    let (_, _) = pic.set_line(1, 0, true);
    let (_, _) = pic.set_line(4, 0, true);
    let (vector, effects) = pic.acknowledge();
    assert_eq!((vector, effects.ended, effects.raised), (0x31, Pins(2), true));
    let _ = pic.set_line(1, 0, false);
    let _ = pic.set_line(1, 0, true);
    assert_eq!(pic.acknowledge().0, 0x34);
    assert_eq!(pic.acknowledge().0, 0x31);
    assert_eq!(pic.save(ChipId::First).isr, 0);
}

#[test]
fn rotation_commands() {
    let mut pic = init();
    let _ = pic.write(CMD[0], 0xc3);
    for pin in [0, 3, 5] {
        let _ = pic.set_line(pin, 0, true);
    }
    assert_eq!(pic.acknowledge().0, 0x35);
    let _ = pic.write(CMD[0], 0xa0);
    assert_eq!(pic.save(ChipId::First).priority_add, 6);
    assert_eq!(pic.acknowledge().0, 0x30);
    let _ = pic.write(CMD[0], 0xe0);
    assert_eq!(pic.save(ChipId::First).priority_add, 1);
    assert_eq!(pic.acknowledge().0, 0x33);
}

#[test]
fn special_mask_mode() {
    let mut pic = init();
    let _ = pulse(&mut pic, 3);
    let _ = pic.acknowledge();
    assert!(!pulse(&mut pic, 5));
    let _ = pic.write(DATA[0], 0x08);
    assert!(pic.write(CMD[0], 0x68).raised);
    assert_eq!(pic.acknowledge().0, 0x35);
    assert_eq!(pic.write(CMD[0], 0x20).ended, Pins(1 << 5));
    assert_eq!(pic.write(CMD[0], 0x20).ended, Pins(0));
    let _ = pic.write(CMD[0], 0x48);
    assert_eq!(pic.write(CMD[0], 0x20).ended, Pins(1 << 3));
}

#[test]
fn polling() {
    let mut pic = init();
    let _ = pulse(&mut pic, 5);
    let _ = pic.write(CMD[0], 0x0c);
    assert_eq!(pic.read(CMD[0]).0, 0x85);
    assert_eq!(pic.save(ChipId::First).isr, 0x20);
    assert_eq!(pic.read(CMD[0]).0, 0);
    let _ = pic.write(CMD[0], 0x20);
    let _ = pulse(&mut pic, 9);
    let _ = pic.write(CMD[1], 0x0c);
    assert_eq!(pic.read(DATA[1]).0, 0x81);
    assert!(!pic.output());
    let _ = pic.write(CMD[1], 0x0c);
    assert_eq!(pic.read(CMD[1]).0 & 0x80, 0);
}

#[test]
fn register_selection() {
    let mut pic = init();
    let _ = pulse(&mut pic, 5);
    assert_eq!(pic.read(CMD[0]).0, 0x20);
    let _ = pic.acknowledge();
    let _ = pic.write(CMD[0], 0x0b);
    assert_eq!(pic.read(CMD[0]).0, 0x20);
    let _ = pic.write(CMD[0], 0x0a);
    assert_eq!(pic.read(CMD[0]).0, 0);
    let _ = pic.write(DATA[0], 0x5a);
    assert_eq!(pic.read(DATA[0]).0, 0x5a);
}

#[test]
fn initialisation_forgets_edges() {
    let mut pic = init();
    let _ = pic.write(Port::Elcr(ChipId::First), 0x20);
    let _ = pic.set_line(4, 0, true);
    let _ = pic.set_line(5, 0, true);
    let effects = pic.write(CMD[0], 0x10);
    assert_eq!(effects.dropped, Pins(0x10));
    assert_eq!(pic.save(ChipId::First).irr, 0x20);
    let _ = pic.write(DATA[0], 0x47);
    let _ = pic.write(DATA[0], 0);
    assert_eq!((pic.save(ChipId::First).init_state, pic.acknowledge().0), (0, 0x45));
}

#[test]
fn state_round_trip() {
    let mut pic = init_with(0x13);
    let _ = pulse(&mut pic, 5);
    let _ = pic.write(CMD[0], 0xc3);
    let state = pic.save(ChipId::First);
    assert_eq!((state.auto_eoi, state.special_fully_nested_mode, state.init4), (1, 1, 1));
    let mut other = Pic::new();
    assert!(other.load(ChipId::First, &state).raised);
    assert_eq!(other.save(ChipId::First), state);
    let wild = PicState { priority_add: 0xff, init_state: 9, elcr: 0xff, elcr_mask: 0x0e, ..state };
    let _ = other.load(ChipId::Second, &wild);
    let loaded = other.save(ChipId::Second);
    assert_eq!((loaded.priority_add, loaded.init_state, loaded.elcr), (7, 0, 0x0e));
    let odd = PicState { irq_base: 10, elcr: 0, elcr_mask: 0, ..state };
    let mut other = Pic::new();
    let _ = other.load(ChipId::First, &odd);
    assert_eq!(other.save(ChipId::First), odd);
}

#[derive(Clone, Debug)]
enum Op {
    Line(u8, bool),
    Mask(u8),
    Ack,
    Eoi,
    SpecificEoi(u8),
    Lowest(u8),
}

/// One chip in edge mode, by the words of the data sheet.
#[derive(Default)]
struct Model {
    high: [bool; 8],
    requested: [bool; 8],
    masked: [bool; 8],
    serving: [bool; 8],
    /// Inputs from highest to lowest priority.
    order: std::vec::Vec<usize>,
}

impl Model {
    fn winner(&self) -> Option<usize> {
        for input in &self.order {
            if self.serving[*input] {
                return None;
            }
            if self.requested[*input] && !self.masked[*input] {
                return Some(*input);
            }
        }
        None
    }
}

proptest! {
    #[test]
    fn first_chip_against_the_model(ops in prop::collection::vec(prop_oneof![
        4 => (prop_oneof![0u8..2, 3u8..8], any::<bool>()).prop_map(|(p, l)| Op::Line(p, l)),
        1 => any::<u8>().prop_map(Op::Mask),
        3 => Just(Op::Ack),
        2 => Just(Op::Eoi),
        1 => (0u8..8).prop_map(Op::SpecificEoi),
        1 => (0u8..8).prop_map(Op::Lowest),
    ], 0..120)) {
        let mut pic = init();
        let mut model = Model { order: (0..8).collect(), ..Model::default() };
        for op in ops {
            match op {
                Op::Line(pin, level) => {
                    let _ = pic.set_line(pin, 0, level);
                    let pin = usize::from(pin);
                    model.requested[pin] |= level && !model.high[pin];
                    model.high[pin] = level;
                }
                Op::Mask(mask) => {
                    let _ = pic.write(DATA[0], mask);
                    model.masked = core::array::from_fn(|n| mask >> n & 1 != 0);
                }
                Op::Ack => {
                    let winner = model.winner();
                    let expected = 0x30 + winner.unwrap_or(7) as u8;
                    prop_assert_eq!(pic.acknowledge().0, expected);
                    if let Some(input) = winner {
                        model.requested[input] = false;
                        model.serving[input] = true;
                    }
                }
                Op::Eoi => {
                    let highest = model.order.iter().copied().find(|n| model.serving[*n]);
                    let ended = pic.write(CMD[0], 0x20).ended;
                    prop_assert_eq!(ended, Pins(highest.map_or(0, |n| 1 << n)));
                    if let Some(input) = highest {
                        model.serving[input] = false;
                    }
                }
                Op::SpecificEoi(input) => {
                    let _ = pic.write(CMD[0], 0x60 | input);
                    model.serving[usize::from(input)] = false;
                }
                Op::Lowest(input) => {
                    let _ = pic.write(CMD[0], 0xc0 | input);
                    model.order = (1..=8).map(|n| (usize::from(input) + n) % 8).collect();
                }
            }
            prop_assert_eq!(pic.output(), model.winner().is_some());
        }
    }

    #[test]
    fn any_writes(writes in prop::collection::vec((0usize..6, any::<u8>(), 0u8..18), 0..100)) {
        let mut pic = Pic::new();
        let ports = [CMD[0], CMD[1], DATA[0], DATA[1], Port::Elcr(ChipId::First), Port::Elcr(ChipId::Second)];
        for (port, value, pin) in writes {
            let _ = pic.write(ports[port], value);
            let _ = pic.set_line(pin, 0, value & 1 != 0);
            let _ = pic.read(ports[port]);
            let _ = pic.acknowledge();
        }
    }
}
