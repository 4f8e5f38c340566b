// SPDX-License-Identifier: GPL-2.0
//! XCR0, XSS and PKRU: what the guest has in them while it runs.
//!
//! Intel SDM volume 1 chapter 13, volume 3 section 4.6.2.

use super::{
    has_feature,
    msr::{read_msr, write_msr},
};
use crate::{bindings as own, irq::IrqOff};
use core::arch::asm;

const X87: u64 = 1 << 0;
const SSE: u64 = 1 << 1;
const YMM: u64 = 1 << 2;
const MPX: u64 = 3 << 3;
const AVX512: u64 = 7 << 5;
/// The protection-key register.
pub(super) const PKRU: u64 = 1 << 9;

const MSR_XSS: u32 = 0xda0;

/// Components that a guest can have if the host has them. AMX isn't there: XFD
/// would have to be the guest's too.
const OFFERED: u64 = X87 | SSE | YMM | MPX | AVX512 | PKRU;

/// Components of XCR0 that a guest can have on this host; 0 without XSAVE. It is
/// also the attribute `KVM_X86_XCOMP_GUEST_SUPP`.
pub fn supported_xcr0() -> u64 {
    host_xcr0() & OFFERED
}

/// Components of XSS that a guest can have on this host.
pub fn supported_xss() -> u64 {
    0
}

/// Components of XCR0 that a guest of the current process can have: without
/// those for which it has no permission.
pub fn permitted_xcr0() -> u64 {
    // None of those that need permission is offered.
    supported_xcr0()
}

/// Whether hardware takes the value for XCR0 on a processor that has exactly the
/// components `supported`.
pub fn is_valid_xcr0(value: u64, supported: u64) -> bool {
    let all_or_none = |group: u64| matches!(value & group, 0) || value & group == group;
    value & !supported == 0
        && value & X87 != 0
        && (value & YMM == 0 || value & SSE != 0)
        && all_or_none(MPX)
        && all_or_none(AVX512)
        && (value & AVX512 == 0 || value & YMM != 0)
}

/// The three registers of one guest.
///
/// # Invariants
///
/// The host's values are the host's. `xcr0` is a valid value on this host.
pub struct ExtendedControls {
    /// What differs between guest and host now; 0 most of the time.
    differs: Differs,
    xcr0: u64,
    host_xcr0: u64,
    xss: u64,
    host_xss: u64,
    pkru: u32,
    host_pkru: u32,
    host_has_pku: bool,
    osxsave: bool,
    pke: bool,
    xsaves: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Differs(u8);

impl Differs {
    const NOTHING: Self = Self(0);
    const XCR0: u8 = 1;
    const XSS: u8 = 2;
    /// PKRU is the guest's own while it runs.
    const PKRU: u8 = 4;
}

impl ExtendedControls {
    /// The values after reset.
    pub fn new() -> Self {
        let host_xsaves = has_feature(own::X86_FEATURE_XSAVES);
        // INVARIANT: bit 0 alone is valid everywhere.
        Self {
            differs: Differs::NOTHING,
            xcr0: X87,
            host_xcr0: host_xcr0(),
            xss: 0,
            host_xss: if host_xsaves { read_msr(MSR_XSS) } else { 0 },
            pkru: 0,
            host_pkru: 0,
            host_has_pku: has_feature(own::X86_FEATURE_OSPKE),
            osxsave: false,
            pke: false,
            xsaves: false,
        }
    }

    /// The guest's XCR0.
    #[inline]
    pub fn xcr0(&self) -> u64 {
        self.xcr0
    }

    /// Sets it; false if no guest can have this value on this host.
    #[must_use]
    pub fn set_xcr0(&mut self, value: u64) -> bool {
        // A guest without XSAVE has bit 0 all the same.
        let valid = is_valid_xcr0(value, supported_xcr0() | X87);
        if valid {
            // INVARIANT: just checked.
            self.xcr0 = value;
            self.compare();
        }
        valid
    }

    /// The guest's PKRU, as of the last exit.
    #[inline]
    pub fn pkru(&self) -> u32 {
        self.pkru
    }

    /// Sets it.
    pub fn set_pkru(&mut self, value: u32) {
        self.pkru = value;
    }

    /// Whether CR4 has OSXSAVE and PKE. Without the first the guest can't use what
    /// XCR0 enables, so the host's value stays.
    pub fn set_cr4(&mut self, osxsave: bool, pke: bool) {
        self.osxsave = osxsave;
        self.pke = pke;
        self.compare();
    }

    /// CR4.OSXSAVE.
    #[inline]
    pub fn osxsave(&self) -> bool {
        self.osxsave
    }

    /// CR4.PKE.
    #[inline]
    pub fn pke(&self) -> bool {
        self.pke
    }

    /// Whether the guest has XSAVES, which is what XSS matters for.
    pub fn set_xsaves(&mut self, xsaves: bool) {
        self.xsaves = xsaves && has_feature(own::X86_FEATURE_XSAVES);
        self.compare();
    }

    /// The task that runs the guest enters the kernel to do so: its PKRU is the
    /// host's. Nothing but userspace changes it.
    #[inline]
    pub fn begin_run(&mut self) {
        if self.host_has_pku {
            // SAFETY: The host has PKU, and the kernel enabled it.
            self.host_pkru = unsafe { read_pkru() };
        }
    }

    /// Loads XCR0 and XSS.
    #[inline]
    pub fn before_entry(&self, _off: &IrqOff) {
        if self.differs.0 & (Differs::XCR0 | Differs::XSS) != 0 {
            self.load(self.xcr0, self.xss);
        }
    }

    /// Loads the host's XCR0 and XSS.
    #[inline]
    pub fn after_exit(&self, _off: &IrqOff) {
        if self.differs.0 & (Differs::XCR0 | Differs::XSS) != 0 {
            self.load(self.host_xcr0, self.host_xss);
        }
    }

    /// Loads PKRU, which decides what the kernel reaches of userspace: the last
    /// thing before the guest.
    #[inline]
    pub fn before_entry_pkru(&self, _off: &IrqOff) {
        if self.differs.0 & Differs::PKRU != 0 && self.pkru != self.host_pkru {
            // SAFETY: The host has PKU; `after_exit_pkru` puts it back.
            unsafe { write_pkru(self.pkru) };
        }
    }

    /// Keeps the guest's PKRU and loads the host's: the first thing after the
    /// guest.
    #[inline]
    pub fn after_exit_pkru(&mut self, _off: &IrqOff) {
        if self.differs.0 & Differs::PKRU != 0 {
            // SAFETY: The host has PKU.
            self.pkru = unsafe { read_pkru() };
            if self.pkru != self.host_pkru {
                // SAFETY: As above.
                unsafe { write_pkru(self.host_pkru) };
            }
        }
    }

    #[cold]
    fn load(&self, xcr0: u64, xss: u64) {
        if self.differs.0 & Differs::XCR0 != 0 {
            // SAFETY: Valid on this host, by the invariants; between entry and
            // exit nothing in the kernel uses what it disables.
            unsafe { xsetbv(xcr0) };
        }
        if self.differs.0 & Differs::XSS != 0 {
            // SAFETY: The host's value, or nothing; no XSAVES comes between entry
            // and exit.
            unsafe { write_msr(MSR_XSS, xss) };
        }
    }

    fn compare(&mut self) {
        let mut differs = 0;
        if self.osxsave && self.xcr0 != self.host_xcr0 {
            differs |= Differs::XCR0;
        }
        if self.osxsave && self.xsaves && self.xss != self.host_xss {
            differs |= Differs::XSS;
        }
        if self.host_has_pku && (self.pke || self.xcr0 & PKRU != 0) {
            differs |= Differs::PKRU;
        }
        self.differs = Differs(differs);
    }
}

impl Default for ExtendedControls {
    fn default() -> Self {
        Self::new()
    }
}

/// XCR0 of the host, the same on every CPU; 0 without XSAVE.
fn host_xcr0() -> u64 {
    if !has_feature(own::X86_FEATURE_OSXSAVE) {
        return 0;
    }
    let (low, high): (u32, u32);
    // SAFETY: The kernel enabled XSAVE.
    unsafe {
        asm!(
            "xgetbv",
            in("ecx") 0, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags),
        );
    }
    u64::from(high) << 32 | u64::from(low)
}

/// # Safety
///
/// The value is valid, and nobody uses what it disables.
unsafe fn xsetbv(value: u64) {
    // SAFETY: By the contract.
    unsafe {
        asm!(
            "xsetbv",
            in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags),
        );
    }
}

/// # Safety
///
/// CR4.PKE is set.
#[inline]
unsafe fn read_pkru() -> u32 {
    let pkru;
    // SAFETY: By the contract.
    unsafe {
        asm!(
            "rdpkru",
            in("ecx") 0, out("eax") pkru, out("edx") _,
            options(nomem, nostack, preserves_flags),
        );
    }
    pkru
}

/// # Safety
///
/// CR4.PKE is set. What the new value forbids isn't used.
#[inline]
unsafe fn write_pkru(value: u32) {
    // SAFETY: By the contract.
    unsafe {
        asm!(
            "wrpkru",
            in("ecx") 0, in("eax") value, in("edx") 0,
            options(nostack, preserves_flags),
        );
    }
}
