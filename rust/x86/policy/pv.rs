// SPDX-License-Identifier: GPL-2.0
//! KVM's own CPUID leaves and what their bits promise to a guest.
//!
//! Documentation/virt/kvm/x86/cpuid.rst.

use crate::cpuid::CpuidRegs;
use bitflags::bitflags;

/// The leaf with the signature.
pub const SIGNATURE_LEAF: u32 = 0x4000_0000;
/// The leaf with [`PvFeatures`] in EAX and [`PvHints`] in EDX.
pub const FEATURES_LEAF: u32 = 0x4000_0001;

/// "KVMKVMKVM" in EBX, ECX, EDX.
const SIGNATURE: [u32; 3] = [0x4b4d_564b, 0x564b_4d56, 0x4d];

/// Paravirtual features, EAX of [`FEATURES_LEAF`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PvFeatures(u32);

bitflags! {
    impl PvFeatures: u32 {
        /// kvmclock by MSRs 11h and 12h.
        const CLOCKSOURCE = 1;
        /// No delay is needed between port accesses.
        const NOP_IO_DELAY = 1 << 1;
        /// Page-table hypercalls, long dead.
        const MMU_OP = 1 << 2;
        /// kvmclock by MSRs 4B564D00h and 4B564D01h.
        const CLOCKSOURCE2 = 1 << 3;
        /// Asynchronous page faults.
        const ASYNC_PF = 1 << 4;
        /// Steal time.
        const STEAL_TIME = 1 << 5;
        /// EOI by a bit in memory.
        const PV_EOI = 1 << 6;
        /// Wake-up by hypercall.
        const PV_UNHALT = 1 << 7;
        /// Flushes of TLBs of preempted vCPUs by a bit in memory.
        const PV_TLB_FLUSH = 1 << 9;
        /// Asynchronous page faults as exits to a nested hypervisor.
        const ASYNC_PF_VMEXIT = 1 << 10;
        /// Multicast IPIs by hypercall.
        const PV_SEND_IPI = 1 << 11;
        /// The host's halt polling can be turned off.
        const POLL_CONTROL = 1 << 12;
        /// Yielding to another vCPU by hypercall.
        const PV_SCHED_YIELD = 1 << 13;
        /// "Page is ready" as an interrupt.
        const ASYNC_PF_INT = 1 << 14;
        /// 15-bit destinations in MSIs; set by the VMM.
        const MSI_EXT_DEST_ID = 1 << 15;
        /// Page attributes by hypercall; set by the VMM.
        const HC_MAP_GPA_RANGE = 1 << 16;
        /// Migration can be held off; set by the VMM.
        const MIGRATION_CONTROL = 1 << 17;
        /// The stable flag of kvmclock can be relied on.
        const CLOCKSOURCE_STABLE = 1 << 24;
    }
}

/// Hints for the guest, EDX of [`FEATURES_LEAF`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PvHints(u32);

bitflags! {
    impl PvHints: u32 {
        /// vCPUs are never preempted for an unlimited time.
        const REALTIME = 1;
    }
}

/// The contents of [`SIGNATURE_LEAF`].
pub const fn signature() -> CpuidRegs {
    let [ebx, ecx, edx] = SIGNATURE;
    CpuidRegs { eax: FEATURES_LEAF, ebx, ecx, edx }
}

/// Whether a leaf at the base of a hypervisor range carries KVM's signature.
pub const fn is_signature(regs: &CpuidRegs) -> bool {
    let [ebx, ecx, edx] = SIGNATURE;
    regs.ebx == ebx && regs.ecx == ecx && regs.edx == edx
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_reads_as_text() {
        let regs = signature();
        let bytes = [regs.ebx, regs.ecx, regs.edx].map(u32::to_le_bytes).concat();
        assert_eq!(bytes, b"KVMKVMKVM\0\0\0");
        assert_eq!(regs.eax, 0x4000_0001);
        assert!(is_signature(&regs) && !is_signature(&CpuidRegs::ZERO));
    }
}
