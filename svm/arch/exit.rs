// SPDX-License-Identifier: GPL-2.0
//! Why a guest stopped (APM vol. 2, appendix C), and what the two information
//! words say (15.8 to 15.14, 15.25.6).

use bitflags::bitflags;

/// The reason of a #VMEXIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Read of control register 0 to 15.
    ReadCr(u8),
    /// Write of control register 0 to 15.
    WriteCr(u8),
    /// Read of debug register 0 to 15.
    ReadDr(u8),
    /// Write of debug register 0 to 15.
    WriteDr(u8),
    /// Exception with this vector, 0 to 31.
    Exception(u8),
    /// A physical interrupt for the host.
    Interrupt,
    /// A physical NMI for the host.
    Nmi,
    /// A physical SMI.
    Smi,
    /// A physical INIT.
    Init,
    /// The guest can take a virtual interrupt.
    InterruptWindow,
    /// Write of CR0 that changes more than TS and MP.
    WriteCr0Selective,
    /// SIDT, SGDT, SLDT, STR, LIDT, LGDT, LLDT, LTR, in this order.
    DescriptorTable(u8),
    /// RDTSC.
    Rdtsc,
    /// RDPMC.
    Rdpmc,
    /// PUSHF.
    Pushf,
    /// POPF.
    Popf,
    /// CPUID.
    Cpuid,
    /// RSM.
    Rsm,
    /// IRET.
    Iret,
    /// INT n.
    SoftwareInterrupt,
    /// INVD.
    Invd,
    /// PAUSE, after the filter.
    Pause,
    /// HLT.
    Hlt,
    /// INVLPG.
    Invlpg,
    /// INVLPGA.
    Invlpga,
    /// IN, OUT, INS or OUTS.
    Io,
    /// RDMSR or WRMSR.
    Msr,
    /// A task switch.
    TaskSwitch,
    /// The FERR signal of a legacy x87 error.
    FerrFreeze,
    /// Triple fault, or another shutdown.
    Shutdown,
    /// VMRUN, VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT, in this order.
    Svm(u8),
    /// RDTSCP.
    Rdtscp,
    /// ICEBP.
    Icebp,
    /// WBINVD or WBNOINVD.
    Wbinvd,
    /// MONITOR or MONITORX.
    Monitor,
    /// MWAIT or MWAITX.
    Mwait,
    /// MWAIT or MWAITX with the monitor armed.
    MwaitArmed,
    /// XSETBV.
    Xsetbv,
    /// RDPRU.
    Rdpru,
    /// Write of EFER, after it happened.
    EferWriteTrap,
    /// Write of control register 0 to 15, after it happened.
    CrWriteTrap(u8),
    /// A nested page fault.
    NestedPageFault,
    /// AVIC: an IPI that couldn't be delivered.
    AvicIncompleteIpi,
    /// AVIC: access to a register that isn't accelerated.
    AvicNoAcceleration,
    /// VMGEXIT.
    Vmgexit,
    /// The VMCB isn't what VMRUN accepts.
    Invalid,
    /// VMRUN was refused because the guest's VMSA page is in use.
    Busy,
    /// A code that the manual doesn't define.
    Unknown(u64),
}

impl Exit {
    /// The code of [`Self::InterruptWindow`].
    pub const INTERRUPT_WINDOW: u64 = 0x64;
    /// The code of [`Self::Cpuid`].
    pub const CPUID: u64 = 0x72;
    /// The code of [`Self::Invd`].
    pub const INVD: u64 = 0x76;
    /// The code of [`Self::Pause`].
    pub const PAUSE: u64 = 0x77;
    /// The code of [`Self::Io`].
    pub const IO: u64 = 0x7b;
    /// The code of [`Self::Msr`].
    pub const MSR: u64 = 0x7c;
    /// The code of VMMCALL.
    pub const VMMCALL: u64 = 0x81;
    /// The code of [`Self::Wbinvd`].
    pub const WBINVD: u64 = 0x89;
    /// The code of [`Self::NestedPageFault`].
    pub const NESTED_PAGE_FAULT: u64 = 0x400;

    /// The reason that a code stands for.
    pub const fn from_code(code: u64) -> Self {
        // Four ranges of 16 numbered registers, then one of exceptions.
        let low = (code & 0xf) as u8;
        match code {
            0x00..=0x0f => Self::ReadCr(low),
            0x10..=0x1f => Self::WriteCr(low),
            0x20..=0x2f => Self::ReadDr(low),
            0x30..=0x3f => Self::WriteDr(low),
            0x40..=0x5f => Self::Exception((code & 0x1f) as u8),
            0x60..=0x8e => Self::from_instruction(code),
            0x8f => Self::EferWriteTrap,
            0x90..=0x9f => Self::CrWriteTrap(low),
            0x400 => Self::NestedPageFault,
            0x401 => Self::AvicIncompleteIpi,
            0x402 => Self::AvicNoAcceleration,
            0x403 => Self::Vmgexit,
            0xffff_ffff_ffff_ffff => Self::Invalid,
            0xffff_ffff_ffff_fffe => Self::Busy,
            _ => Self::Unknown(code),
        }
    }

    /// The codes from 0x60 to 0x8e.
    const fn from_instruction(code: u64) -> Self {
        match code {
            0x60 => Self::Interrupt,
            0x61 => Self::Nmi,
            0x62 => Self::Smi,
            0x63 => Self::Init,
            0x64 => Self::InterruptWindow,
            0x65 => Self::WriteCr0Selective,
            0x66..=0x6d => Self::DescriptorTable(code.wrapping_sub(0x66) as u8),
            0x6e => Self::Rdtsc,
            0x6f => Self::Rdpmc,
            0x70 => Self::Pushf,
            0x71 => Self::Popf,
            0x72 => Self::Cpuid,
            0x73 => Self::Rsm,
            0x74 => Self::Iret,
            0x75 => Self::SoftwareInterrupt,
            0x76 => Self::Invd,
            0x77 => Self::Pause,
            0x78 => Self::Hlt,
            0x79 => Self::Invlpg,
            0x7a => Self::Invlpga,
            0x7b => Self::Io,
            0x7c => Self::Msr,
            0x7d => Self::TaskSwitch,
            0x7e => Self::FerrFreeze,
            0x7f => Self::Shutdown,
            0x80..=0x86 => Self::Svm(code.wrapping_sub(0x80) as u8),
            0x87 => Self::Rdtscp,
            0x88 => Self::Icebp,
            0x89 => Self::Wbinvd,
            0x8a => Self::Monitor,
            0x8b => Self::Mwait,
            0x8c => Self::MwaitArmed,
            0x8d => Self::Xsetbv,
            0x8e => Self::Rdpru,
            _ => Self::Unknown(code),
        }
    }
}

/// EXITINFO1 of [`Exit::Io`] (15.10.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoAccess(pub u32);

impl IoAccess {
    /// IN or INS.
    pub const fn is_in(self) -> bool {
        self.0 & 1 != 0
    }

    /// INS or OUTS.
    pub const fn is_string(self) -> bool {
        self.0 & 1 << 2 != 0
    }

    /// A repeat prefix.
    pub const fn is_repeated(self) -> bool {
        self.0 & 1 << 3 != 0
    }

    /// Bytes of one access: 1, 2 or 4. 0 can't come from a processor.
    pub const fn size(self) -> u8 {
        (self.0 >> 4 & 7) as u8
    }

    /// Port number.
    pub const fn port(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// EXITINFO1 of [`Exit::NestedPageFault`] (15.25.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedFault(u64);

bitflags! {
    impl NestedFault: u64 {
        /// The page was mapped, and the access not allowed.
        const PRESENT = 1 << 0;
        /// A write.
        const WRITE = 1 << 1;
        /// By the guest's user mode; always set for tables.
        const USER = 1 << 2;
        /// A reserved bit in a nested entry: an MMIO mark.
        const RESERVED = 1 << 3;
        /// An instruction fetch.
        const FETCH = 1 << 4;
        /// A shadow-stack access.
        const SHADOW_STACK = 1 << 6;
        /// At the final guest physical address.
        const FINAL = 1 << 32;
        /// While the guest's own page tables were walked.
        const GUEST_TABLE = 1 << 33;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_manual() {
        for (code, exit) in [
            (0x00, Exit::ReadCr(0)),
            (0x18, Exit::WriteCr(8)),
            (0x37, Exit::WriteDr(7)),
            (0x4e, Exit::Exception(14)),
            (0x60, Exit::Interrupt),
            (0x64, Exit::InterruptWindow),
            (0x72, Exit::Cpuid),
            (0x78, Exit::Hlt),
            (0x7b, Exit::Io),
            (0x81, Exit::Svm(1)),
            (0x8d, Exit::Xsetbv),
            (0x400, Exit::NestedPageFault),
            (u64::MAX, Exit::Invalid),
            (0xa0, Exit::Unknown(0xa0)),
            (0x123, Exit::Unknown(0x123)),
        ] {
            assert_eq!(Exit::from_code(code), exit, "{code:#x}");
        }
    }

    #[test]
    fn port_accesses() {
        // OUT 0x80, AL
        let out = IoAccess(0x0080_0010);
        assert_eq!((out.is_in(), out.size(), out.port()), (false, 1, 0x80));
        assert!(!out.is_string() && !out.is_repeated());
        // REP INSD from 0x1f0
        let ins = IoAccess(0x01f0_004d);
        assert_eq!((ins.is_in(), ins.size(), ins.port()), (true, 4, 0x1f0));
        assert!(ins.is_string() && ins.is_repeated());
    }
}
