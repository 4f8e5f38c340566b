// SPDX-License-Identifier: GPL-2.0
//! What follows from a vCPU's CPUID table and doesn't change until it is set
//! again: [`GuestFeatures`].

use crate::cpuid::CpuVendor;
use crate::feature::{Feature as F, FeatureSet, Word};
use crate::guest_cpuid::GuestCpuid;
use crate::pv::PvFeatures;
use crate::supported::Supported;
use core::ops::{Deref, DerefMut};
use kvm_uapi::x86::CpuidEntry2;
use x86_defs::{Cr4, Efer};

/// Physical address bits of a guest whose table doesn't say.
const DEFAULT_PHYS_BITS: u8 = 36;

/// Facts about a vCPU's processor, computed when its CPUID table is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestFeatures {
    /// Features in the table that the guest can in fact use.
    pub features: FeatureSet,
    /// Whose rules hold.
    pub vendor: CpuVendor,
    /// Physical address bits, 0 to 255 as the table says.
    pub phys_bits: u8,
    /// States that XCR0 may enable.
    pub xcr0: u64,
    /// States that IA32_XSS may enable.
    pub xss: u64,
    /// Paravirtual features in the table.
    pub pv: PvFeatures,
    /// Bits of CR4 that the guest can't set.
    pub cr4_reserved: u64,
    /// Bits of EFER that software may set.
    pub efer_valid: u64,
}

/// Bits of CR4 that need a feature; the guest may set one of them if it has one
/// of the features.
const CR4_NEEDS: &[(Cr4, &[F])] = &[
    (Cr4::OSXSAVE, &[F::XSAVE]),
    (Cr4::SMEP, &[F::SMEP]),
    (Cr4::SMAP, &[F::SMAP]),
    (Cr4::FSGSBASE, &[F::FSGSBASE]),
    (Cr4::PKE, &[F::PKU]),
    (Cr4::LA57, &[F::LA57]),
    (Cr4::UMIP, &[F::UMIP]),
    (Cr4::VMXE, &[F::VMX]),
    (Cr4::PCIDE, &[F::PCID]),
    (Cr4::LAM_SUP, &[F::LAM]),
    (Cr4::CET, &[F::SHSTK, F::IBT]),
];

/// Bits of CR4 that every guest may set.
const CR4_ALWAYS: Cr4 = Cr4::VME
    .union(Cr4::PVI)
    .union(Cr4::TSD)
    .union(Cr4::DE)
    .union(Cr4::PSE)
    .union(Cr4::PAE)
    .union(Cr4::MCE)
    .union(Cr4::PGE)
    .union(Cr4::PCE)
    .union(Cr4::OSFXSR)
    .union(Cr4::OSXMMEXCPT);

impl GuestFeatures {
    /// Derives them. `emulated` are the features that instruction emulation
    /// adds, see [`Supported::emulated`].
    pub fn new<S: Deref<Target = [CpuidEntry2]>, N: DerefMut<Target = [u16]>>(
        cpuid: &GuestCpuid<S, N>,
        supported: &Supported,
        emulated: &FeatureSet,
        hlt_in_guest: bool,
    ) -> Self {
        let mut features = FeatureSet::EMPTY;
        for word in Word::all() {
            let (leaf, subleaf, reg) = word.place();
            if let Some(entry) = cpuid.find(leaf, subleaf) {
                features.set_word(word, crate::cpuid::CpuidRegs::of(entry).get(reg));
            }
        }
        // MONITOR and MWAIT are emulated as doing nothing; no one reports them,
        // but a table may have them.
        let usable = supported.features().or(emulated).with(F::MWAIT);
        let mut features = features.and(&usable);
        // The processor walks the guest's tables and doesn't ask.
        features.set(F::GBPAGES, supported.gbpages());
        Self {
            features,
            vendor: cpuid.vendor(),
            phys_bits: phys_bits(cpuid),
            xcr0: cpuid.xcr0() & supported.xcr0(),
            xss: cpuid.xss() & supported.xss(),
            pv: cpuid.pv_features(hlt_in_guest),
            cr4_reserved: cr4_reserved(&features),
            efer_valid: efer_valid(&features, supported.features()),
        }
    }

    /// What a vCPU has whose CPUID was never set: nothing optional.
    pub const fn none() -> Self {
        Self {
            features: FeatureSet::EMPTY,
            vendor: CpuVendor::Other,
            phys_bits: DEFAULT_PHYS_BITS,
            xcr0: 0,
            xss: 0,
            pv: PvFeatures::empty(),
            cr4_reserved: !CR4_ALWAYS.bits(),
            efer_valid: Efer::SCE.bits(),
        }
    }

    /// Whether the guest has a feature.
    #[inline]
    pub fn has(&self, feature: F) -> bool {
        self.features.has(feature)
    }

    /// Whether AMD's rules hold where the vendors differ.
    #[inline]
    pub fn is_amd(&self) -> bool {
        self.vendor.is_amd()
    }

    /// Bits that a guest physical address can't have.
    #[inline]
    pub fn gpa_reserved(&self) -> u64 {
        match self.phys_bits {
            bits @ 0..=63 => u64::MAX << bits,
            _ => 0,
        }
    }

    /// Whether a guest physical address is within the guest's width.
    #[inline]
    pub fn is_gpa(&self, gpa: u64) -> bool {
        gpa & self.gpa_reserved() == 0
    }

    /// Whether the guest may use IA32_SPEC_CTRL at all.
    pub fn has_spec_ctrl(&self) -> bool {
        [F::SPEC_CTRL, F::AMD_STIBP, F::AMD_IBRS, F::AMD_SSBD].iter().any(|&f| self.has(f))
    }

    /// Whether the guest may use IA32_PRED_CMD for IBPB.
    pub fn has_pred_cmd(&self) -> bool {
        [F::SPEC_CTRL, F::AMD_IBPB, F::SBPB].iter().any(|&f| self.has(f))
    }
}

impl Default for GuestFeatures {
    fn default() -> Self {
        Self::none()
    }
}

/// Physical address bits: AMD APM volume 3 section E.4.7, also on Intel.
fn phys_bits<S: Deref<Target = [CpuidEntry2]>, N: DerefMut<Target = [u16]>>(
    cpuid: &GuestCpuid<S, N>,
) -> u8 {
    match (cpuid.find(0x8000_0000, 0), cpuid.find(0x8000_0008, 0)) {
        (Some(max), Some(sizes)) if max.eax >= 0x8000_0008 => (sizes.eax & 0xff) as u8,
        _ => DEFAULT_PHYS_BITS,
    }
}

fn cr4_reserved(features: &FeatureSet) -> u64 {
    let mut valid = CR4_ALWAYS;
    for &(bit, needs) in CR4_NEEDS {
        if needs.iter().any(|&feature| features.has(feature)) {
            valid |= bit;
        }
    }
    !valid.bits()
}

/// Bits of EFER that software may set with these features: AMD APM volume 2
/// section 3.1.7.
pub(crate) fn efer_valid(features: &FeatureSet, host: &FeatureSet) -> u64 {
    let mut valid = Efer::SCE;
    valid.set(Efer::LME | Efer::LMA, features.has(F::LM));
    valid.set(Efer::NXE, features.has(F::NX));
    valid.set(Efer::FFXSR, features.has(F::FXSR_OPT));
    valid.set(Efer::AUTOIBRS, features.has(F::AUTOIBRS));
    if features.has(F::SVM) {
        valid |= Efer::SVME;
        valid.set(Efer::LMSLE, !host.has(F::EFER_LMSLE_MBZ));
    }
    valid.bits()
}
