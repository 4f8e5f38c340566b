// SPDX-License-Identifier: GPL-2.0
//! Why a guest stopped (appendix C), and what the exit qualification says (28.2.1).

use bitflags::bitflags;

/// The exit-reason field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Reason(pub u32);

impl Reason {
    /// The guest never ran: the processor didn't accept its state.
    #[inline]
    pub const fn is_failed_entry(self) -> bool {
        self.0 >> 31 != 0
    }

    /// The reason itself.
    #[inline(always)]
    pub const fn exit(self) -> Exit {
        Exit::from_number(self.0 as u16)
    }

    /// Whether it is an instruction that is mostly done by whoever handles the exit, so that the guest
    /// goes on behind it.
    #[inline]
    pub const fn is_instruction(self) -> bool {
        /// CPUID, HLT, VMCALL, moves to and from CRs and DRs, port accesses, RDMSR, WRMSR, PAUSE, accesses to
        /// the APIC's page and to devices, XSETBV.
        const MASK: u64 =
            1 << 10 | 1 << 12 | 1 << 18 | 0x1f << 28 | 1 << 40 | 1 << 44 | 1 << 49 | 1 << 55;
        self.0 < 64 && 1_u64.wrapping_shl(self.0) & MASK != 0
    }
}

macro_rules! exits {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// The reason of an exit.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Exit {
            $($(#[$doc])* $name,)*
            /// A number that isn't one of these.
            Other(u16),
        }

        impl Exit {
            /// The reason with a number.
            #[inline(always)]
            pub const fn from_number(number: u16) -> Self {
                match number {
                    $($number => Self::$name,)*
                    _ => Self::Other(number),
                }
            }
        }
    };
}

exits! {
    /// An exception, or an NMI for the host.
    ExceptionOrNmi = 0,
    /// An interrupt for the host.
    Interrupt = 1,
    /// A triple fault.
    TripleFault = 2,
    /// An INIT signal.
    Init = 3,
    /// A start-up message.
    Startup = 4,
    /// The guest can take an interrupt.
    InterruptWindow = 7,
    /// The guest can take an NMI.
    NmiWindow = 8,
    /// A task switch.
    TaskSwitch = 9,
    /// CPUID.
    Cpuid = 10,
    /// GETSEC.
    Getsec = 11,
    /// HLT.
    Hlt = 12,
    /// INVD.
    Invd = 13,
    /// INVLPG.
    Invlpg = 14,
    /// RDPMC.
    Rdpmc = 15,
    /// RDTSC.
    Rdtsc = 16,
    /// VMCALL.
    Vmcall = 18,
    /// VMCLEAR.
    Vmclear = 19,
    /// VMLAUNCH.
    Vmlaunch = 20,
    /// VMPTRLD.
    Vmptrld = 21,
    /// VMPTRST.
    Vmptrst = 22,
    /// VMREAD.
    Vmread = 23,
    /// VMRESUME.
    Vmresume = 24,
    /// VMWRITE.
    Vmwrite = 25,
    /// VMXOFF.
    Vmxoff = 26,
    /// VMXON.
    Vmxon = 27,
    /// An access to CR0, CR3, CR4 or CR8.
    ControlRegister = 28,
    /// An access to a debug register.
    DebugRegister = 29,
    /// IN, OUT, INS or OUTS.
    Io = 30,
    /// RDMSR.
    Rdmsr = 31,
    /// WRMSR.
    Wrmsr = 32,
    /// The guest's state isn't what an entry accepts.
    InvalidState = 33,
    /// An MSR of the entry's list can't be loaded.
    MsrLoading = 34,
    /// MWAIT.
    Mwait = 36,
    /// An instruction was executed with the monitor trap flag on.
    MonitorTrap = 37,
    /// MONITOR.
    Monitor = 39,
    /// PAUSE, alone or in a loop.
    Pause = 40,
    /// A machine check while the guest was entered.
    MachineCheckOnEntry = 41,
    /// The task priority fell below the threshold.
    TprBelowThreshold = 43,
    /// An access to the APIC's page.
    ApicAccess = 44,
    /// The end of an interrupt that others wait for.
    VirtualizedEoi = 45,
    /// LGDT, LIDT, SGDT or SIDT.
    GdtrIdtr = 46,
    /// LLDT, LTR, SLDT or STR.
    LdtrTr = 47,
    /// An access that the EPT doesn't allow.
    EptViolation = 48,
    /// An EPT entry that isn't well-formed: an MMIO mark.
    EptMisconfiguration = 49,
    /// INVEPT.
    Invept = 50,
    /// RDTSCP.
    Rdtscp = 51,
    /// The preemption timer ran down.
    PreemptionTimer = 52,
    /// INVVPID.
    Invvpid = 53,
    /// WBINVD or WBNOINVD.
    Wbinvd = 54,
    /// XSETBV.
    Xsetbv = 55,
    /// RDRAND.
    Rdrand = 57,
    /// INVPCID.
    Invpcid = 58,
    /// VMFUNC.
    Vmfunc = 59,
    /// ENCLS.
    Encls = 60,
    /// RDSEED.
    Rdseed = 61,
    /// The log of modified pages is full.
    PmlFull = 62,
    /// XSAVES.
    Xsaves = 63,
    /// XRSTORS.
    Xrstors = 64,
    /// UMWAIT.
    Umwait = 67,
    /// TPAUSE.
    Tpause = 68,
}

/// Qualification of [`Exit::Io`] (table 28-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoAccess(pub u64);

impl IoAccess {
    /// Bytes of one access: 1, 2 or 4.
    pub const fn size(self) -> u8 {
        ((self.0 & 7) as u8).wrapping_add(1)
    }

    /// IN or INS.
    pub const fn is_in(self) -> bool {
        self.0 & 1 << 3 != 0
    }

    /// INS or OUTS.
    pub const fn is_string(self) -> bool {
        self.0 & 1 << 4 != 0
    }

    /// Port number.
    pub const fn port(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// Qualification of [`Exit::ControlRegister`] (table 28-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrAccess {
    /// MOV to a control register.
    Write {
        /// The control register.
        cr: u8,
        /// The general register.
        gpr: u8,
    },
    /// MOV from a control register.
    Read {
        /// The control register.
        cr: u8,
        /// The general register.
        gpr: u8,
    },
    /// CLTS.
    Clts,
    /// LMSW.
    Lmsw,
}

impl CrAccess {
    /// The access that a qualification tells of.
    pub const fn from_qualification(qualification: u64) -> Self {
        let cr = (qualification & 0xf) as u8;
        let gpr = (qualification >> 8 & 0xf) as u8;
        match qualification >> 4 & 3 {
            0 => Self::Write { cr, gpr },
            1 => Self::Read { cr, gpr },
            2 => Self::Clts,
            _ => Self::Lmsw,
        }
    }
}

/// Qualification of [`Exit::TaskSwitch`] (table 28-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskSwitch(pub u64);

impl TaskSwitch {
    /// Selector of the new task's TSS.
    pub const fn selector(self) -> u16 {
        self.0 as u16
    }

    /// By IRET.
    pub const fn is_iret(self) -> bool {
        self.0 >> 30 & 3 == 1
    }

    /// By JMP.
    pub const fn is_jmp(self) -> bool {
        self.0 >> 30 & 3 == 2
    }
}

/// Qualification of [`Exit::EptViolation`] (table 28-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EptViolation(u64);

bitflags! {
    impl EptViolation: u64 {
        /// A read.
        const READ = 1 << 0;
        /// A write.
        const WRITE = 1 << 1;
        /// An instruction fetch.
        const FETCH = 1 << 2;
        /// The EPT would have allowed a read.
        const READABLE = 1 << 3;
        /// There is a linear address.
        const LINEAR = 1 << 7;
        /// At the address that the linear one led to, not in the guest's tables.
        const FINAL = 1 << 8;
        /// An IRET that had unblocked NMIs.
        const NMI_UNBLOCKED = 1 << 12;
    }
}

/// Qualification of [`Exit::ApicAccess`] (table 28-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicAccess(pub u64);

/// Whose access to the APIC's page it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicAccessKind {
    /// An instruction reads.
    Read,
    /// An instruction writes.
    Write,
    /// An instruction is fetched.
    Fetch,
    /// The delivery of an event reads or writes.
    Delivery,
    /// The processor itself: it reads the guest's tables, or traces. Where in the page isn't
    /// known.
    Other,
}

impl ApicAccess {
    /// Offset in the page.
    #[inline]
    pub const fn offset(self) -> u16 {
        (self.0 & 0xfff) as u16
    }

    /// Whose access it is.
    #[inline]
    pub const fn kind(self) -> ApicAccessKind {
        match self.0 >> 12 & 0x1f {
            0 => ApicAccessKind::Read,
            1 => ApicAccessKind::Write,
            2 => ApicAccessKind::Fetch,
            3 => ApicAccessKind::Delivery,
            // 10 and 15, or asynchronous (bit 16).
            _ => ApicAccessKind::Other,
        }
    }
}

/// Qualification of an exit by #DB: what DR6 would say (table 28-1).
pub const DEBUG_CAUSES: u64 = 0xf | 1 << 11 | 1 << 13 | 1 << 14 | 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_manual() {
        for (number, exit) in [
            (0, Exit::ExceptionOrNmi),
            (10, Exit::Cpuid),
            (28, Exit::ControlRegister),
            (48, Exit::EptViolation),
            (49, Exit::EptMisconfiguration),
            (55, Exit::Xsetbv),
            (35, Exit::Other(35)),
            (1000, Exit::Other(1000)),
        ] {
            assert_eq!(Exit::from_number(number), exit);
        }
        for number in [10, 12, 18, 28, 29, 30, 31, 32, 40, 44, 49, 55] {
            assert!(Reason(number).is_instruction());
        }
        for number in [0, 1, 7, 33, 48, 52, 63, 64, 74, 1 << 31 | 10] {
            assert!(!Reason(number).is_instruction());
        }
        let failed = Reason(1 << 31 | 33);
        assert!(failed.is_failed_entry());
        assert_eq!(failed.exit(), Exit::InvalidState);
        assert!(!Reason(12).is_failed_entry());
    }

    #[test]
    fn port_accesses() {
        // OUT 0x80, AL
        let out = IoAccess(0x0080_0040);
        assert_eq!((out.is_in(), out.size(), out.port()), (false, 1, 0x80));
        assert!(!out.is_string());
        // REP INSD from 0x1f0
        let ins = IoAccess(0x01f0_003b);
        assert_eq!((ins.is_in(), ins.size(), ins.port()), (true, 4, 0x1f0));
        assert!(ins.is_string());
    }

    #[test]
    fn accesses_to_the_apic() {
        assert_eq!(ApicAccess(0x10b0).offset(), 0xb0);
        for (qualification, kind) in [
            (0x0080, ApicAccessKind::Read),
            (0x10b0, ApicAccessKind::Write),
            (0x2000, ApicAccessKind::Fetch),
            (0x3ff8, ApicAccessKind::Delivery),
            (0xa000, ApicAccessKind::Other),
            (0xf000, ApicAccessKind::Other),
            (0x1_1000, ApicAccessKind::Other),
        ] {
            assert_eq!(ApicAccess(qualification).kind(), kind, "{qualification:#x}");
        }
    }

    #[test]
    fn control_register_accesses() {
        // MOV CR4, R11 and MOV RBX, CR8
        assert_eq!(CrAccess::from_qualification(0xb04), CrAccess::Write { cr: 4, gpr: 11 });
        assert_eq!(CrAccess::from_qualification(0x318), CrAccess::Read { cr: 8, gpr: 3 });
        assert_eq!(CrAccess::from_qualification(0x20), CrAccess::Clts);
        assert_eq!(CrAccess::from_qualification(0x1_0030), CrAccess::Lmsw);
    }

    #[test]
    fn task_switches() {
        let call = TaskSwitch(0x28);
        assert_eq!((call.selector(), call.is_iret(), call.is_jmp()), (0x28, false, false));
        assert!(TaskSwitch(1 << 30 | 8).is_iret());
        assert!(TaskSwitch(2 << 30 | 8).is_jmp());
        assert!(!TaskSwitch(3 << 30 | 8).is_jmp() && !TaskSwitch(3 << 30 | 8).is_iret());
    }
}
