// SPDX-License-Identifier: GPL-2.0
//! The VMX capability MSRs: what a processor's VMX can do (SDM vol. 3, appendix
//! A).

use crate::config::Wanted;
use crate::control::{Allowed, Primary, Secondary};
use bitflags::bitflags;
use core::fmt;
use kvm_paging::{caps::PagingCaps, level::Level};

/// CPUID leaf with the VMX bit.
pub const CPUID_FEATURES: u32 = 1;
/// In [`CPUID_FEATURES`] ECX: the processor has VMX.
pub const CPUID_ECX_VMX: u32 = 1 << 5;

/// IA32_FEATURE_CONTROL, with which firmware turns VMX off.
pub const MSR_FEATURE_CONTROL: u32 = 0x3a;
/// In [`MSR_FEATURE_CONTROL`]: the register can't be written until reset.
pub const FEATURE_CONTROL_LOCKED: u64 = 1 << 0;
/// In [`MSR_FEATURE_CONTROL`]: VMXON works outside SMX operation.
pub const FEATURE_CONTROL_VMXON: u64 = 1 << 2;

/// IA32_VMX_PROCBASED_CTLS: primary processor-based controls.
pub const MSR_PROCBASED_CTLS: u32 = 0x482;
/// IA32_VMX_PROCBASED_CTLS2: secondary processor-based controls.
pub const MSR_PROCBASED_CTLS2: u32 = 0x48b;
/// IA32_VMX_EPT_VPID_CAP.
pub const MSR_EPT_VPID_CAP: u32 = 0x48c;

/// Whether the preemption timer of the processor with this signature (CPUID leaf 1, EAX) doesn't count as
/// it should, as the specification updates of these say: Nehalem, Westmere and an Ivy Bridge.
pub const fn has_broken_timer(signature: u32) -> bool {
    matches!(
        signature,
        0x106a0 | 0x106a1 | 0x106a4 | 0x106a5 | 0x106e5 | 0x20652 | 0x20655 | 0x206e6 | 0x306a8
    )
}

/// Bits of [`MSR_EPT_VPID_CAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EptCaps(u64);

bitflags! {
    impl EptCaps: u64 {
        /// Four-level tables.
        const WALK_4 = 1 << 6;
        /// Five-level tables.
        const WALK_5 = 1 << 7;
        /// Write-back tables.
        const WRITE_BACK = 1 << 14;
        /// 2 MiB pages.
        const PAGE_2M = 1 << 16;
        /// 1 GiB pages.
        const PAGE_1G = 1 << 17;
        /// INVEPT.
        const INVEPT = 1 << 20;
        /// Accessed and dirty bits.
        const ACCESSED_DIRTY = 1 << 21;
        /// INVEPT of one context.
        const INVEPT_SINGLE = 1 << 25;
        /// INVEPT of all contexts.
        const INVEPT_ALL = 1 << 26;
        /// INVVPID of one context.
        const INVVPID_SINGLE = 1 << 32 | 1 << 41;
    }
}

/// Why this VMX can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// No EPT that this module can use; shadow paging isn't implemented.
    NoEpt,
    /// No unrestricted guest: real mode would have to be emulated.
    NoUnrestrictedGuest,
    /// These pin-based controls are lacking.
    Pin(u32),
    /// These primary controls are lacking.
    Primary(u32),
    /// These exit controls are lacking.
    Exit(u32),
    /// These entry controls are lacking.
    Entry(u32),
    /// The control structure isn't kept in write-back memory of at most a page.
    Region,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEpt => f.write_str(
                "the processor has no extended page tables (EPT: write-back, 4 levels, INVEPT), \
                 which are required",
            ),
            Self::NoUnrestrictedGuest => {
                f.write_str("the processor has no unrestricted guest mode, which is required")
            }
            Self::Pin(bits) => write!(f, "the processor lacks pin-based VMX controls {bits:#x}"),
            Self::Primary(bits) => write!(f, "the processor lacks primary VMX controls {bits:#x}"),
            Self::Exit(bits) => write!(f, "the processor lacks VM-exit controls {bits:#x}"),
            Self::Entry(bits) => write!(f, "the processor lacks VM-entry controls {bits:#x}"),
            Self::Region => f.write_str("the processor's VMCS isn't a page of write-back memory"),
        }
    }
}

/// A processor's VMX, read once when kvm-intel.ko loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmxCaps {
    /// Secondary controls that may be set.
    pub secondary: Secondary,
    /// EPT details.
    pub ept: EptCaps,
    /// Second-level paging.
    pub paging: PagingCaps,
}

impl VmxCaps {
    /// Reads the capabilities through `rdmsr`, which answers `None` for an MSR
    /// that doesn't exist.
    pub fn read(rdmsr: impl Fn(u32) -> Option<u64>) -> Result<Self, Unusable> {
        let secondary = Self::secondary(&rdmsr);
        if !secondary.contains(Secondary::EPT) {
            return Err(Unusable::NoEpt);
        }
        if !secondary.contains(Secondary::UNRESTRICTED_GUEST) {
            return Err(Unusable::NoUnrestrictedGuest);
        }
        let ept = EptCaps::from_bits_truncate(rdmsr(MSR_EPT_VPID_CAP).unwrap_or(0));
        let needed = EptCaps::WALK_4 | EptCaps::WRITE_BACK | EptCaps::INVEPT;
        if !ept.contains(needed) || !ept.intersects(EptCaps::INVEPT_SINGLE | EptCaps::INVEPT_ALL) {
            return Err(Unusable::NoEpt);
        }
        let mut paging = Self::paging(ept);
        // It is dirty bits that are logged when they are set.
        paging.dirty_log = paging.accessed_dirty && secondary.contains(Secondary::PML);
        Ok(Self { secondary, ept, paging })
    }

    /// The same without what isn't wanted.
    pub fn with(mut self, wanted: Wanted) -> Self {
        self.paging.accessed_dirty &= wanted.accessed_dirty;
        self.paging.dirty_log &= wanted.accessed_dirty && wanted.dirty_log;
        self
    }

    /// The allowed-1 half (SDM vol. 3, A.3.3) of the secondary controls, empty
    /// where the primary ones can't activate them.
    fn secondary(rdmsr: &impl Fn(u32) -> Option<u64>) -> Secondary {
        let may_be_set = |msr| Allowed(rdmsr(msr).unwrap_or(0)).may_be_set();
        if may_be_set(MSR_PROCBASED_CTLS) & Primary::SECONDARY.bits() == 0 {
            return Secondary::empty();
        }
        Secondary::from_bits_truncate(may_be_set(MSR_PROCBASED_CTLS2))
    }

    fn paging(ept: EptCaps) -> PagingCaps {
        PagingCaps {
            root: if ept.contains(EptCaps::WALK_5) { Level::Table256T } else { Level::Table512G },
            largest_page: if ept.contains(EptCaps::PAGE_1G) {
                Level::Page1G
            } else if ept.contains(EptCaps::PAGE_2M) {
                Level::Page2M
            } else {
                Level::Page4K
            },
            accessed_dirty: ept.contains(EptCaps::ACCESSED_DIRTY),
            dirty_log: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDARY: u64 = 0xa2 << 32;
    const EPT: u64 = 1 << 6 | 1 << 14 | 1 << 16 | 1 << 20 | 1 << 21 | 1 << 25 | 1 << 26;

    fn cpu(primary: u64, secondary: u64, ept: u64) -> impl Fn(u32) -> Option<u64> {
        move |msr| match msr {
            MSR_PROCBASED_CTLS => Some(primary),
            MSR_PROCBASED_CTLS2 if secondary != 0 => Some(secondary),
            MSR_EPT_VPID_CAP if ept != 0 => Some(ept),
            _ => None,
        }
    }

    #[test]
    fn ice_lake_like_processor() {
        let caps = VmxCaps::read(cpu(1 << 63, SECONDARY, EPT)).unwrap();
        assert!(caps.secondary.contains(Secondary::VPID));
        assert_eq!(caps.paging.root, Level::Table512G);
        assert_eq!(caps.paging.largest_page, Level::Page2M);
        assert!(caps.paging.accessed_dirty);
    }

    #[test]
    fn timers_that_do_not_count() {
        assert!(has_broken_timer(0x106a5));
        assert!(!has_broken_timer(0x706e5));
    }

    #[test]
    fn secondary_controls_need_activation() {
        assert_eq!(VmxCaps::read(cpu(0, SECONDARY, EPT)), Err(Unusable::NoEpt));
    }

    #[test]
    fn what_is_required_is_named() {
        let without_ug = SECONDARY & !(0x80 << 32);
        assert_eq!(
            VmxCaps::read(cpu(1 << 63, without_ug, EPT)),
            Err(Unusable::NoUnrestrictedGuest)
        );
        let without_invept = EPT & !(1 << 20);
        assert_eq!(VmxCaps::read(cpu(1 << 63, SECONDARY, without_invept)), Err(Unusable::NoEpt));
        assert_eq!(VmxCaps::read(cpu(1 << 63, SECONDARY, 0)), Err(Unusable::NoEpt));
    }
}
