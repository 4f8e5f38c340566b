// SPDX-License-Identifier: GPL-2.0
//! The time-of-day clock of the host: bit 51 counts microseconds.

use kernel::time::Delta;

/// The clock now, at least as late as any reading before it in program order.
#[inline]
pub fn now() -> u64 {
    let mut value = 0_u64;
    // SAFETY: STORE CLOCK FAST writes eight bytes at the address and sets the
    // condition code.
    unsafe {
        core::arch::asm!(
            ".insn s,0xb27c0000,0({0})",
            in(reg_addr) &raw mut value,
            options(nostack),
        );
    }
    value
}

/// So many units of the clock as a length of time.
pub fn length(units: u64) -> Delta {
    // 4096 units are 1000 ns: 125 / 512.
    let whole = (units >> 9).saturating_mul(125);
    let part = (units & 0x1ff).wrapping_mul(125) >> 9;
    let nanoseconds = whole.saturating_add(part).min(i64::MAX as u64);
    Delta::from_nanos(nanoseconds as i64)
}
