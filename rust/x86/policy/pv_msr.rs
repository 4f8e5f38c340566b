// SPDX-License-Identifier: GPL-2.0
//! Values that KVM's own MSRs take.
//!
//! Documentation/virt/kvm/x86/msr.rst.

use crate::msr::{PvMsr, Refusal};
use crate::pv::PvFeatures;
use crate::steal_time;
use bitflags::bitflags;

/// The low bits of the asynchronous-page-fault MSR; the rest is the address of a
/// 64-byte record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsyncPf(u64);

bitflags! {
    impl AsyncPf: u64 {
        /// On.
        const ENABLED = 1;
        /// Also while the guest runs at CPL 0.
        const SEND_ALWAYS = 1 << 1;
        /// As exits to a nested hypervisor.
        const AS_VMEXIT = 1 << 2;
        /// "Page is ready" comes as an interrupt.
        const AS_INTERRUPT = 1 << 3;
    }
}

impl AsyncPf {
    const ADDRESS: u64 = !0x3f;
    const RESERVED: u64 = 0x30;

    /// Whether faults are delivered: the MSR enables them, and has their
    /// completion come as an interrupt (the other way is gone).
    pub const fn is_on(msr: u64) -> bool {
        let both = Self::ENABLED.bits() | Self::AS_INTERRUPT.bits();
        msr & both == both
    }

    /// Address of the record.
    pub const fn address(msr: u64) -> u64 {
        msr & Self::ADDRESS
    }
}

/// Checks a value written by either side. `features` are those that the guest's
/// CPUID gives or, unless they are enforced, all; `apic` tells whether the local
/// APIC is in the kernel.
///
/// # Errors
///
/// [`Refusal::Invalid`] for reserved bits, and for what needs the APIC or a
/// feature that isn't there.
pub fn check(which: PvMsr, value: u64, features: PvFeatures, apic: bool) -> Result<(), Refusal> {
    let valid = match which {
        PvMsr::WallClockOld | PvMsr::WallClock => true,
        PvMsr::SystemTimeOld | PvMsr::SystemTime => true,
        PvMsr::AsyncPfEn => async_pf(value, features, apic),
        PvMsr::StealTime => steal_time::is_valid(value),
        // Enable bit and the address of an aligned word.
        PvMsr::PvEoi => value & 2 == 0,
        PvMsr::PollControl => value <= 1,
        PvMsr::AsyncPfInt => value <= 0xff && (apic || value == 0),
        PvMsr::AsyncPfAck => true,
    };
    valid.then_some(()).ok_or(Refusal::Invalid)
}

fn async_pf(value: u64, features: PvFeatures, apic: bool) -> bool {
    let bits = AsyncPf::from_bits_retain(value);
    let needs = |bit: AsyncPf, feature| !bits.contains(bit) || features.contains(feature);
    value & AsyncPf::RESERVED == 0
        && needs(AsyncPf::AS_VMEXIT, PvFeatures::ASYNC_PF_VMEXIT)
        && needs(AsyncPf::AS_INTERRUPT, PvFeatures::ASYNC_PF_INT)
        && (apic || value == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asynchronous_faults() {
        let all = PvFeatures::all();
        let ok = |value, features, apic| check(PvMsr::AsyncPfEn, value, features, apic).is_ok();
        assert!(ok(0x1049, all, true) && !ok(0x1059, all, true));
        assert!(!ok(0x1009, PvFeatures::ASYNC_PF, true) && ok(0x1001, PvFeatures::ASYNC_PF, true));
        assert!(!ok(0x1005, PvFeatures::ASYNC_PF, true));
        assert!(!ok(1, all, false) && ok(0, all, false));
        assert!(AsyncPf::is_on(0x1009) && !AsyncPf::is_on(0x1001));
        assert_eq!(AsyncPf::address(0x1049), 0x1040);
    }

    #[test]
    fn small_registers() {
        let ok = |which, value| check(which, value, PvFeatures::all(), true).is_ok();
        assert!(ok(PvMsr::PollControl, 1) && !ok(PvMsr::PollControl, 2));
        assert!(ok(PvMsr::AsyncPfInt, 0xff) && !ok(PvMsr::AsyncPfInt, 0x100));
        assert!(ok(PvMsr::PvEoi, 0x1001) && !ok(PvMsr::PvEoi, 0x1003));
        assert!(ok(PvMsr::StealTime, 0x1041) && !ok(PvMsr::StealTime, 0x1011));
        assert!(check(PvMsr::AsyncPfInt, 1, PvFeatures::all(), false).is_err());
        assert!(check(PvMsr::AsyncPfInt, 0, PvFeatures::all(), false).is_ok());
    }
}
