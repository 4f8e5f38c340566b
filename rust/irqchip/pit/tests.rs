// SPDX-License-Identifier: GPL-2.0
//! Tests of the 8254: by example, and the counters against counting by hand.

use super::*;
use clock::ticks_to_ns;
use proptest::prelude::*;

const CONTROL: u8 = 3;

fn pit() -> Pit {
    Pit::new(0)
}

/// Programs a channel for 16-bit access.
fn program(pit: &mut Pit, channel: u8, mode: u8, count: u16, now: u64) {
    let _ = pit.write(CONTROL, channel << 6 | 0x30 | mode << 1, now);
    let [low, high] = count.to_le_bytes();
    let _ = pit.write(channel, low, now);
    let _ = pit.write(channel, high, now);
}

fn read16(pit: &mut Pit, channel: u8, now: u64) -> u16 {
    let low = pit.read(channel, || now);
    u16::from_le_bytes([low, pit.read(channel, || now)])
}

#[test]
fn rate_generator_ticks_without_drift() {
    let mut pit = pit();
    assert_eq!(pit.expiry(), None);
    program(&mut pit, 0, 2, 1193, 1000);
    let mut now = 1000;
    for n in 1..=5000u64 {
        now = pit.expiry().unwrap();
        assert_eq!(now, 1000 + ticks_to_ns(1193 * n));
        assert!(!pit.tick(now - 1).inject);
        assert_eq!(pit.tick(now), Effects { timer: true, inject: true });
        let _ = pit.acked();
    }
    assert_eq!(read16(&mut pit, 0, now), 1193);
}

#[test]
fn one_tick_of_mode_0() {
    let mut pit = pit();
    program(&mut pit, 0, 0, 100, 0);
    let due = pit.expiry().unwrap();
    assert_eq!(due, ticks_to_ns(100));
    assert!(pit.tick(due).inject);
    assert_eq!(pit.expiry(), None);
    assert!(!pit.tick(due * 2).inject);
    assert!(pit.write(CONTROL, 0x30, due).timer);
    assert_eq!(pit.expiry(), None);
}

#[test]
fn missed_ticks_come_one_for_each_ack() {
    let mut pit = pit();
    program(&mut pit, 0, 2, 1193, 0);
    assert!(pit.tick(ticks_to_ns(1193)).inject);
    assert!(!pit.tick(ticks_to_ns(1193 * 4)).inject);
    for _ in 0..3 {
        assert!(pit.acked().inject);
    }
    assert!(!pit.acked().inject);
    assert!(pit.tick(ticks_to_ns(1193 * 5)).inject);
    assert!(!pit.tick(ticks_to_ns(1193 * 9)).inject);
    pit.unmasked();
    assert!(!pit.acked().inject);
}

#[test]
fn without_reinjection_late_ticks_are_one() {
    let mut pit = pit();
    pit.set_reinject(false);
    program(&mut pit, 0, 2, 1193, 0);
    for n in [1, 2, 7, 8] {
        assert!(pit.tick(ticks_to_ns(1193 * n)).inject);
        assert!(!pit.acked().inject);
    }
    assert!(!pit.reinjects());
    pit.set_reinject(true);
    assert!(pit.tick(ticks_to_ns(1193 * 9)).inject);
}

#[test]
fn short_periods_skip_edges() {
    let mut pit = Pit::new(200_000);
    program(&mut pit, 0, 2, 100, 0);
    assert_eq!(pit.expiry(), Some(ticks_to_ns(300)));
    assert!(pit.tick(ticks_to_ns(300)).inject);
    assert_eq!(pit.expiry(), Some(ticks_to_ns(600)));
    program(&mut pit, 0, 0, 100, 0);
    assert_eq!(pit.expiry(), Some(ticks_to_ns(100)));
}

#[test]
fn access_modes_and_latches() {
    let mut pit = pit();
    program(&mut pit, 1, 2, 0x1234, 0);
    let _ = pit.write(CONTROL, 0x40, 0);
    let _ = pit.write(CONTROL, 0x40, ticks_to_ns(5));
    assert_eq!(read16(&mut pit, 1, ticks_to_ns(9)), 0x1234);
    assert_eq!(read16(&mut pit, 1, ticks_to_ns(0x34)), 0x1200);
    let _ = pit.write(CONTROL, 0x54, 0);
    let _ = pit.write(1, 0x10, 0);
    assert_eq!((pit.read(1, || 0), pit.read(1, || 0)), (0x10, 0x10));
    let _ = pit.write(CONTROL, 0x64, 0);
    let _ = pit.write(1, 0x10, 0);
    let _ = pit.write(CONTROL, 0x40, 0);
    assert_eq!((pit.read(1, || 0), pit.read(1, || ticks_to_ns(1))), (0x10, 0x0f));
    assert_eq!(pit.read(CONTROL, || 0), 0);
}

#[test]
fn read_back() {
    let mut pit = pit();
    program(&mut pit, 0, 3, 1000, 0);
    let _ = pit.write(CONTROL, 0x74, 0);
    let _ = pit.write(CONTROL, 0xc0 | 2 | 4, ticks_to_ns(600));
    assert_eq!(pit.read(0, || 0), 0x36);
    assert_eq!(read16(&mut pit, 0, 0), 800);
    assert_eq!(pit.read(1, || 0), 0xc0 | 0x34);
    let _ = pit.write(CONTROL, 0xe0 | 2, ticks_to_ns(1000));
    assert_eq!(pit.read(0, || 0), 0x80 | 0x36);
}

#[test]
fn decimal_counting() {
    let mut pit = pit();
    let _ = pit.write(CONTROL, 0xb1, 0);
    pit.write_speaker(1, 0);
    let _ = pit.write(2, 0x34, 0);
    let _ = pit.write(2, 0x12, 0);
    assert_eq!(read16(&mut pit, 2, ticks_to_ns(35)), 0x1199);
    assert_eq!(read16(&mut pit, 2, ticks_to_ns(1235)), 0x9999);
    let _ = pit.write(2, 0, 0);
    let _ = pit.write(2, 0, 0);
    assert_eq!(pit.save(0).channels[2].count, 10_000);
    assert_eq!(read16(&mut pit, 2, ticks_to_ns(1)), 0x9999);
}

#[test]
fn gate_holds_and_triggers() {
    let mut pit = pit();
    let ns = ticks_to_ns;
    // Reads fall between two ticks.
    let mid = |ticks| ticks_to_ns(ticks) + 400;
    program(&mut pit, 2, 0, 1000, 0);
    assert_eq!(read16(&mut pit, 2, mid(50)), 1000);
    pit.write_speaker(1, ns(100));
    assert_eq!(read16(&mut pit, 2, mid(300)), 800);
    assert_eq!(pit.read_speaker(mid(300)) & 0x21, 1);
    pit.write_speaker(2, ns(400));
    assert_eq!(read16(&mut pit, 2, mid(5000)), 700);
    pit.write_speaker(3, ns(5000));
    assert_eq!(read16(&mut pit, 2, mid(5100)), 600);
    assert_eq!(pit.read_speaker(mid(5700)) & 0x23, 0x23);

    program(&mut pit, 2, 1, 1000, 0);
    assert_eq!(pit.read_speaker(mid(10)) & 0x20, 0x20);
    pit.write_speaker(0, ns(10));
    pit.write_speaker(1, ns(20));
    assert_eq!(pit.read_speaker(mid(30)) & 0x20, 0);
    pit.write_speaker(0, ns(40));
    assert_eq!(pit.read_speaker(mid(1019)) & 0x20, 0);
    assert_eq!(pit.read_speaker(mid(1020)) & 0x20, 0x20);

    program(&mut pit, 2, 3, 1000, 0);
    pit.write_speaker(0, ns(600));
    assert_eq!(pit.read_speaker(mid(601)) & 0x20, 0x20);
    pit.write_speaker(1, ns(2000));
    assert_eq!(read16(&mut pit, 2, mid(2000)), 1000);
}

#[test]
fn refresh_bit_toggles() {
    let mut pit = pit();
    assert_ne!(pit.read_speaker(0) & 0x10, pit.read_speaker(1 << 14) & 0x10);
}

#[test]
fn hpet_legacy_stops_channel_0() {
    let mut pit = pit();
    program(&mut pit, 0, 2, 1193, 0);
    let mut state = pit.save(0);
    state.flags = FLAG_HPET_LEGACY | FLAG_SPEAKER_DATA;
    assert!(pit.load(&state, 0).timer);
    assert_eq!(pit.expiry(), None);
    assert!(!pit.tick(u64::MAX).inject);
    assert_eq!(pit.save(0).flags, 3);
    state.flags = 0;
    let _ = pit.load(&state, 777);
    assert_eq!(pit.expiry(), Some(777 + ticks_to_ns(1193)));
}

#[test]
fn state_round_trip() {
    let mut pit = pit();
    assert_eq!(pit.save(0).channels[2].mode, 0xff);
    assert_eq!(pit.save(0).channels.map(|c| c.gate), [1, 1, 0]);
    program(&mut pit, 0, 2, 1193, 0);
    program(&mut pit, 2, 4, 0, 0);
    let _ = pit.write(CONTROL, 0x80, 0);
    let _ = pit.write(2, 7, 0);
    let _ = pit.write(CONTROL, 0xe0 | 2, 0);
    let state = pit.save(500);
    let mut other = Pit::new(0);
    let _ = other.load(&state, 500);
    let mut expected = state;
    for channel in &mut expected.channels {
        channel.count_load_time = 500;
    }
    assert_eq!(other.save(500), expected);
    let wild =
        ChannelState { count: u32::MAX, mode: 200, rw_mode: 9, gate: 7, ..state.channels[0] };
    let _ = other.load_channels(&[wild; 3], 0);
    assert_eq!(other.expiry(), None);
}

/// A square wave counted tick by tick: value and output after `ticks`.
fn square(count: u32, ticks: u64) -> (u32, bool) {
    let (mut value, mut high) = (count & !1, true);
    for _ in 0..ticks {
        // An odd count stays high for one tick more.
        let last = if count & 1 != 0 && high { 0 } else { 2 };
        if value == last {
            value = count & !1;
            high = !high;
        } else {
            value -= 2;
        }
    }
    (value, high)
}

proptest! {
    #[test]
    fn values_against_arithmetic(count in 2u16..=999, ticks in 0u64..5000, mode in 0u8..5) {
        let mut pit = pit();
        pit.write_speaker(1, 0);
        program(&mut pit, 2, mode, count, 0);
        let now = ticks_to_ns(ticks);
        let (c, t) = (u64::from(count), ticks);
        let (value, output) = match mode {
            0 => (c.wrapping_sub(t) & 0xffff, t >= c),
            1 => (c, true),
            2 => (c - t % c, t % c != c - 1),
            3 => { let (v, o) = square(u32::from(count), ticks); (u64::from(v), o) }
            _ => (c.wrapping_sub(t) & 0xffff, t != c),
        };
        prop_assert_eq!(u64::from(read16(&mut pit, 2, now)), value);
        prop_assert_eq!(pit.read_speaker(now) & 0x20 != 0, output);
    }

    #[test]
    fn any_accesses(ops in prop::collection::vec((0u8..6, any::<u8>(), any::<u32>()), 0..100)) {
        let mut pit = Pit::new(200_000);
        let mut now = 0u64;
        for (port, value, step) in ops {
            now += u64::from(step);
            match port {
                4 => pit.write_speaker(value, now),
                5 => { let _ = pit.tick(now); let _ = pit.acked(); }
                port => { let _ = pit.write(port, value, now); pit.read(port, || now); }
            }
            pit.read_speaker(now);
            let state = pit.save(now);
            prop_assert!(state.channels.iter().all(|c| c.count >= 1));
            if let (Some(due), false) = (pit.expiry(), port == 5) {
                prop_assert!(due > 0);
            }
        }
    }
}
