// SPDX-License-Identifier: GPL-2.0
//! Tests of the IOAPIC: by example, and against a model of level semantics.

use super::*;
use crate::message::Trigger;
use proptest::prelude::*;

const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;

fn write_entry(ioapic: &mut IoApic, pin: u8, low: u32, dest: u8) -> WriteEffects {
    let _ = ioapic.write(0, 0x11 + 2 * u32::from(pin));
    let _ = ioapic.write(0x10, u32::from(dest) << 24);
    let _ = ioapic.write(0, 0x10 + 2 * u32::from(pin));
    ioapic.write(0x10, low)
}

fn read_low(ioapic: &mut IoApic, pin: u8) -> u32 {
    let _ = ioapic.write(0, 0x10 + 2 * u32::from(pin));
    ioapic.read(0x10)
}

fn vector(outcome: LineOutcome) -> Option<u8> {
    match outcome {
        LineOutcome::Deliver(deliver) => Some(deliver.message.vector),
        LineOutcome::Done(_) => None,
    }
}

#[test]
fn registers() {
    let mut ioapic = IoApic::new();
    let _ = ioapic.write(0, 0x101);
    assert_eq!(ioapic.read(0), 1);
    assert_eq!(ioapic.read(0x10), 0x0017_0011);
    let _ = ioapic.write(0, 0);
    let _ = ioapic.write(0x10, 0xff00_0000);
    assert_eq!(ioapic.read(0x10), 0x0f00_0000);
    let _ = ioapic.write(0, 2);
    assert_eq!(ioapic.read(0x10), 0x0f00_0000);
    for select in [3, 0xf, 0x40, 0xff] {
        let _ = ioapic.write(0, select);
        assert_eq!(ioapic.read(0x10), u32::MAX);
        assert_eq!(ioapic.write(0x10, 0), WriteEffects::default());
    }
    assert_eq!(ioapic.read(0x40), 0);
    assert_eq!(read_low(&mut ioapic, 23), MASKED);
}

#[test]
fn edges() {
    let mut ioapic = IoApic::new();
    let effects = write_entry(&mut ioapic, 4, 0x34, 1);
    assert_eq!(effects.mask_changed, Some((4, false)));
    assert!(effects.rescan);
    let LineOutcome::Deliver(deliver) = ioapic.set_line(4, 0, true, false) else { panic!() };
    assert_eq!((deliver.message.dest, deliver.message.trigger), (1, Trigger::Edge));
    assert_eq!(ioapic.set_line(4, 0, true, false), LineOutcome::Done(LineStatus::Coalesced));
    assert_eq!(ioapic.set_line(4, 0, false, false), LineOutcome::Done(LineStatus::Taken));
    assert_eq!(vector(ioapic.set_line(4, 0, true, false)), Some(0x34));
    assert_eq!(ioapic.set_line(24, 0, true, false), LineOutcome::Done(LineStatus::Ignored));
}

#[test]
fn a_level_waits_for_its_eoi() {
    let mut ioapic = IoApic::new();
    let _ = write_entry(&mut ioapic, 10, LEVEL | 0x3a, 0);
    assert_eq!(vector(ioapic.set_line(10, 0, true, false)), Some(0x3a));
    assert_eq!(read_low(&mut ioapic, 10), LEVEL | 1 << 14 | 0x3a);
    assert_eq!(vector(ioapic.set_line(10, 1, true, false)), None);
    let _ = ioapic.set_line(10, 0, false, false);
    assert_eq!(ioapic.eoi_pins(VcpuIndex(0), 0x3a), Pins(1 << 10));
    assert!(matches!(ioapic.end_of_interrupt(10), EoiOutcome::Deliver(d) if d.pin == 10));
    let _ = ioapic.set_line(10, 1, false, false);
    assert_eq!(ioapic.end_of_interrupt(10), EoiOutcome::None);
    assert_eq!(ioapic.eoi_pins(VcpuIndex(0), 0x3b), Pins(0));
}

#[test]
fn nobody_accepts() {
    let mut ioapic = IoApic::new();
    let _ = write_entry(&mut ioapic, 10, LEVEL | 0x3a, 0);
    let LineOutcome::Deliver(deliver) = ioapic.set_line(10, 0, true, false) else { panic!() };
    ioapic.delivered(&deliver, 0);
    assert_eq!(vector(ioapic.set_line(10, 0, true, false)), Some(0x3a));
}

#[test]
fn unmasking_a_pending_level() {
    let mut ioapic = IoApic::new();
    let _ = write_entry(&mut ioapic, 10, MASKED | LEVEL | 0x3a, 0);
    assert_eq!(ioapic.set_line(10, 0, true, false), LineOutcome::Done(LineStatus::Ignored));
    let effects = write_entry(&mut ioapic, 10, LEVEL | 0x3a, 0);
    assert_eq!((effects.pending, effects.rescan), (Some(10), false));
    let mut resampled = ioapic.clone();
    resampled.clear_pending(10);
    assert_eq!(resampled.service(10), None);
    assert_eq!(ioapic.service(10).unwrap().message.vector, 0x3a);
    assert_eq!(ioapic.service(10), None);
}

#[test]
fn an_edge_under_the_mask_is_lost() {
    let mut ioapic = IoApic::new();
    let _ = write_entry(&mut ioapic, 4, MASKED | 0x34, 0);
    assert_eq!(vector(ioapic.set_line(4, 0, true, false)), None);
    assert_eq!(write_entry(&mut ioapic, 4, 0x34, 0).pending, None);
}

#[test]
fn edge_mode_clears_the_remote_irr() {
    let mut ioapic = IoApic::new();
    let _ = write_entry(&mut ioapic, 10, LEVEL | 0x3a, 0);
    let _ = ioapic.set_line(10, 0, true, false);
    let _ = write_entry(&mut ioapic, 10, MASKED | 0x3a, 0);
    let effects = write_entry(&mut ioapic, 10, LEVEL | 0x3a, 0);
    assert_eq!(effects.pending, Some(10));
}

#[test]
fn a_storm_is_slowed_down() {
    let mut ioapic = IoApic::new();
    let _ = write_entry(&mut ioapic, 10, LEVEL | 0x3a, 0);
    let _ = ioapic.set_line(10, 0, true, false);
    for _ in 1..STORM_LIMIT {
        assert!(matches!(ioapic.end_of_interrupt(10), EoiOutcome::Deliver(_)));
    }
    assert_eq!(ioapic.end_of_interrupt(10), EoiOutcome::Later);
    assert_eq!(ioapic.reinject_pins(), Pins(1 << 10));
    assert!(ioapic.service(10).is_some());
    assert_eq!(ioapic.reinject_pins(), Pins(0));
    assert!(matches!(ioapic.end_of_interrupt(10), EoiOutcome::Deliver(_)));
}

#[test]
fn rtc_coalesces_until_eoi() {
    let mut ioapic = IoApic::new();
    let _ = write_entry(&mut ioapic, RTC_PIN, 0x28, 0);
    let LineOutcome::Deliver(deliver) = ioapic.set_line(RTC_PIN, 0, true, true) else { panic!() };
    assert!(deliver.track_rtc);
    ioapic.rtc_accepted(VcpuIndex(3), 0x28);
    let _ = ioapic.set_line(RTC_PIN, 0, false, true);
    let coalesced = LineOutcome::Done(LineStatus::Coalesced);
    assert_eq!(ioapic.set_line(RTC_PIN, 0, true, true), coalesced);
    let _ = write_entry(&mut ioapic, RTC_PIN, 0x29, 0);
    let intercepts = |ioapic: &IoApic| ioapic.eoi_intercepts(VcpuIndex(3), |_| false, |_| false);
    assert!(intercepts(&ioapic).contains(0x28));
    assert_eq!(ioapic.eoi_pins(VcpuIndex(3), 0x28), Pins(0));
    assert_eq!(intercepts(&ioapic), VectorSet::EMPTY);
    assert_eq!(vector(ioapic.set_line(RTC_PIN, 0, true, true)), Some(0x29));
}

#[test]
fn intercepted_vectors() {
    let mut ioapic = IoApic::new();
    let _ = write_entry(&mut ioapic, 2, 0x30, 0);
    let _ = write_entry(&mut ioapic, 4, 0x34, 0);
    let _ = write_entry(&mut ioapic, 10, LEVEL | 0x3a, 0);
    let _ = write_entry(&mut ioapic, 11, LEVEL | 0x3b, 1);
    let set = ioapic.eoi_intercepts(VcpuIndex(0), |pin| pin == 2, |m| m.dest == 0 && m.vector != 0);
    let mut expected = VectorSet::EMPTY;
    expected.insert(0x30);
    expected.insert(0x3a);
    assert_eq!(set, expected);
}

#[test]
fn state_round_trip() {
    let mut ioapic = IoApic::new();
    let _ = write_entry(&mut ioapic, 4, 0x34, 0);
    let _ = write_entry(&mut ioapic, 5, MASKED | 0x35, 0);
    let _ = write_entry(&mut ioapic, 10, LEVEL | 0x3a, 2);
    for pin in [4, 5, 10] {
        let _ = ioapic.set_line(pin, 0, true, false);
    }
    let state = ioapic.save();
    assert_eq!(state.irr, 1 << 5 | 1 << 10);
    let mut other = IoApic::new();
    let pins = other.load(&state);
    assert_eq!(pins, Pins(state.irr));
    for pin in pins {
        assert_eq!(vector(other.resume_pin(pin)), None);
    }
    assert_eq!(other.save(), state);
    assert!(matches!(other.end_of_interrupt(10), EoiOutcome::Deliver(_)));
    other.reset();
    assert_eq!(other.save(), IoApic::new().save());
}

#[derive(Clone, Debug)]
enum Op {
    Line(u8, bool),
    Mask(bool),
    Eoi,
}

proptest! {
    /// One level pin with two sources: a message is outstanding whenever the
    /// line is asserted and the pin unmasked, never two at a time.
    #[test]
    fn level_semantics(ops in prop::collection::vec(prop_oneof![
        3 => (0u8..2, any::<bool>()).prop_map(|(s, l)| Op::Line(s, l)),
        1 => any::<bool>().prop_map(Op::Mask),
        2 => Just(Op::Eoi),
    ], 0..100)) {
        let mut ioapic = IoApic::new();
        let _ = write_entry(&mut ioapic, 9, LEVEL | 0x39, 0);
        let (mut sources, mut masked, mut outstanding) = ([false; 2], false, false);
        for op in ops {
            let sent = match op {
                Op::Line(source, level) => {
                    sources[usize::from(source)] = level;
                    vector(ioapic.set_line(9, source, level, false)).is_some()
                }
                Op::Mask(mask) => {
                    masked = mask;
                    let low = LEVEL | 0x39 | if mask { MASKED } else { 0 };
                    let pending = write_entry(&mut ioapic, 9, low, 0).pending;
                    pending.is_some_and(|pin| ioapic.service(pin).is_some())
                }
                Op::Eoi => {
                    outstanding = false;
                    matches!(ioapic.end_of_interrupt(9), EoiOutcome::Deliver(_))
                }
            };
            let line = sources[0] || sources[1];
            prop_assert_eq!(sent, line && !masked && !outstanding);
            outstanding |= sent;
            prop_assert_eq!(ioapic.entry(9).unwrap().remote_irr(), outstanding);
        }
    }
}
