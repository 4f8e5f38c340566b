// SPDX-License-Identifier: GPL-2.0
//! What guests can have on this host: [`Supported`], and the tables of
//! `KVM_GET_SUPPORTED_CPUID` and `KVM_GET_EMULATED_CPUID` made of it.
//!
//! [`Supported`] is computed once, when the modules are loaded, and never changes.
//! Sources: Documentation/virt/kvm/api.rst 4.46 and 4.88, Intel SDM volume 2
//! CPUID, AMD APM volume 3 appendix E.

use crate::cpuid::CpuidRegs;
use crate::feature::{Class, Feature as F, FeatureSet, Word};
use crate::pv::{self, PvFeatures};
use crate::xstate::{XstateLayout, DYNAMIC, XSS_CET};
use kvm_uapi::x86::CpuidEntry2;
use x86_defs::Xcr0;

/// The states of XCR0 that guests can be given.
pub const KNOWN_XCR0: Xcr0 = Xcr0::all();

/// Highest basic leaf that is reported.
const MAX_BASIC: u32 = 0x24;
/// Highest extended leaf that is reported.
const MAX_EXTENDED: u32 = 0x8000_0022;

/// What the owner knows of the host and of itself.
#[derive(Clone, Copy, Debug)]
pub struct HostCaps {
    /// Features of [`Class::Needs`] and [`Class::Emulated`] whose implementation
    /// is finished. Others aren't reported.
    pub finished: FeatureSet,
    /// Features that the host's kernel didn't turn off, see
    /// [`FeatureSet::of_kernel`].
    pub kernel: FeatureSet,
    /// Features that the host's kernel vouches for where CPUID is silent:
    /// mitigations above all.
    pub synthesized: FeatureSet,
    /// The host's XCR0, 0 without XSAVE.
    pub xcr0: u64,
    /// The host's IA32_XSS, 0 without XSAVES.
    pub xss: u64,
    /// Paravirtual features whose implementation is finished.
    pub pv: PvFeatures,
    /// Levels of the second-level page tables, 4 or 5. Limits how much of the
    /// guest's physical address space can be reached.
    pub tdp_levels: u8,
}

/// What guests can have.
#[derive(Clone, Debug)]
pub struct Supported {
    features: FeatureSet,
    xcr0: u64,
    xss: u64,
    xstate: XstateLayout,
    pv: PvFeatures,
    tdp_levels: u8,
    gbpages: bool,
}

impl Supported {
    /// Computes it. `cpuid` executes the instruction for a leaf and subleaf; all
    /// calls have to run on processors that agree.
    pub fn new(cpuid: impl Fn(u32, u32) -> CpuidRegs, caps: &HostCaps) -> Self {
        let raw = FeatureSet::of_host(&cpuid);
        let usable = raw.and(&caps.kernel);
        let features = FeatureSet::of_class(Class::Plain)
            .and(&usable)
            .or(&FeatureSet::of_class(Class::Synthesized).and(&raw.or(&caps.synthesized)))
            .or(&FeatureSet::of_class(Class::Needs)
                .and(&caps.finished)
                .and(&usable.or(&caps.synthesized)))
            .or(&FeatureSet::of_class(Class::Emulated).and(&caps.finished));
        let mut this = Self {
            features,
            xcr0: caps.xcr0 & KNOWN_XCR0.bits(),
            xss: caps.xss & XSS_CET,
            xstate: XstateLayout::of_host(&cpuid),
            pv: caps.pv,
            tdp_levels: caps.tdp_levels,
            gbpages: usable.has(F::GBPAGES),
        };
        this.drop_what_lacks_its_ground();
        this
    }

    /// Removes features whose state or whose ground isn't there.
    fn drop_what_lacks_its_ground(&mut self) {
        if !self.features.has(F::XSAVE) {
            self.xcr0 = 0;
            self.xss = 0;
            self.features.set_word(Word::Ld1Eax, 0);
        }
        if !self.features.has(F::XSAVES) || self.xss & XSS_CET != XSS_CET {
            self.features.remove(F::SHSTK);
            self.features.remove(F::IBT);
        }
        if !self.features.has(F::SHSTK) && !self.features.has(F::IBT) {
            self.xss &= !XSS_CET;
        }
        if !self.features.has(F::XFD) {
            self.xcr0 &= !(Xcr0::TILE_CFG | Xcr0::TILE_DATA).bits();
        }
        if !self.features.has(F::MPX) {
            self.xcr0 &= !(Xcr0::BNDREGS | Xcr0::BNDCSR).bits();
        }
        if !self.features.has(F::PKU) {
            self.xcr0 &= !Xcr0::PKRU.bits();
        }
        for &(state, features) in STATE_USERS {
            if self.xcr0 & state.bits() != state.bits() {
                for &feature in features {
                    self.features.remove(feature);
                }
            }
        }
        if !self.features.has(F::SVM) {
            self.features.set_word(Word::L8aEdx, 0);
        }
    }

    /// The features.
    pub fn features(&self) -> &FeatureSet {
        &self.features
    }

    /// Whether a feature is there.
    pub fn has(&self, feature: F) -> bool {
        self.features.has(feature)
    }

    /// States that XCR0 of a guest may enable, whatever the process is permitted.
    pub fn xcr0(&self) -> u64 {
        self.xcr0
    }

    /// States that XCR0 may enable for guests of a process that has permission
    /// for `permitted` (of the dynamic ones, see [`DYNAMIC`]).
    pub fn xcr0_for(&self, permitted: u64) -> u64 {
        let mut xcr0 = self.xcr0;
        if xcr0 & DYNAMIC.bits() & !permitted != 0 {
            xcr0 &= !(Xcr0::TILE_CFG | Xcr0::TILE_DATA).bits();
        }
        xcr0
    }

    /// States that IA32_XSS of a guest may enable.
    pub fn xss(&self) -> u64 {
        self.xss
    }

    /// Bits of EFER that some guest could set.
    pub fn efer_valid(&self) -> u64 {
        crate::guest_features::efer_valid(&self.features, &self.features)
    }

    /// Sizes of the XSAVE components.
    pub fn xstate(&self) -> &XstateLayout {
        &self.xstate
    }

    /// Paravirtual features.
    pub fn pv(&self) -> PvFeatures {
        self.pv
    }

    /// Whether the processor walks 1 GiB pages of guests, asked for or not.
    pub fn gbpages(&self) -> bool {
        self.gbpages
    }

    /// Hands the entries of `KVM_GET_SUPPORTED_CPUID` to `write`, in the order of
    /// the ABI: basic, extended, KVM's leaves, each from its lowest on.
    ///
    /// `cpuid` executes the instruction, always on one processor; `permitted`
    /// are the dynamic states of the calling process.
    ///
    /// # Errors
    ///
    /// The first error of `write`, which stops.
    pub fn for_each<E>(
        &self,
        cpuid: impl Fn(u32, u32) -> CpuidRegs,
        permitted: u64,
        write: impl FnMut(&CpuidEntry2) -> Result<(), E>,
    ) -> Result<(), E> {
        let max_extended = cpuid(0x8000_0000, 0).eax;
        let xcr0 = self.xcr0_for(permitted);
        let mut table = Table { supported: self, cpuid, write, max_extended, xcr0 };
        for base in [0, 0x8000_0000, pv::SIGNATURE_LEAF] {
            let max = table.leaf(base)?;
            for function in base.saturating_add(1)..=max {
                table.leaf(function)?;
            }
        }
        Ok(())
    }

    /// Hands the entries of `KVM_GET_EMULATED_CPUID` to `write`: features that
    /// only instruction emulation gives, slower than a processor would.
    ///
    /// `finished` are those that the owner lets reach the emulator, of MOVBE and
    /// RDPID; RDPID also needs IA32_TSC_AUX, that is, RDTSCP.
    ///
    /// # Errors
    ///
    /// The first error of `write`, which stops.
    pub fn for_each_emulated<E>(
        &self,
        finished: &FeatureSet,
        mut write: impl FnMut(&CpuidEntry2) -> Result<(), E>,
    ) -> Result<(), E> {
        let emulated = self.emulated(finished);
        write(&CpuidRegs { eax: 7, ..CpuidRegs::ZERO }.entry(0, 0))?;
        let ecx = emulated.word(Word::L1Ecx);
        write(&CpuidRegs { ecx, ..CpuidRegs::ZERO }.entry(1, 0))?;
        let ecx = emulated.word(Word::L7Ecx);
        write(&CpuidRegs { ecx, ..CpuidRegs::ZERO }.entry(7, 0))
    }

    /// The features that emulation gives, of `finished`.
    pub fn emulated(&self, finished: &FeatureSet) -> FeatureSet {
        let mut known = FeatureSet::EMPTY.with(F::MOVBE);
        if self.has(F::RDTSCP) {
            known.insert(F::RDPID);
        }
        known.and(finished)
    }
}

/// States of XCR0, and the features that work on them.
const STATE_USERS: &[(Xcr0, &[F])] = &[
    (
        Xcr0::YMM,
        &[
            F::AVX,
            F::FMA,
            F::F16C,
            F::AVX2,
            F::VAES,
            F::VPCLMULQDQ,
            F::XOP,
            F::FMA4,
            F::AVX_VNNI,
            F::AVX_IFMA,
            F::AVX_VNNI_INT8,
            F::AVX_NE_CONVERT,
            F::AVX_VNNI_INT16,
            F::SHA512,
            F::SM3,
            F::SM4,
        ],
    ),
    (
        Xcr0::OPMASK.union(Xcr0::ZMM_HI256).union(Xcr0::HI16_ZMM),
        &[
            F::AVX512F,
            F::AVX512DQ,
            F::AVX512IFMA,
            F::AVX512PF,
            F::AVX512ER,
            F::AVX512CD,
            F::AVX512BW,
            F::AVX512VL,
            F::AVX512VBMI,
            F::AVX512_VBMI2,
            F::AVX512_VNNI,
            F::AVX512_BITALG,
            F::AVX512_VPOPCNTDQ,
            F::AVX512_4VNNIW,
            F::AVX512_4FMAPS,
            F::AVX512_VP2INTERSECT,
            F::AVX512_FP16,
            F::AVX512_BF16,
            F::AVX512_BMM,
            F::AVX10,
        ],
    ),
    (Xcr0::PKRU, &[F::PKU]),
    (
        Xcr0::TILE_CFG.union(Xcr0::TILE_DATA),
        &[F::AMX_TILE, F::AMX_INT8, F::AMX_BF16, F::AMX_FP16, F::AMX_COMPLEX],
    ),
];

/// The writer of the supported table.
struct Table<'a, C, W> {
    supported: &'a Supported,
    cpuid: C,
    write: W,
    max_extended: u32,
    xcr0: u64,
}

impl<C, W, E> Table<'_, C, W>
where
    C: Fn(u32, u32) -> CpuidRegs,
    W: FnMut(&CpuidEntry2) -> Result<(), E>,
{
    /// The host's answer; leaves that only we have start from zeros.
    fn host(&self, function: u32, index: u32) -> CpuidRegs {
        let absent = match function >> 30 {
            1 => true,
            2 => function > self.max_extended,
            _ => false,
        };
        if absent {
            CpuidRegs::ZERO
        } else {
            (self.cpuid)(function, index)
        }
    }

    fn put(&mut self, function: u32, index: u32, regs: CpuidRegs) -> Result<(), E> {
        (self.write)(&regs.entry(function, index))
    }

    /// Replaces the registers that are feature words of this leaf.
    fn features(&self, function: u32, index: u32, regs: &mut CpuidRegs) {
        for word in Word::all() {
            let (leaf, subleaf, reg) = word.place();
            if (leaf, subleaf) == (function, index) {
                regs.set(reg, self.supported.features.word(word));
            }
        }
    }

    /// Writes all subleaves of a leaf and returns EAX of the first.
    fn leaf(&mut self, function: u32) -> Result<u32, E> {
        match function {
            4 | 0x8000_001d => self.caches(function)?,
            7 => self.structured_features()?,
            0xd => self.xstate()?,
            0x1d => self.tiles()?,
            0x1e => self.tile_multiply()?,
            0x24 => self.avx10()?,
            _ => {
                let regs = self.plain_leaf(function);
                self.put(function, 0, regs)?;
                return Ok(regs.eax);
            }
        }
        Ok(0)
    }

    /// Leaves of one entry.
    fn plain_leaf(&self, function: u32) -> CpuidRegs {
        let mut regs = self.host(function, 0);
        match function {
            0 => regs.eax = regs.eax.min(MAX_BASIC),
            1 => {
                // The rest of EBX says where the caller happens to run.
                regs.ebx &= 0xffff;
                self.features(function, 0, &mut regs);
            }
            2 => {}
            // The APIC timer keeps running in every state.
            6 => regs = CpuidRegs { eax: 1 << 2, ..CpuidRegs::ZERO },
            // No topology: subleaf 1 isn't there.
            0xb | 0x1f => regs = CpuidRegs::ZERO,
            pv::SIGNATURE_LEAF => regs = pv::signature(),
            pv::FEATURES_LEAF => {
                regs = CpuidRegs { eax: self.supported.pv.bits(), ..CpuidRegs::ZERO };
            }
            0x15 | 0x16 => regs = CpuidRegs::ZERO,
            _ if function >> 30 == 2 => self.extended_leaf(function, &mut regs),
            _ => regs = CpuidRegs::ZERO,
        }
        regs
    }

    fn extended_leaf(&self, function: u32, regs: &mut CpuidRegs) {
        match function {
            0x8000_0000 => regs.eax = self.max_extended(),
            0x8000_0001 => {
                // Package type and reserved bits.
                regs.ebx &= !0x0fff_0000;
                self.features(function, 0, regs);
            }
            0x8000_0002..=0x8000_0005 => {}
            0x8000_0006 => regs.edx &= !0x0003_0000,
            0x8000_0007 => {
                let host = regs.edx;
                *regs = CpuidRegs::ZERO;
                self.features(function, 0, regs);
                regs.edx &= host;
            }
            0x8000_0008 => self.address_sizes(regs),
            0x8000_0019 => (regs.ecx, regs.edx) = (0, 0),
            0x8000_001a => *regs = CpuidRegs { eax: regs.eax & 7, ..CpuidRegs::ZERO },
            0x8000_0021 | 0x8000_0022 => {
                *regs = CpuidRegs::ZERO;
                self.features(function, 0, regs);
            }
            _ => *regs = CpuidRegs::ZERO,
        }
    }

    /// Highest extended leaf. 8000_0021h is given also where the host has less,
    /// if there is something to say in it, but not where the host lacks
    /// 8000_001Dh: VMMs would ask the host for that one.
    fn max_extended(&self) -> u32 {
        let max = self.max_extended.min(MAX_EXTENDED);
        let says = self.supported.features.word(Word::L821Eax);
        if max >= 0x8000_001d && says != 0 {
            max.max(0x8000_0021)
        } else {
            max
        }
    }

    /// EAX: physical bits 7:0, linear bits 15:8, and in 23:16 how many physical
    /// bits can be mapped.
    fn address_sizes(&self, regs: &mut CpuidRegs) {
        let physical = regs.eax & 0xff;
        let linear = (regs.eax >> 8 & 0xff).max(48);
        let mapped = if self.supported.tdp_levels < 5 { physical.min(48) } else { physical };
        regs.eax = physical | linear << 8 | mapped << 16;
        // Core counts stay: they say how an APIC ID is cut.
        regs.ecx &= 0x0000_f0ff;
        regs.edx = 0;
        self.features(0x8000_0008, 0, regs);
    }

    /// Cache descriptors, up to and with the one of type "none".
    fn caches(&mut self, function: u32) -> Result<(), E> {
        for index in 0..32 {
            let regs = self.host(function, index);
            self.put(function, index, regs)?;
            if regs.eax & 0x1f == 0 {
                break;
            }
        }
        Ok(())
    }

    fn structured_features(&mut self) -> Result<(), E> {
        let max = self.host(7, 0).eax.min(2);
        for index in 0..=max {
            let mut regs = CpuidRegs::ZERO;
            self.features(7, index, &mut regs);
            if index == 0 {
                regs.eax = max;
            }
            self.put(7, index, regs)?;
        }
        Ok(())
    }

    fn xstate(&mut self) -> Result<(), E> {
        let (xcr0, xss) = (self.xcr0, self.supported.xss);
        let layout = self.supported.xstate;
        let size = layout.standard_size(xcr0);
        let (low, high) = (xcr0 as u32, (xcr0 >> 32) as u32);
        self.put(0xd, 0, CpuidRegs { eax: low, ebx: size, ecx: size, edx: high })?;
        if xcr0 == 0 {
            return Ok(());
        }
        let mut regs = CpuidRegs { ecx: xss as u32, edx: (xss >> 32) as u32, ..CpuidRegs::ZERO };
        self.features(0xd, 1, &mut regs);
        if regs.eax & (F::XSAVEC.mask() | F::XSAVES.mask()) != 0 {
            regs.ebx = layout.compacted_size(xcr0 | xss);
        }
        self.put(0xd, 1, regs)?;
        for index in 2..64 {
            let bit = 1u64 << index;
            if (xcr0 | xss) & bit == 0 {
                continue;
            }
            let mut regs = self.host(0xd, index);
            // The processor has to agree on which register enables the state.
            let supervisor = xss & bit != 0;
            if regs.eax == 0 || (regs.ecx & 1 != 0) != supervisor {
                continue;
            }
            regs.edx = 0;
            if !self.supported.has(F::XFD) {
                regs.ecx &= !(1 << 2);
            }
            self.put(0xd, index, regs)?;
        }
        Ok(())
    }

    /// AMX palettes.
    fn tiles(&mut self) -> Result<(), E> {
        if !self.supported.has(F::AMX_TILE) {
            return self.put(0x1d, 0, CpuidRegs::ZERO);
        }
        for index in 0..=self.host(0x1d, 0).eax.min(16) {
            let regs = self.host(0x1d, index);
            self.put(0x1d, index, regs)?;
        }
        Ok(())
    }

    fn tile_multiply(&mut self) -> Result<(), E> {
        if !self.supported.has(F::AMX_TILE) {
            return self.put(0x1e, 0, CpuidRegs::ZERO);
        }
        let mut regs = self.host(0x1e, 0);
        regs.eax = regs.eax.min(1);
        self.put(0x1e, 0, regs)?;
        if regs.eax != 0 {
            regs = CpuidRegs::ZERO;
            self.features(0x1e, 1, &mut regs);
            self.put(0x1e, 1, regs)?;
        }
        Ok(())
    }

    fn avx10(&mut self) -> Result<(), E> {
        if !self.supported.has(F::AVX10) {
            return self.put(0x24, 0, CpuidRegs::ZERO);
        }
        let host = self.host(0x24, 0);
        let mut regs = CpuidRegs { eax: host.eax.min(1), ..CpuidRegs::ZERO };
        self.features(0x24, 0, &mut regs);
        regs.ebx |= (host.ebx & 0xff).min(2);
        self.put(0x24, 0, regs)?;
        if regs.eax != 0 {
            regs = CpuidRegs::ZERO;
            self.features(0x24, 1, &mut regs);
            self.put(0x24, 1, regs)?;
        }
        Ok(())
    }
}
