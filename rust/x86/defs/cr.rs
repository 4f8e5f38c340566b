// SPDX-License-Identifier: GPL-2.0
//! Control registers CR0, CR3 and CR4.
//!
//! Intel SDM volume 3 section 2.5, AMD APM volume 2 section 3.1.

use bitflags::bitflags;

/// CR0: operating mode and caching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cr0(u64);

bitflags! {
    impl Cr0: u64 {
        /// Protection enable.
        const PE = 1;
        /// Monitor coprocessor: WAIT honours TS.
        const MP = 1 << 1;
        /// Emulation: x87 instructions raise #NM.
        const EM = 1 << 2;
        /// Task switched: FPU and SSE instructions raise #NM.
        const TS = 1 << 3;
        /// Extension type, hard-wired to one.
        const ET = 1 << 4;
        /// Numeric error: x87 errors raise #MF.
        const NE = 1 << 5;
        /// Write protect: supervisor writes honour read-only pages.
        const WP = 1 << 16;
        /// Alignment mask: RFLAGS.AC checks alignment at CPL 3.
        const AM = 1 << 18;
        /// Not write-through.
        const NW = 1 << 29;
        /// Cache disable.
        const CD = 1 << 30;
        /// Paging.
        const PG = 1 << 31;
    }
}

/// CR3: fields by mask, since their meaning depends on CR4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cr3(pub u64);

impl Cr3 {
    /// Page-level write-through of the root table.
    pub const PWT: u64 = 1 << 3;
    /// Page-level cache disable of the root table.
    pub const PCD: u64 = 1 << 4;
    /// The process-context identifier when CR4.PCIDE is set.
    pub const PCID_MASK: u64 = 0xfff;
    /// Linear-address masking of 57-bit user pointers.
    pub const LAM_U57: u64 = 1 << 61;
    /// Linear-address masking of 48-bit user pointers.
    pub const LAM_U48: u64 = 1 << 62;
    /// Written value only: keep the TLB entries of the new PCID.
    pub const NO_FLUSH: u64 = 1 << 63;
}

/// CR4: architectural extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cr4(u64);

bitflags! {
    impl Cr4: u64 {
        /// Virtual-8086 mode extensions.
        const VME = 1;
        /// Protected-mode virtual interrupts.
        const PVI = 1 << 1;
        /// RDTSC and RDTSCP only at CPL 0.
        const TSD = 1 << 2;
        /// Debugging extensions: DR4 and DR5 are undefined.
        const DE = 1 << 3;
        /// Page-size extensions (4 MiB pages).
        const PSE = 1 << 4;
        /// Physical-address extension.
        const PAE = 1 << 5;
        /// Machine-check enable.
        const MCE = 1 << 6;
        /// Global pages.
        const PGE = 1 << 7;
        /// RDPMC at any privilege level.
        const PCE = 1 << 8;
        /// FXSAVE and SSE enabled.
        const OSFXSR = 1 << 9;
        /// Unmasked SIMD exceptions raise #XM.
        const OSXMMEXCPT = 1 << 10;
        /// User-mode instruction prevention (SGDT and friends).
        const UMIP = 1 << 11;
        /// 57-bit linear addresses.
        const LA57 = 1 << 12;
        /// VMX enable.
        const VMXE = 1 << 13;
        /// SMX enable.
        const SMXE = 1 << 14;
        /// RDFSBASE and friends enabled.
        const FSGSBASE = 1 << 16;
        /// Process-context identifiers.
        const PCIDE = 1 << 17;
        /// XSAVE and XCR0 enabled.
        const OSXSAVE = 1 << 18;
        /// Supervisor-mode execution prevention.
        const SMEP = 1 << 20;
        /// Supervisor-mode access prevention.
        const SMAP = 1 << 21;
        /// Protection keys for user pages.
        const PKE = 1 << 22;
        /// Control-flow enforcement.
        const CET = 1 << 23;
        /// Protection keys for supervisor pages.
        const PKS = 1 << 24;
        /// User interrupts.
        const UINTR = 1 << 25;
        /// Linear-address masking of supervisor pointers.
        const LAM_SUP = 1 << 28;
    }
}
