// SPDX-License-Identifier: GPL-2.0
//! Arguments: numbers that matter somewhere, in the places where structures have numbers.

use rand::Rng;
use rand::seq::IndexedRandom;

use crate::world::{MEMORY, Memory};

/// Bytes of the largest argument, with room behind it.
pub(crate) const ROOM: usize = 32 * 1024;

/// Addresses, sizes, vectors, MSRs, masks.
const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    3,
    4,
    8,
    15,
    16,
    24,
    32,
    64,
    255,
    256,
    0x3f8,
    0xff8,
    0xfff,
    0x1000,
    0x1001,
    0x2000,
    0xcf8,
    0x10_0000,
    0x20_0000,
    0x4000_0000,
    0xfec0_0000,
    0xfee0_0000,
    0xfee0_1000,
    0xffff_f000,
    0x1_0000_0000,
    0x8000_0000,
    0xc000_0080,
    0xc000_0081,
    0xc000_0101,
    0xc000_0103,
    0x10,
    0x1b,
    0x3a,
    0x3b,
    0x174,
    0x1a0,
    0x1d9,
    0x200,
    0x277,
    0x2ff,
    0x400,
    0x6e0,
    0x800,
    0x830,
    0x80b,
    0xda0,
    0x4b56_4d00,
    0x4b56_4d01,
    0x4b56_4d02,
    0x4b56_4d03,
    0x4b56_4d04,
    0x4b56_4d05,
    u32::MAX as u64,
    i32::MAX as u64,
    i64::MAX as u64,
    1 << 63,
    0x8000_0000_0000,
    0xffff_8000_0000_0000,
    0x000f_ffff_ffff_f000,
    u64::MAX,
];

/// A number.
pub(crate) fn number(random: &mut impl Rng) -> u64 {
    match random.random_range(0..8) {
        0 => random.random(),
        1 => 1 << random.random_range(0..64),
        2 | 3 => random.random_range(0..32),
        _ => NUMBERS.choose(random).copied().unwrap_or(0),
    }
}

/// Changes some places of `bytes`.
pub(crate) fn change(random: &mut impl Rng, bytes: &mut [u8]) {
    if bytes.is_empty() {
        return;
    }
    for _ in 0..random.random_range(0..4) {
        let width = [1, 2, 4, 8].choose(random).copied().unwrap_or(4).min(bytes.len());
        let at = random.random_range(0..=bytes.len() - width) / width * width;
        let value = number(random).to_le_bytes();
        if let (Some(place), Some(value)) = (bytes.get_mut(at..at + width), value.get(..width)) {
            place.copy_from_slice(value);
        }
    }
}

/// Fills `bytes` with words, most of them small.
pub(crate) fn plain(random: &mut impl Rng, bytes: &mut [u8]) {
    let width = if random.random() { 4 } else { 8 };
    for place in bytes.chunks_mut(width) {
        let value = if random.random_range(0..3) == 0 { number(random) } else { 0 };
        let value = value.to_le_bytes();
        place.copy_from_slice(&value[..place.len()]);
    }
}

/// A list: a count, padding, entries.
pub(crate) fn list(random: &mut impl Rng, bytes: &mut [u8], entries: u32, size: u32) {
    let count = match random.random_range(0..10) {
        0 => number(random) as u32,
        _ => random.random_range(0..=entries),
    };
    let length = 8 + (entries as usize) * (size as usize);
    let end = length.min(bytes.len());
    for entry in bytes[8.min(end)..end].chunks_mut(size as usize) {
        plain(random, entry);
    }
    bytes[..4].copy_from_slice(&count.to_le_bytes());
    bytes[4..8].fill(0);
}

/// A memory slot; most are possible.
pub(crate) fn slot(random: &mut impl Rng, memory: &Memory, bytes: &mut [u8]) {
    const PAGE: u64 = 4096;
    let id: u64 = random.random_range(0..5);
    let flags = [0, 0, 0, 1, 1, 2, 3, 4].choose(random).copied().unwrap_or(0_u64);
    let pages = MEMORY as u64 / PAGE;
    let first = if random.random() { 0 } else { random.random_range(0..pages) };
    let count = random.random_range(0..=pages - first);
    let count = if random.random_range(0..4) == 0 { 0 } else { count };
    // The first slot mostly begins where code is.
    let place = if id == 0 { 0 } else { random.random_range(0..0x4000) };
    let words = [id | flags << 32, place * PAGE, count * PAGE, memory.address() + first * PAGE];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    if random.random_range(0..10) == 0 {
        change(random, &mut bytes[..32]);
    }
}

/// Makes the slot in `bytes` one whose pages are those of `file`, mostly where the file has some.
pub(crate) fn slot_of_file(random: &mut impl Rng, bytes: &mut [u8], file: i32) {
    const GUEST_MEMFD: u8 = 1 << 2;
    if let Some(flags) = bytes.get_mut(4) {
        *flags |= GUEST_MEMFD;
    }
    let offset = if random.random() { 0 } else { random.random_range(0..64) * 4096 };
    put64(bytes, 32, if random.random_range(0..10) == 0 { number(random) } else { offset });
    put32(bytes, 40, file as u32);
}

/// A file of memory to make; most are possible.
pub(crate) fn file(random: &mut impl Rng, bytes: &mut [u8]) {
    let size = match random.random_range(0..10) {
        0 => number(random),
        _ => random.random_range(1..=MEMORY as u64 / 4096) * 4096,
    };
    let flags = [0, 3, 3, 3, 1, 2].choose(random).copied().unwrap_or(0);
    put64(bytes, 0, size);
    put64(bytes, 8, flags);
    bytes[16..64].fill(0);
}

/// Puts a 64-bit word somewhere.
pub(crate) fn put64(bytes: &mut [u8], at: usize, value: u64) {
    if let Some(place) = bytes.get_mut(at..at + 8) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

/// Puts a 32-bit word somewhere.
pub(crate) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}
