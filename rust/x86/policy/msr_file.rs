// SPDX-License-Identifier: GPL-2.0
//! MSRs that are plain storage with rules: [`MsrFile`].
//!
//! SDM volume 4; APM volume 2 sections 7.8 (PAT), 3.2.10 (HWCR).

use crate::feature::Feature as F;
use crate::msr::{By, Context, Refusal};

/// A register of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stored {
    /// IA32_PAT.
    Pat,
    /// IA32_MISC_ENABLE.
    MiscEnable,
    /// MISC_FEATURES_ENABLES: CPUID faulting.
    MiscFeatures,
    /// PLATFORM_INFO.
    PlatformInfo,
    /// IA32_BIOS_SIGN_ID, the microcode revision.
    UcodeRev,
    /// IA32_ARCH_CAPABILITIES.
    ArchCapabilities,
    /// SMI_COUNT.
    SmiCount,
    /// POWER_CTL.
    PowerCtl,
    /// VIRT_SPEC_CTRL (AMD).
    VirtSpecCtrl,
    /// TSC_AUX.
    TscAux,
    /// HWCR (AMD).
    Hwcr,
    /// MMIO_CONF_BASE (AMD), which stays zero.
    MmioConfBase,
    /// OSVW_ID_LENGTH (AMD).
    OsvwLength,
    /// OSVW_STATUS (AMD).
    OsvwStatus,
    /// DE_CFG (AMD).
    DeCfg,
}

const SLOTS: usize = Stored::DeCfg as usize + 1;

/// IA32_PAT after reset.
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;
/// IA32_MISC_ENABLE: MONITOR and MWAIT.
pub const MISC_ENABLE_MWAIT: u64 = 1 << 18;
/// IA32_MISC_ENABLE: performance monitoring is there.
const MISC_ENABLE_EMON: u64 = 1 << 7;
/// IA32_MISC_ENABLE: no branch-trace store, no precise event sampling.
const MISC_ENABLE_UNAVAILABLE: u64 = 3 << 11;
/// PLATFORM_INFO and MISC_FEATURES_ENABLES: CPUID faulting.
pub const PLATFORM_CPUID_FAULT: u64 = 1 << 31;
/// MISC_FEATURES_ENABLES: CPUID faults outside CPL 0.
pub const CPUID_FAULT: u64 = 1;
/// HWCR: MCi_STATUS can be written.
pub const HWCR_MC_STATUS_WRITE: u64 = 1 << 18;
/// HWCR: the TSC runs at the P0 frequency.
const HWCR_TSC_FREQ_SEL: u64 = 1 << 24;
/// HWCR: CPUID faults outside CPL 0.
pub const HWCR_CPUID_USER_DIS: u64 = 1 << 35;
/// HWCR bits that guests set and nobody misses: TLB cache, flush filter, IGNNE.
const HWCR_IGNORED: u64 = 1 << 3 | 1 << 6 | 1 << 8;
/// DE_CFG: LFENCE serializes.
pub const DE_CFG_LFENCE: u64 = 1 << 1;

/// Values of the feature MSRs: what guests can have on this host, and what they
/// have until userspace says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureMsrs {
    /// IA32_ARCH_CAPABILITIES, see [`arch_capabilities`].
    pub arch_capabilities: u64,
    /// PLATFORM_INFO.
    pub platform_info: u64,
    /// The host's microcode revision, with the revision in the high half.
    pub ucode_rev: u64,
    /// Bits of DE_CFG that are fixed.
    pub de_cfg: u64,
}

impl FeatureMsrs {
    /// `KVM_GET_MSRS` on /dev/kvm.
    pub fn read(&self, slot: Stored) -> Option<u64> {
        match slot {
            Stored::ArchCapabilities => Some(self.arch_capabilities),
            Stored::UcodeRev => Some(self.ucode_rev),
            Stored::DeCfg => Some(self.de_cfg),
            Stored::PlatformInfo => Some(self.platform_info),
            _ => None,
        }
    }
}

/// What the owner does after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// IA32_PAT changed: load it into the guest's state.
    Pat,
    /// VIRT_SPEC_CTRL changed.
    VirtSpecCtrl,
    /// TSC_AUX changed.
    TscAux,
    /// CPUID answers or faults differently.
    Cpuid,
}

/// What a write may depend on besides the value.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// What guests can have.
    pub features: FeatureMsrs,
    /// `KVM_CAP_MSR_PLATFORM_INFO`: the guest can read PLATFORM_INFO.
    pub platform_info_readable: bool,
    /// The MWAIT bit of MISC_ENABLE doesn't reach CPUID
    /// (`KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT`).
    pub no_mwait: bool,
}

/// The plain MSRs of one vCPU.
#[derive(Clone, Debug)]
pub struct MsrFile([u64; SLOTS]);

impl MsrFile {
    /// After power-on, with feature MSRs that say this.
    pub fn new(features: &FeatureMsrs) -> Self {
        let mut file = Self([0; SLOTS]);
        file.put(Stored::Pat, PAT_RESET);
        file.put(Stored::MiscEnable, MISC_ENABLE_UNAVAILABLE);
        file.put(Stored::PlatformInfo, features.platform_info);
        file.put(Stored::UcodeRev, features.ucode_rev);
        file.put(Stored::ArchCapabilities, features.arch_capabilities);
        file.put(Stored::DeCfg, features.de_cfg);
        file.put(Stored::OsvwLength, 4);
        file
    }

    /// INIT leaves most registers alone; those that the architecture resets are
    /// reset (SDM volume 3 table 9-1).
    pub fn init(&mut self) {
        self.put(Stored::VirtSpecCtrl, 0);
    }

    /// The value, for whoever needs it.
    #[inline]
    pub fn get(&self, slot: Stored) -> u64 {
        self.0.get(slot as usize).copied().unwrap_or(0)
    }

    /// Counts an SMI.
    pub fn count_smi(&mut self) {
        self.put(Stored::SmiCount, self.get(Stored::SmiCount).wrapping_add(1));
    }

    /// A read after [`check_read`](crate::msr::check_read).
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] for PLATFORM_INFO when it is hidden from the guest.
    pub fn read(&self, slot: Stored, by: By, rules: &Rules) -> Result<u64, Refusal> {
        if slot == Stored::PlatformInfo && by == By::Guest && !rules.platform_info_readable {
            return Err(Refusal::Invalid);
        }
        Ok(self.get(slot))
    }

    /// A write after [`check_write`](crate::msr::check_write).
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] for a value that the register doesn't take.
    pub fn write(
        &mut self,
        slot: Stored,
        value: u64,
        context: &Context<'_>,
        rules: &Rules,
    ) -> Result<Effect, Refusal> {
        let old = self.get(slot);
        let value = self.checked(slot, value, context, rules)?;
        self.put(slot, value);
        if value == old {
            return Ok(Effect::None);
        }
        Ok(match slot {
            Stored::Pat => Effect::Pat,
            Stored::VirtSpecCtrl => Effect::VirtSpecCtrl,
            Stored::TscAux => Effect::TscAux,
            Stored::MiscEnable | Stored::MiscFeatures | Stored::Hwcr => Effect::Cpuid,
            _ => Effect::None,
        })
    }

    fn checked(
        &self,
        slot: Stored,
        value: u64,
        context: &Context<'_>,
        rules: &Rules,
    ) -> Result<u64, Refusal> {
        let guest = context.guest;
        let by_guest = context.by == By::Guest;
        let valid = match slot {
            Stored::Pat => is_valid_pat(value),
            Stored::MiscEnable => return self.misc_enable(value, context, rules),
            Stored::MiscFeatures => {
                let faults = self.get(Stored::PlatformInfo) & PLATFORM_CPUID_FAULT != 0;
                value & !if faults { CPUID_FAULT } else { 0 } == 0
            }
            // A microcode update "happens"; the revision doesn't change.
            Stored::UcodeRev if by_guest => return Ok(self.get(slot)),
            Stored::VirtSpecCtrl => value & !(1 << 2) == 0,
            Stored::TscAux if guest.is_amd() => return Ok(value & 0xffff_ffff),
            Stored::TscAux => value >> 32 == 0,
            Stored::Hwcr => return hwcr(value, guest.has(F::GP_ON_USER_CPUID)),
            Stored::MmioConfBase => value == 0,
            Stored::DeCfg => value & !rules.features.de_cfg == 0,
            Stored::PlatformInfo
            | Stored::UcodeRev
            | Stored::ArchCapabilities
            | Stored::SmiCount
            | Stored::PowerCtl
            | Stored::OsvwLength
            | Stored::OsvwStatus => true,
        };
        valid.then_some(value).ok_or(Refusal::Invalid)
    }

    /// The guest can't change what tells of missing monitoring; that monitoring
    /// is there is read-only without a fault.
    fn misc_enable(
        &self,
        value: u64,
        context: &Context<'_>,
        rules: &Rules,
    ) -> Result<u64, Refusal> {
        let old = self.get(Stored::MiscEnable);
        let mut value = value;
        if context.by == By::Guest {
            if (old ^ value) & MISC_ENABLE_UNAVAILABLE != 0 {
                return Err(Refusal::Invalid);
            }
            value = value & !MISC_ENABLE_EMON | old & MISC_ENABLE_EMON;
        }
        let mwait = (old ^ value) & MISC_ENABLE_MWAIT != 0;
        if mwait && !rules.no_mwait && !context.guest.has(F::SSE3) {
            return Err(Refusal::Invalid);
        }
        Ok(value)
    }

    fn put(&mut self, slot: Stored, value: u64) {
        if let Some(entry) = self.0.get_mut(slot as usize) {
            *entry = value;
        }
    }

    /// Whether CPUID faults at CPL 1 to 3. `cpl` 0 and SMM never do.
    #[inline]
    pub fn cpuid_faults(&self) -> bool {
        self.get(Stored::MiscFeatures) & CPUID_FAULT != 0
            || self.get(Stored::Hwcr) & HWCR_CPUID_USER_DIS != 0
    }
}

/// Whether all eight memory types exist: 0, 1, 4, 5, 6 and 7.
pub const fn is_valid_pat(value: u64) -> bool {
    const REPEAT: u64 = 0x0101_0101_0101_0101;
    // Types are three bits; of 2 and 3 only with bit 2 set, which are 6 and 7.
    let high = value & !(7 * REPEAT);
    let second = value & (2 * REPEAT);
    high == 0 && second << 1 & !value == 0
}

fn hwcr(value: u64, user_cpuid: bool) -> Result<u64, Refusal> {
    let value = value & !HWCR_IGNORED;
    let faults = if user_cpuid { HWCR_CPUID_USER_DIS } else { 0 };
    if value & !(HWCR_MC_STATUS_WRITE | HWCR_TSC_FREQ_SEL | faults) != 0 {
        return Err(Refusal::Invalid);
    }
    Ok(value)
}

/// Bits of IA32_ARCH_CAPABILITIES that guests can be told; the others promise
/// registers that they don't have (SDM volume 4 table 2-2).
pub const ARCH_CAPABILITIES_KNOWN: u64 = {
    // Immunities, and mitigations that need no register.
    const LOW: u64 = 0x1ff;
    const HIGH: u64 = 1 << 13 | 1 << 14 | 1 << 15 | 1 << 17 | 1 << 19 | 1 << 20;
    LOW | HIGH | 1 << 24 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 62
};

/// What IA32_ARCH_CAPABILITIES tells guests: what the host's does, and what the
/// host's kernel vouches for (`immune`).
///
/// Guests don't run into page-size changes of their own code: the host keeps
/// executable mappings small where that is needed (bit 6).
pub const fn arch_capabilities(host: u64, immune: u64) -> u64 {
    (host | immune) & ARCH_CAPABILITIES_KNOWN | 1 << 6
}
