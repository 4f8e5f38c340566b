// SPDX-License-Identifier: GPL-2.0
//! The fuzz entry on random input: `EMULATE_CASES` inputs, or `EMULATE_SECONDS` of them, that follow from
//! `EMULATE_SEED`.

use std::time::{Duration, Instant};

use emulate_tests::fuzz;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

#[test]
fn any_bytes_in_any_state() {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let end =
        number("EMULATE_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let cases = number("EMULATE_CASES").unwrap_or(if end.is_some() { u64::MAX } else { 100_000 });
    let mut rng = SmallRng::seed_from_u64(number("EMULATE_SEED").unwrap_or(5));
    let mut data = [0u8; 48];
    for done in 0..cases {
        if done % 1024 == 0 && end.is_some_and(|end| Instant::now() >= end) {
            println!("{done} inputs");
            break;
        }
        rng.fill(&mut data);
        // Two thirds with a likelier opcode: 0Fh or a far transfer.
        match rng.random_range(0..6) {
            0 => data[1] = 0x0f,
            1 => data[1..3].copy_from_slice(&[0x66, 0x0f]),
            2 => data[1] = [0xcf, 0xcd, 0x9a, 0xea, 0xcb, 0xff, 0x8e, 0xcc][rng.random_range(0..8)],
            3 => data[1..3].copy_from_slice(&[0xf3, 0xa4 + rng.random_range(0..12u8)]),
            _ => {}
        }
        fuzz::one(&data);
    }
}
