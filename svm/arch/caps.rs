// SPDX-License-Identifier: GPL-2.0
//! CPUID Fn8000_000A and VM_CR: what a processor's SVM can do (APM vol. 2,
//! 15.30.1; vol. 3, appendix E.4.9).

use bitflags::bitflags;
use core::fmt;
use kvm_paging::{caps::PagingCaps, level::Level};

/// CPUID leaf of the SVM revision and features.
pub const CPUID_SVM: u32 = 0x8000_000a;
/// CPUID leaf whose EDX bit 26 says that 1 GiB pages exist.
pub const CPUID_EXT_FEATURES: u32 = 0x8000_0001;
/// In [`CPUID_EXT_FEATURES`] ECX: the processor has SVM.
pub const CPUID_EXT_ECX_SVM: u32 = 1 << 2;
const CPUID_EXT_EDX_PAGE_1G: u32 = 1 << 26;

/// VM_CR, the MSR with which firmware turns SVM off.
pub const MSR_VM_CR: u32 = 0xc001_0114;
/// In [`MSR_VM_CR`]: EFER.SVME can't be set.
pub const VM_CR_SVMDIS: u64 = 1 << 4;

/// EDX of [`CPUID_SVM`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SvmFeatures(u32);

bitflags! {
    impl SvmFeatures: u32 {
        /// Nested paging.
        const NPT = 1 << 0;
        /// LBR virtualization.
        const LBR_VIRT = 1 << 1;
        /// Next-RIP save on intercepts.
        const NRIP_SAVE = 1 << 3;
        /// TSC ratio MSR.
        const TSC_SCALE = 1 << 4;
        /// VMCB clean bits.
        const VMCB_CLEAN = 1 << 5;
        /// TLB flush by ASID.
        const FLUSH_BY_ASID = 1 << 6;
        /// Decode assists.
        const DECODE_ASSISTS = 1 << 7;
        /// PAUSE intercept filter.
        const PAUSE_FILTER = 1 << 10;
        /// Threshold of the PAUSE filter.
        const PAUSE_THRESHOLD = 1 << 12;
        /// AVIC.
        const AVIC = 1 << 13;
        /// Virtualized VMLOAD and VMSAVE.
        const VLS = 1 << 15;
        /// Virtual GIF.
        const VGIF = 1 << 16;
        /// Virtual NMI.
        const VNMI = 1 << 25;
    }
}

/// Why this SVM can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// No nested paging; shadow paging isn't implemented.
    NoNestedPaging,
    /// Fewer than two ASIDs: one is the host's.
    NoAsid,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNestedPaging => "the processor has no nested paging (NPT), which is required",
            Self::NoAsid => "the processor has no address space identifier for guests",
        })
    }
}

/// A processor's SVM, read once when kvm-amd.ko loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SvmCaps {
    /// Optional features.
    pub features: SvmFeatures,
    /// Number of address space identifiers; ASID 0 is the host's.
    pub asids: u32,
    /// Nested paging.
    pub paging: PagingCaps,
}

impl SvmCaps {
    /// Reads the capabilities through `cpuid` (leaf to `[eax, ebx, ecx, edx]`).
    /// Nested tables are as deep as the host's own: `host_la57` is its CR4.LA57
    /// (APM vol. 2, 15.25.3).
    pub fn read(cpuid: impl Fn(u32) -> [u32; 4], host_la57: bool) -> Result<Self, Unusable> {
        let [_, asids, _, edx] = cpuid(CPUID_SVM);
        let features = SvmFeatures::from_bits_truncate(edx);
        if !features.contains(SvmFeatures::NPT) {
            return Err(Unusable::NoNestedPaging);
        }
        if asids < 2 {
            return Err(Unusable::NoAsid);
        }
        let [_, _, _, ext_edx] = cpuid(CPUID_EXT_FEATURES);
        let has_1g = ext_edx & CPUID_EXT_EDX_PAGE_1G != 0;
        Ok(Self {
            features,
            asids,
            paging: PagingCaps {
                root: if host_la57 { Level::Table256T } else { Level::Table512G },
                largest_page: if has_1g { Level::Page1G } else { Level::Page2M },
                accessed_dirty: true,
                dirty_log: false,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(svm_edx: u32, asids: u32, ext_edx: u32) -> impl Fn(u32) -> [u32; 4] {
        move |leaf| match leaf {
            CPUID_SVM => [1, asids, 0, svm_edx],
            CPUID_EXT_FEATURES => [0, 0, CPUID_EXT_ECX_SVM, ext_edx],
            _ => [0; 4],
        }
    }

    #[test]
    fn zen_like_processor() {
        let caps = SvmCaps::read(cpu(0x1_00ff, 0x8000, 1 << 26), false).unwrap();
        assert_eq!(caps.asids, 0x8000);
        assert!(caps.features.contains(SvmFeatures::VGIF | SvmFeatures::NRIP_SAVE));
        assert!(!caps.features.contains(SvmFeatures::AVIC));
        assert_eq!(caps.paging.root, Level::Table512G);
        assert_eq!(caps.paging.largest_page, Level::Page1G);
    }

    #[test]
    fn nested_tables_follow_the_hosts_depth() {
        let caps = SvmCaps::read(cpu(1, 16, 0), true).unwrap();
        assert_eq!(caps.paging.root, Level::Table256T);
        assert_eq!(caps.paging.largest_page, Level::Page2M);
    }

    #[test]
    fn what_is_required_is_named() {
        assert_eq!(SvmCaps::read(cpu(0, 16, 0), false), Err(Unusable::NoNestedPaging));
        assert_eq!(SvmCaps::read(cpu(1, 1, 0), false), Err(Unusable::NoAsid));
    }
}
