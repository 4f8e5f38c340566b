// SPDX-License-Identifier: GPL-2.0
//! Control fields (25.6 to 25.8), and the values that a processor allows (appendix A).

use bitflags::bitflags;

/// Pin-based controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin(u32);

bitflags! {
    impl Pin: u32 {
        /// External interrupts exit.
        const INTERRUPTS = 1 << 0;
        /// NMIs exit.
        const NMIS = 1 << 3;
        /// The guest has NMI blocking of its own.
        const VIRTUAL_NMIS = 1 << 5;
        /// A timer that exits.
        const PREEMPTION_TIMER = 1 << 6;
        /// Interrupts delivered without an exit.
        const POSTED_INTERRUPTS = 1 << 7;
    }
}

/// Primary processor-based controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Primary(u32);

bitflags! {
    impl Primary: u32 {
        /// Exit when the guest can take an interrupt.
        const INTERRUPT_WINDOW = 1 << 2;
        /// The TSC has an offset.
        const TSC_OFFSET = 1 << 3;
        /// HLT exits.
        const HLT = 1 << 7;
        /// INVLPG exits.
        const INVLPG = 1 << 9;
        /// MWAIT exits.
        const MWAIT = 1 << 10;
        /// RDPMC exits.
        const RDPMC = 1 << 11;
        /// RDTSC exits.
        const RDTSC = 1 << 12;
        /// Writes of CR3 exit.
        const CR3_LOAD = 1 << 15;
        /// Reads of CR3 exit.
        const CR3_STORE = 1 << 16;
        /// Writes of CR8 exit.
        const CR8_LOAD = 1 << 19;
        /// Reads of CR8 exit.
        const CR8_STORE = 1 << 20;
        /// CR8 is that of the virtual-APIC page.
        const TPR_SHADOW = 1 << 21;
        /// Exit when the guest can take an NMI.
        const NMI_WINDOW = 1 << 22;
        /// Accesses to debug registers exit.
        const MOV_DR = 1 << 23;
        /// All port accesses exit.
        const IO = 1 << 24;
        /// Each instruction exits.
        const MONITOR_TRAP = 1 << 27;
        /// The MSR bitmap says which MSRs exit.
        const MSR_BITMAP = 1 << 28;
        /// MONITOR exits.
        const MONITOR = 1 << 29;
        /// PAUSE exits.
        const PAUSE = 1 << 30;
        /// There are secondary controls.
        const SECONDARY = 1 << 31;
    }
}

/// Secondary processor-based controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secondary(u32);

bitflags! {
    impl Secondary: u32 {
        /// Accesses to the APIC's page are virtualized.
        const VIRTUALIZE_APIC = 1 << 0;
        /// Extended page tables.
        const EPT = 1 << 1;
        /// RDTSCP and RDPID exist.
        const RDTSCP = 1 << 3;
        /// Virtual processor identifiers.
        const VPID = 1 << 5;
        /// WBINVD exits.
        const WBINVD = 1 << 6;
        /// Guests without paging or protection.
        const UNRESTRICTED_GUEST = 1 << 7;
        /// PAUSE-loop exiting.
        const PAUSE_LOOP = 1 << 10;
        /// INVPCID exists.
        const INVPCID = 1 << 12;
        /// ENCLS leaves exit.
        const ENCLS = 1 << 15;
        /// Page-modification logging.
        const PML = 1 << 17;
        /// XSAVES and XRSTORS exist.
        const XSAVES = 1 << 20;
        /// TSC scaling.
        const TSC_SCALING = 1 << 25;
    }
}

/// Exit controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(u32);

bitflags! {
    impl Exit: u32 {
        /// DR7 and IA32_DEBUGCTL are saved.
        const SAVE_DEBUG = 1 << 2;
        /// The host is in 64-bit mode.
        const HOST_64 = 1 << 9;
        /// The interrupt that exits is acknowledged, and its vector told.
        const ACK_INTERRUPT = 1 << 15;
        /// The host's PAT is loaded.
        const LOAD_PAT = 1 << 19;
        /// The host's EFER is loaded.
        const LOAD_EFER = 1 << 21;
    }
}

/// Entry controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(u32);

bitflags! {
    impl Entry: u32 {
        /// DR7 and IA32_DEBUGCTL are loaded.
        const LOAD_DEBUG = 1 << 2;
        /// The guest is in long mode.
        const LONG_MODE = 1 << 9;
        /// The guest's PAT is loaded.
        const LOAD_PAT = 1 << 14;
        /// The guest's EFER is loaded.
        const LOAD_EFER = 1 << 15;
    }
}

/// Which values a processor allows for a control field: the capability MSR's low half has the
/// bits that must be 1, its high half those that may be (A.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed(pub u64);

impl Allowed {
    /// Bits that may be 1.
    pub const fn may_be_set(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// A value with all of `required`, and as much as there is of `optional`; the required bits
    /// that there aren't otherwise.
    pub const fn choose(self, required: u32, optional: u32) -> Result<u32, u32> {
        let lacking = required & !self.may_be_set();
        if lacking != 0 {
            return Err(lacking);
        }
        Ok((self.0 as u32 | required | optional) & self.may_be_set())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_what_must_be_and_what_may_be() {
        let allowed = Allowed(0x16 | 0xff << 32);
        assert_eq!(allowed.choose(1, 0x188), Ok(0x9f));
        assert_eq!(allowed.choose(0x101, 0), Err(0x100));
    }
}
