// SPDX-License-Identifier: GPL-2.0
//! VMCS fields (appendix B) and those that software keeps copies of ([`Slot`]).

/// How wide a field is (25.11.2). A VMREAD gives 64 bits in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 16 bits.
    W16,
    /// 64 bits.
    W64,
    /// 32 bits.
    W32,
    /// As wide as a register.
    Natural,
}

/// The encoding of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Field(u32);

impl Field {
    /// What VMREAD and VMWRITE take.
    #[inline]
    pub const fn encoding(self) -> u32 {
        self.0
    }

    /// Bits 13 and 14 of the encoding.
    pub const fn width(self) -> Width {
        match self.0 >> 13 & 3 {
            0 => Width::W16,
            1 => Width::W64,
            2 => Width::W32,
            _ => Width::Natural,
        }
    }

    /// Bits 10 and 11 say that it only tells of an exit: most processors can't write it.
    pub const fn is_read_only(self) -> bool {
        self.0 >> 10 & 3 == 1
    }
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $encoding:literal;)*) => {
        impl Field {
            $($(#[$doc])* pub const $name: Self = Self($encoding);)*

            /// What an exit loads, with names.
            pub const HOST: &'static [(&'static str, Self)] = &[$((stringify!($name), Self::$name),)*];
        }
    };
}

fields! {
    /// Host's ES.
    HOST_ES = 0x0c00;
    /// Host's CS.
    HOST_CS = 0x0c02;
    /// Host's SS.
    HOST_SS = 0x0c04;
    /// Host's DS.
    HOST_DS = 0x0c06;
    /// Host's FS.
    HOST_FS = 0x0c08;
    /// Host's GS.
    HOST_GS = 0x0c0a;
    /// Host's TR.
    HOST_TR = 0x0c0c;
    /// Host's IA32_PAT.
    HOST_PAT = 0x2c00;
    /// Host's EFER.
    HOST_EFER = 0x2c02;
    /// Host's IA32_SYSENTER_CS.
    HOST_SYSENTER_CS = 0x4c00;
    /// Host's CR0.
    HOST_CR0 = 0x6c00;
    /// Host's CR3.
    HOST_CR3 = 0x6c02;
    /// Host's CR4.
    HOST_CR4 = 0x6c04;
    /// Host's FS base.
    HOST_FS_BASE = 0x6c06;
    /// Host's GS base.
    HOST_GS_BASE = 0x6c08;
    /// Host's TR base.
    HOST_TR_BASE = 0x6c0a;
    /// Host's GDTR base.
    HOST_GDTR_BASE = 0x6c0c;
    /// Host's IDTR base.
    HOST_IDTR_BASE = 0x6c0e;
    /// Host's IA32_SYSENTER_ESP.
    HOST_SYSENTER_ESP = 0x6c10;
    /// Host's IA32_SYSENTER_EIP.
    HOST_SYSENTER_EIP = 0x6c12;
    /// Stack pointer after an exit.
    HOST_RSP = 0x6c14;
    /// Where an exit goes.
    HOST_RIP = 0x6c16;
}

macro_rules! slots {
    ($($(#[$doc:meta])* $name:ident = $encoding:literal,)*) => {
        /// A field with a copy in memory. They come in three groups: the state that
        /// a running guest changes, from [`Slot::CONTROL`] on what only software changes,
        /// and from [`Slot::EXIT`] on what an exit tells.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Slot {
            $($(#[$doc])* $name,)*
        }

        const ENCODINGS: &[u32] = &[$($encoding,)*];
        const ALL: &[Slot] = &[$(Slot::$name,)*];
    };
}

slots! {
    /// ES selector; those of CS, SS, DS, FS, GS, LDTR, TR follow.
    Selector0 = 0x0800,
    /// CS selector.
    Selector1 = 0x0802,
    /// SS selector.
    Selector2 = 0x0804,
    /// DS selector.
    Selector3 = 0x0806,
    /// FS selector.
    Selector4 = 0x0808,
    /// GS selector.
    Selector5 = 0x080a,
    /// LDTR selector.
    Selector6 = 0x080c,
    /// TR selector.
    Selector7 = 0x080e,
    /// ES base; the others follow in the same order.
    Base0 = 0x6806,
    /// CS base.
    Base1 = 0x6808,
    /// SS base.
    Base2 = 0x680a,
    /// DS base.
    Base3 = 0x680c,
    /// FS base.
    Base4 = 0x680e,
    /// GS base.
    Base5 = 0x6810,
    /// LDTR base.
    Base6 = 0x6812,
    /// TR base.
    Base7 = 0x6814,
    /// ES limit; the others follow in the same order.
    Limit0 = 0x4800,
    /// CS limit.
    Limit1 = 0x4802,
    /// SS limit.
    Limit2 = 0x4804,
    /// DS limit.
    Limit3 = 0x4806,
    /// FS limit.
    Limit4 = 0x4808,
    /// GS limit.
    Limit5 = 0x480a,
    /// LDTR limit.
    Limit6 = 0x480c,
    /// TR limit.
    Limit7 = 0x480e,
    /// ES access rights; the others follow in the same order.
    Rights0 = 0x4814,
    /// CS access rights.
    Rights1 = 0x4816,
    /// SS access rights.
    Rights2 = 0x4818,
    /// DS access rights.
    Rights3 = 0x481a,
    /// FS access rights.
    Rights4 = 0x481c,
    /// GS access rights.
    Rights5 = 0x481e,
    /// LDTR access rights.
    Rights6 = 0x4820,
    /// TR access rights.
    Rights7 = 0x4822,
    /// GDTR base.
    GdtBase = 0x6816,
    /// IDTR base.
    IdtBase = 0x6818,
    /// GDTR limit.
    GdtLimit = 0x4810,
    /// IDTR limit.
    IdtLimit = 0x4812,
    /// CR0, as the guest runs with it.
    Cr0 = 0x6800,
    /// CR3.
    Cr3 = 0x6802,
    /// CR4, as the guest runs with it.
    Cr4 = 0x6804,
    /// DR7.
    Dr7 = 0x681a,
    /// RSP.
    Rsp = 0x681c,
    /// RIP.
    Rip = 0x681e,
    /// RFLAGS.
    Rflags = 0x6820,
    /// Debug exceptions that wait for the end of an instruction.
    PendingDebug = 0x6822,
    /// What is blocked: [`Interruptibility`](crate::event::Interruptibility).
    Interruptibility = 0x4824,
    /// IA32_SYSENTER_CS.
    SysenterCs = 0x482a,
    /// IA32_SYSENTER_ESP.
    SysenterEsp = 0x6824,
    /// IA32_SYSENTER_EIP.
    SysenterEip = 0x6826,
    /// IA32_DEBUGCTL.
    DebugCtl = 0x2802,
    /// Page-directory pointers of PAE paging.
    Pdpte0 = 0x280a,
    /// The second one.
    Pdpte1 = 0x280c,
    /// The third one.
    Pdpte2 = 0x280e,
    /// The fourth one.
    Pdpte3 = 0x2810,
    /// Where the next entry of the page-modification log goes, from the end.
    PmlIndex = 0x0812,

    /// IA32_PAT.
    Pat = 0x2804,
    /// EFER.
    Efer = 0x2806,
    /// Shadow VMCS; there is none.
    LinkPointer = 0x2800,
    /// CR0 as the guest reads it.
    Cr0Shadow = 0x6004,
    /// CR4 as the guest reads it.
    Cr4Shadow = 0x6006,
    /// Bits of CR0 that aren't the guest's.
    Cr0Mask = 0x6000,
    /// Bits of CR4 that aren't the guest's.
    Cr4Mask = 0x6002,
    /// Pin-based controls.
    Pin = 0x4000,
    /// Primary processor-based controls.
    Primary = 0x4002,
    /// Secondary processor-based controls.
    Secondary = 0x401e,
    /// Exit controls.
    ExitControls = 0x400c,
    /// Entry controls.
    EntryControls = 0x4012,
    /// Exceptions that exit.
    ExceptionBitmap = 0x4004,
    /// Page faults that exit: mask.
    PageFaultMask = 0x4006,
    /// Page faults that exit: match.
    PageFaultMatch = 0x4008,
    /// Values of CR3 that don't exit.
    Cr3Targets = 0x400a,
    /// MSRs stored on exit.
    ExitStoreCount = 0x400e,
    /// MSRs loaded on exit.
    ExitLoadCount = 0x4010,
    /// MSRs loaded on entry.
    EntryLoadCount = 0x4014,
    /// The event that an entry delivers.
    EntryInfo = 0x4016,
    /// Its error code.
    EntryErrorCode = 0x4018,
    /// Bytes of the instruction that raised it.
    EntryInstructionLength = 0x401a,
    /// A task priority below this exits.
    TprThreshold = 0x401c,
    /// Added to the TSC.
    TscOffset = 0x2010,
    /// Address of the MSR bitmap.
    MsrBitmap = 0x2004,
    /// Address of the virtual-APIC page.
    VirtualApic = 0x2012,
    /// Address of the APIC-access page.
    ApicAccess = 0x2014,
    /// Address of the page-modification log.
    PmlAddress = 0x200e,
    /// The EPT pointer.
    EptPointer = 0x201a,
    /// Virtual-processor identifier.
    Vpid = 0x0000,
    /// PAUSE-loop exiting: most cycles between two of one loop.
    PleGap = 0x4020,
    /// PAUSE-loop exiting: cycles that a loop may take.
    PleWindow = 0x4022,
    /// Components of XSS whose use exits.
    XssExits = 0x202c,
    /// ENCLS leaves that exit.
    EnclsExits = 0x202e,
    /// Whether it executes instructions: 0.
    Activity = 0x4826,
    /// What the preemption timer counts down from.
    TimerValue = 0x482e,

    /// Why the guest stopped.
    ExitReason = 0x4402,
    /// More about that, by reason.
    Qualification = 0x6400,
    /// The event that exited.
    ExitInfo = 0x4404,
    /// Its error code.
    ExitErrorCode = 0x4406,
    /// The event whose delivery was interrupted.
    VectoringInfo = 0x4408,
    /// Its error code.
    VectoringErrorCode = 0x440a,
    /// Bytes of the instruction that exited, or raised the event.
    InstructionLength = 0x440c,
    /// The guest physical address of an EPT violation or misconfiguration.
    GuestPhysical = 0x2400,
    /// Why the last VMX instruction failed.
    InstructionError = 0x4400,
}

impl Slot {
    /// Number of slots.
    pub const COUNT: usize = ENCODINGS.len();
    /// First slot of what only software changes.
    pub const CONTROL: usize = Self::Pat as usize;
    /// First slot of what an exit tells.
    pub const EXIT: usize = Self::ExitReason as usize;

    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.iter().copied()
    }

    /// The field.
    #[inline]
    pub const fn field(self) -> Field {
        // A discriminant is in range.
        match Self::field_at(self as usize) {
            Some(field) => field,
            None => Field(0),
        }
    }

    /// The field of a slot by number.
    #[inline]
    pub const fn field_at(index: usize) -> Option<Field> {
        if index < ENCODINGS.len() {
            #[allow(clippy::indexing_slicing, reason = "checked above, and `get` isn't const")]
            return Some(Field(ENCODINGS[index]));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_in_order_and_distinct() {
        for (index, slot) in ALL.iter().enumerate() {
            assert_eq!(*slot as usize, index);
            assert_eq!(Slot::field_at(index), Some(slot.field()));
            let same = ALL.iter().filter(|other| other.field() == slot.field()).count();
            assert_eq!(same, 1, "{slot:?}");
        }
        assert_eq!(Slot::field_at(Slot::COUNT), None);
    }

    #[test]
    fn what_an_exit_tells_is_read_only() {
        for (index, slot) in ALL.iter().enumerate() {
            assert_eq!(slot.field().is_read_only(), index >= Slot::EXIT, "{slot:?}");
        }
    }

    #[test]
    fn widths() {
        for (slot, width) in [
            (Slot::Selector1, Width::W16),
            (Slot::Rights7, Width::W32),
            (Slot::TscOffset, Width::W64),
            (Slot::Rip, Width::Natural),
        ] {
            assert_eq!(slot.field().width(), width);
        }
        assert_eq!(Field::HOST_RIP.width(), Width::Natural);
    }
}
