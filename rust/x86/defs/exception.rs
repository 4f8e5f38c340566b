// SPDX-License-Identifier: GPL-2.0
//! Exception vectors and the error codes that come with them.
//!
//! Intel SDM volume 3 sections 6.3, 6.13 and 6.15.

use bitflags::bitflags;

/// An exception vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Vector {
    /// #DE, divide error.
    De = 0,
    /// #DB, debug.
    Db = 1,
    /// Non-maskable interrupt.
    Nmi = 2,
    /// #BP, breakpoint.
    Bp = 3,
    /// #OF, overflow.
    Of = 4,
    /// #BR, bound range exceeded.
    Br = 5,
    /// #UD, undefined opcode.
    Ud = 6,
    /// #NM, FPU not available.
    Nm = 7,
    /// #DF, double fault.
    Df = 8,
    /// #TS, invalid TSS.
    Ts = 10,
    /// #NP, segment not present.
    Np = 11,
    /// #SS, stack fault.
    Ss = 12,
    /// #GP, general protection.
    Gp = 13,
    /// #PF, page fault.
    Pf = 14,
    /// #MF, x87 error.
    Mf = 16,
    /// #AC, alignment check.
    Ac = 17,
    /// #MC, machine check.
    Mc = 18,
    /// #XM, SIMD error.
    Xm = 19,
    /// #VE, virtualization exception.
    Ve = 20,
    /// #CP, control protection.
    Cp = 21,
    /// #HV, hypervisor injection (AMD).
    Hv = 28,
    /// #VC, VMM communication (AMD).
    Vc = 29,
    /// #SX, security (AMD).
    Sx = 30,
}

impl Vector {
    /// All of them, by number.
    const ALL: [Self; 23] = [
        Self::De,
        Self::Db,
        Self::Nmi,
        Self::Bp,
        Self::Of,
        Self::Br,
        Self::Ud,
        Self::Nm,
        Self::Df,
        Self::Ts,
        Self::Np,
        Self::Ss,
        Self::Gp,
        Self::Pf,
        Self::Mf,
        Self::Ac,
        Self::Mc,
        Self::Xm,
        Self::Ve,
        Self::Cp,
        Self::Hv,
        Self::Vc,
        Self::Sx,
    ];

    /// The vector with a number, if the architecture gives it a meaning.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|vector| *vector as u8 == number)
    }

    /// Whether delivery in protected mode pushes an error code.
    #[inline]
    pub const fn has_error_code(self) -> bool {
        matches!(
            self,
            Self::Df
                | Self::Ts
                | Self::Np
                | Self::Ss
                | Self::Gp
                | Self::Pf
                | Self::Ac
                | Self::Cp
                | Self::Vc
                | Self::Sx
        )
    }
}

/// The error code of a page fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageFaultCode(u32);

bitflags! {
    impl PageFaultCode: u32 {
        /// The translation was present: a protection violation.
        const PRESENT = 1;
        /// The access was a write.
        const WRITE = 1 << 1;
        /// The access was made in user mode.
        const USER = 1 << 2;
        /// A reserved bit was set in a paging entry.
        const RESERVED = 1 << 3;
        /// The access was an instruction fetch.
        const FETCH = 1 << 4;
        /// Protection-key violation.
        const PKEY = 1 << 5;
        /// Shadow-stack access.
        const SHADOW_STACK = 1 << 6;
        /// SGX access-control violation.
        const SGX = 1 << 15;
    }
}

/// The low bits of an error code that names a selector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelectorCode(u32);

bitflags! {
    impl SelectorCode: u32 {
        /// The event was external to the program.
        const EXT = 1;
        /// The index refers to the IDT.
        const IDT = 1 << 1;
        /// The index refers to the LDT, not the GDT.
        const TI = 1 << 2;
    }
}
