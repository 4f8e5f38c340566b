// SPDX-License-Identifier: GPL-2.0
//! EFER, the extended feature enable register (MSR C000_0080h).
//!
//! Intel SDM volume 3 section 2.2.1, AMD APM volume 2 section 3.1.7.

use bitflags::bitflags;

/// EFER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Efer(u64);

bitflags! {
    impl Efer: u64 {
        /// SYSCALL and SYSRET enabled.
        const SCE = 1;
        /// Long mode enabled, takes effect with CR0.PG.
        const LME = 1 << 8;
        /// Long mode active, set by the processor.
        const LMA = 1 << 10;
        /// No-execute pages.
        const NXE = 1 << 11;
        /// SVM enabled.
        const SVME = 1 << 12;
        /// Long-mode segment limits (AMD).
        const LMSLE = 1 << 13;
        /// Fast FXSAVE and FXRSTOR (AMD).
        const FFXSR = 1 << 14;
        /// Translation-cache extension (AMD).
        const TCE = 1 << 15;
        /// Automatic IBRS (AMD).
        const AUTOIBRS = 1 << 21;
    }
}
