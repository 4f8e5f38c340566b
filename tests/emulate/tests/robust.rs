// SPDX-License-Identifier: GPL-2.0
//! The fuzz entry on random input; `EMULATE_CASES` sets how many.

use emulate_tests::fuzz;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

#[test]
fn any_bytes_in_any_state() {
    let cases =
        std::env::var("EMULATE_CASES").ok().and_then(|v| v.parse().ok()).unwrap_or(100_000u64);
    let mut rng = SmallRng::seed_from_u64(5);
    let mut data = [0u8; 48];
    for _ in 0..cases {
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
