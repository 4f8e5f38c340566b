// SPDX-License-Identifier: GPL-2.0
//! Single registers of the guest's floating-point and vector state, for whoever
//! executes an instruction in its place.
//!
//! They are read and changed where they are, in the registers of the CPU: the
//! image in memory would have to be written out for it.
//!
//! Intel SDM volume 1, chapters 8, 9, 10 and 14.

use super::{fpu::GuestFpu, has_feature};
use crate::bindings as own;
use core::arch::asm;

/// Exception summary: an unmasked exception waits for the next instruction that
/// isn't a control instruction.
const STATUS_ES: u16 = 1 << 7;

/// `$insn` with `$ptr` for `{}` and the number of a register for `#`.
macro_rules! by_number {
    ($n:expr, $ptr:expr, $before:literal, $after:literal, $($number:literal)*) => {
        match $n {
            $($number => asm!(
                concat!($before, $number, $after),
                in(reg) $ptr,
                options(nostack, preserves_flags),
            ),)*
            _ => (),
        }
    };
}

macro_rules! by_number_16 {
    ($n:expr, $ptr:expr, $before:literal, $after:literal) => {
        by_number!($n & 15, $ptr, $before, $after, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
}

macro_rules! by_number_8 {
    ($n:expr, $ptr:expr, $before:literal, $after:literal) => {
        by_number!($n & 7, $ptr, $before, $after, 0 1 2 3 4 5 6 7)
    };
}

impl GuestFpu {
    /// YMM register `n` (0 to 15), lowest quadword first. Without AVX the upper
    /// half is zero.
    pub fn ymm(&mut self, n: u8) -> [u64; 4] {
        let mut value = [0; 4];
        let to = value.as_mut_ptr();
        let avx = has_feature(own::X86_FEATURE_AVX);
        // SAFETY: The registers are the guest's and stay so; `to` has 32 bytes,
        // of which the second form writes 16. The kernel enabled AVX if the host
        // has it.
        self.in_registers(|| unsafe {
            if avx {
                by_number_16!(n, to, "vmovdqu ymmword ptr [{}], ymm", "");
            } else {
                by_number_16!(n, to, "movdqu xmmword ptr [{}], xmm", "");
            }
        });
        value
    }

    /// Sets YMM register `n`, as an instruction with VEX prefix: what lies above
    /// becomes zero. Without AVX the upper half is ignored.
    pub fn set_ymm(&mut self, n: u8, value: [u64; 4]) {
        if !has_feature(own::X86_FEATURE_AVX) {
            let [low, high, ..] = value;
            return self.set_xmm(n, [low, high]);
        }
        let from = value.as_ptr();
        // SAFETY: As for `ymm`; reads 32 bytes.
        self.in_registers(|| unsafe {
            by_number_16!(n, from, "vmovdqu ymm", ", ymmword ptr [{}]");
        });
    }

    /// Sets XMM register `n` as an instruction without VEX prefix: what lies
    /// above stays.
    pub fn set_xmm(&mut self, n: u8, value: [u64; 2]) {
        let from = value.as_ptr();
        // SAFETY: As for `ymm`; reads 16 bytes.
        self.in_registers(|| unsafe {
            by_number_16!(n, from, "movdqu xmm", ", xmmword ptr [{}]");
        });
    }

    /// MMX register `n` (0 to 7). Like the instruction it makes all x87 registers
    /// valid. `None`, and nothing happens, if an x87 exception is pending: the
    /// instruction raises #MF.
    pub fn mm(&mut self, n: u8) -> Option<u64> {
        let mut value = 0;
        let to = &raw mut value;
        // SAFETY: As for `ymm`; writes 8 bytes. No exception is pending.
        self.in_registers(|| unsafe {
            (status() & STATUS_ES == 0).then(|| {
                by_number_8!(n, to, "movq qword ptr [{}], mm", "");
            })
        })?;
        Some(value)
    }

    /// Sets MMX register `n` as [`Self::mm`] reads it; false if it can't.
    #[must_use = "or the guest misses an exception"]
    pub fn set_mm(&mut self, n: u8, value: u64) -> bool {
        let from = &raw const value;
        // SAFETY: As for `mm`; reads 8 bytes.
        self.in_registers(|| unsafe {
            let ready = status() & STATUS_ES == 0;
            if ready {
                by_number_8!(n, from, "movq mm", ", qword ptr [{}]");
            }
            ready
        })
    }

    /// x87 control and status word.
    pub fn words(&mut self) -> (u16, u16) {
        let mut control = 0_u16;
        let to = &raw mut control;
        // SAFETY: As for `ymm`; writes 2 bytes.
        self.in_registers(|| unsafe {
            asm!("fnstcw word ptr [{}]", in(reg) to, options(nostack, preserves_flags));
            let status = status();
            (to.read(), status)
        })
    }

    /// Sets the x87 control word, as FLDCW; false if an exception is pending.
    #[must_use = "or the guest misses an exception"]
    pub fn set_control(&mut self, value: u16) -> bool {
        let from = &raw const value;
        // SAFETY: As for `ymm`; reads 2 bytes. No exception is pending.
        self.in_registers(|| unsafe {
            let ready = status() & STATUS_ES == 0;
            if ready {
                asm!("fldcw word ptr [{}]", in(reg) from, options(nostack, preserves_flags));
            }
            ready
        })
    }

    /// FNINIT.
    pub fn init_x87(&mut self) {
        // SAFETY: The registers are the guest's.
        self.in_registers(|| unsafe { asm!("fninit", options(nostack, preserves_flags)) });
    }
}

/// x87 status word.
///
/// # Safety
///
/// The registers hold the state that is meant, and stay so.
unsafe fn status() -> u16 {
    let status;
    // SAFETY: By the contract; never raises an exception.
    unsafe { asm!("fnstsw ax", out("ax") status, options(nostack, preserves_flags)) };
    status
}

/// Runs `body` with the registers held by the current task's state, which is
/// loaded if it isn't in them.
#[inline]
pub(super) fn with_owned<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: Process context; unlocked below.
    unsafe { kvm_helper_fpregs_lock() };
    let result = body();
    // SAFETY: Pairs with the call above.
    unsafe { kvm_helper_fpregs_unlock() };
    result
}

extern "C" {
    fn kvm_helper_fpregs_lock();
    fn kvm_helper_fpregs_unlock();
}
