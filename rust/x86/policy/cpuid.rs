// SPDX-License-Identifier: GPL-2.0
//! What the CPUID instruction returns, and entries of the ABI's CPUID tables.
//!
//! Intel SDM volume 2 CPUID, AMD APM volume 3 appendix E.

use kvm_uapi::x86::CpuidEntry2;

/// `KVM_CPUID_FLAG_SIGNIFCANT_INDEX`: the entry answers for its subleaf only.
pub const SIGNIFICANT_INDEX: u32 = 1;

/// How many entries a table may have (`KVM_MAX_CPUID_ENTRIES`).
pub const MAX_ENTRIES: usize = 256;

/// A register that CPUID writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reg {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

/// The four registers that CPUID writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidRegs {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

impl CpuidRegs {
    /// What a leaf that isn't there returns.
    pub const ZERO: Self = Self { eax: 0, ebx: 0, ecx: 0, edx: 0 };

    /// One of the registers.
    #[inline]
    pub const fn get(&self, reg: Reg) -> u32 {
        match reg {
            Reg::Eax => self.eax,
            Reg::Ebx => self.ebx,
            Reg::Ecx => self.ecx,
            Reg::Edx => self.edx,
        }
    }

    /// Replaces one of the registers.
    #[inline]
    pub fn set(&mut self, reg: Reg, value: u32) {
        match reg {
            Reg::Eax => self.eax = value,
            Reg::Ebx => self.ebx = value,
            Reg::Ecx => self.ecx = value,
            Reg::Edx => self.edx = value,
        }
    }

    /// What an entry of a table answers.
    #[inline]
    pub const fn of(entry: &CpuidEntry2) -> Self {
        Self { eax: entry.eax, ebx: entry.ebx, ecx: entry.ecx, edx: entry.edx }
    }

    /// The entry of a table that answers this, with the flag that says whether
    /// the subleaf counts.
    pub const fn entry(&self, function: u32, index: u32) -> CpuidEntry2 {
        CpuidEntry2 {
            function,
            index,
            flags: if is_indexed(function) { SIGNIFICANT_INDEX } else { 0 },
            eax: self.eax,
            ebx: self.ebx,
            ecx: self.ecx,
            edx: self.edx,
            padding: [0; 3],
        }
    }
}

/// Whether the architecture gives the leaf subleaves, chosen by ECX.
pub const fn is_indexed(function: u32) -> bool {
    matches!(
        function,
        4 | 7
            | 0xb
            | 0xd
            | 0xf
            | 0x10
            | 0x12
            | 0x14
            | 0x17
            | 0x18
            | 0x1d
            | 0x1e
            | 0x1f
            | 0x23
            | 0x24
            | 0x8000_001d
    )
}

/// Who made the processor, by the twelve letters of leaf 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CpuVendor {
    /// "GenuineIntel".
    Intel,
    /// "AuthenticAMD", and the older "AMDisbetter!".
    Amd,
    /// "HygonGenuine": AMD's rules.
    Hygon,
    /// Anybody else: Intel's rules, as Centaur and Zhaoxin follow them.
    #[default]
    Other,
}

impl CpuVendor {
    /// The vendor that leaf 0 names.
    pub const fn of(leaf0: &CpuidRegs) -> Self {
        match (leaf0.ebx, leaf0.edx, leaf0.ecx) {
            (0x756e_6547, 0x4965_6e69, 0x6c65_746e) => Self::Intel,
            (0x6874_7541, 0x6974_6e65, 0x444d_4163) | (0x6944_4d41, 0x7465_6273, 0x2172_6574) => {
                Self::Amd
            }
            (0x6f67_7948, 0x6e65_476e, 0x656e_6975) => Self::Hygon,
            _ => Self::Other,
        }
    }

    /// Whether AMD's rules hold where the two differ.
    #[inline]
    pub const fn is_amd(self) -> bool {
        matches!(self, Self::Amd | Self::Hygon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(name: &[u8; 12]) -> CpuidRegs {
        let word = |at: usize| u32::from_le_bytes(name[at..at + 4].try_into().unwrap());
        CpuidRegs { eax: 0, ebx: word(0), edx: word(4), ecx: word(8) }
    }

    #[test]
    fn vendors_by_their_letters() {
        assert_eq!(CpuVendor::of(&letters(b"GenuineIntel")), CpuVendor::Intel);
        assert_eq!(CpuVendor::of(&letters(b"AuthenticAMD")), CpuVendor::Amd);
        assert_eq!(CpuVendor::of(&letters(b"AMDisbetter!")), CpuVendor::Amd);
        assert_eq!(CpuVendor::of(&letters(b"HygonGenuine")), CpuVendor::Hygon);
        assert_eq!(CpuVendor::of(&letters(b"CentaurHauls")), CpuVendor::Other);
        assert!(CpuVendor::Hygon.is_amd() && !CpuVendor::Other.is_amd());
    }
}
