// SPDX-License-Identifier: GPL-2.0
//! Work with results that can be computed anywhere: a guest does it, and whoever watches the guest does it
//! too and compares.

#![forbid(unsafe_code)]

pub mod compile;
pub mod stream;

pub use compile::digest;
pub use stream::Stream;

/// What the register number `index` (in the order of `GENERAL`, from 0) holds while a guest waits with known
/// register contents.
pub const fn pattern(index: u64) -> u64 {
    0x0101_0101_0101_0101_u64.wrapping_mul(index + 1) ^ 0x8000_0000_00ff_0000
}

/// The general registers that take part, in order; the stack pointer is needed for the stack.
pub const GENERAL: [&str; 15] = [
    "RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", "R8", "R9", "R10", "R11", "R12", "R13", "R14",
    "R15",
];

/// Vector registers that hold the patterns of the first general registers, in both halves.
pub const VECTORS: usize = 8;
