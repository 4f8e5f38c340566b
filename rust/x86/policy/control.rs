// SPDX-License-Identifier: GPL-2.0
//! Writes to CR0, CR3, CR4, CR8 and EFER: which ones fault, and what follows
//! from those that don't.
//!
//! A function takes the registers as they are and the value written, and returns
//! the registers as they will be with a [`Change`], or [`GeneralProtection`].
//! Nothing happens until the caller commits; where [`Change::LOAD_PDPTES`] is
//! set, it has to read the page-directory pointers first, and gives #GP instead
//! if one is invalid ([`pdptes_valid`]).
//!
//! SDM volume 3 sections 2.5, 4.4.1, 4.10.4.1, volume 2 MOV to control register;
//! APM volume 2 sections 3.1, 5.5.

use crate::feature::Feature as F;
use crate::guest_features::GuestFeatures;
use bitflags::bitflags;
use x86_defs::{Cr0, Cr3, Cr4, Efer};

/// The write faults with #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralProtection;

/// The registers that select how a vCPU runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// CR0.
    pub cr0: Cr0,
    /// CR3, as the guest reads it.
    pub cr3: u64,
    /// CR4.
    pub cr4: Cr4,
    /// EFER.
    pub efer: Efer,
}

/// How linear addresses are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagingMode {
    /// Not at all.
    Off,
    /// 32-bit entries in two levels.
    TwoLevel,
    /// 64-bit entries in three levels, four pointers held by the processor.
    Pae,
    /// Four levels.
    FourLevel,
    /// Five levels.
    FiveLevel,
}

/// What follows from a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change(u32);

bitflags! {
    impl Change: u32 {
        /// Walks of the guest's tables work in another way: the mode or the rights.
        const PAGING = 1;
        /// Translations of all PCIDs become invalid, global ones too.
        const FLUSH_ALL = 1 << 1;
        /// Translations of the current PCID that aren't global become invalid.
        const FLUSH_CURRENT = 1 << 2;
        /// The page-directory pointers have to be read from CR3 first.
        const LOAD_PDPTES = 1 << 3;
        /// CPUID answers differently.
        const CPUID = 1 << 4;
        /// Paging was turned on.
        const PAGING_ON = 1 << 5;
        /// EFER.LMA changed.
        const LONG_MODE = 1 << 6;
        /// CR0.CD or CR0.NW changed.
        const CACHING = 1 << 7;
    }
}

/// CR0 bits whose change reloads the page-directory pointers of PAE paging.
const CR0_RELOADS: Cr0 = Cr0::CD.union(Cr0::NW).union(Cr0::PG);
/// CR4 bits likewise.
const CR4_RELOADS: Cr4 = Cr4::PGE.union(Cr4::PSE).union(Cr4::PAE).union(Cr4::SMEP);
/// CR4 bits that a walk depends on.
const CR4_WALK: Cr4 =
    Cr4::PSE.union(Cr4::PAE).union(Cr4::LA57).union(Cr4::SMEP).union(Cr4::SMAP).union(Cr4::PKE);

impl Control {
    /// After power-on and INIT (SDM volume 3 table 9-1).
    pub const RESET: Self = Self {
        cr0: Cr0::CD.union(Cr0::NW).union(Cr0::ET),
        cr3: 0,
        cr4: Cr4::empty(),
        efer: Efer::empty(),
    };

    /// Whether long mode is active.
    #[inline]
    pub fn is_long(&self) -> bool {
        self.efer.contains(Efer::LMA)
    }

    /// Whether paging is on.
    #[inline]
    pub fn is_paging(&self) -> bool {
        self.cr0.contains(Cr0::PG)
    }

    /// Whether the processor holds page-directory pointers.
    #[inline]
    pub fn is_pae_paging(&self) -> bool {
        self.paging_mode() == PagingMode::Pae
    }

    /// How linear addresses are translated.
    pub fn paging_mode(&self) -> PagingMode {
        if !self.is_paging() {
            PagingMode::Off
        } else if !self.cr4.contains(Cr4::PAE) {
            PagingMode::TwoLevel
        } else if !self.is_long() {
            PagingMode::Pae
        } else if self.cr4.contains(Cr4::LA57) {
            PagingMode::FiveLevel
        } else {
            PagingMode::FourLevel
        }
    }

    /// MOV to CR0 and LMSW ([`lmsw`]). `cs_l` is the L bit of CS.
    ///
    /// Sets ET, ignores reserved bits in the low half, and keeps EFER.LMA in
    /// step with PG.
    ///
    /// # Errors
    ///
    /// #GP for a high half that isn't zero, NW without CD, PG without PE; turning
    /// on long mode without PAE or in a 64-bit segment; turning off paging in
    /// 64-bit mode or with PCIDs; clearing WP with CET on.
    pub fn write_cr0(self, value: u64, cs_l: bool) -> Result<(Self, Change), GeneralProtection> {
        if !is_valid_cr0(value) {
            return Err(GeneralProtection);
        }
        let cr0 = Cr0::from_bits_truncate(value) | Cr0::ET;
        let on = cr0.contains(Cr0::PG) && !self.is_paging();
        let off = !cr0.contains(Cr0::PG) && self.is_paging();
        let lme = self.efer.contains(Efer::LME);
        if on && lme && (!self.cr4.contains(Cr4::PAE) || cs_l) {
            return Err(GeneralProtection);
        }
        let pcid = self.cr4.contains(Cr4::PCIDE);
        if !cr0.contains(Cr0::PG) && (self.is_long() && cs_l || pcid) {
            return Err(GeneralProtection);
        }
        if !cr0.contains(Cr0::WP) && self.cr4.contains(Cr4::CET) {
            return Err(GeneralProtection);
        }

        let mut new = Self { cr0, ..self };
        let toggled = cr0 ^ self.cr0;
        let mut change = Change::empty();
        if on && lme || off && self.is_long() {
            new.efer.toggle(Efer::LMA);
            change |= Change::LONG_MODE;
        }
        change.set(Change::LOAD_PDPTES, new.is_pae_paging() && toggled.intersects(CR0_RELOADS));
        change.set(Change::FLUSH_ALL, off);
        change.set(Change::PAGING_ON, on);
        change.set(Change::PAGING, toggled.intersects(Cr0::PG | Cr0::WP));
        change.set(Change::CACHING, toggled.intersects(Cr0::CD | Cr0::NW));
        Ok((new, change))
    }

    /// MOV to CR3.
    ///
    /// With PCIDs, bit 63 asks to keep translations and isn't stored.
    ///
    /// # Errors
    ///
    /// #GP for bits beyond the guest's physical addresses.
    pub fn write_cr3(
        self,
        value: u64,
        guest: &GuestFeatures,
    ) -> Result<(Self, Change), GeneralProtection> {
        let pcid = self.cr4.contains(Cr4::PCIDE);
        let keep = pcid && value & Cr3::NO_FLUSH != 0;
        let cr3 = if pcid { value & !Cr3::NO_FLUSH } else { value };
        if !is_valid_cr3(cr3, guest) {
            return Err(GeneralProtection);
        }
        let new = Self { cr3, ..self };
        let mut change = Change::empty();
        change.set(Change::FLUSH_CURRENT, !keep);
        change.set(Change::LOAD_PDPTES, new.is_pae_paging());
        Ok((new, change))
    }

    /// MOV to CR4.
    ///
    /// # Errors
    ///
    /// #GP for bits that the guest doesn't have; in long mode for clearing PAE or
    /// changing LA57; for turning on PCIDs outside long mode or with a PCID in
    /// CR3; for CET without CR0.WP.
    pub fn write_cr4(
        self,
        value: u64,
        guest: &GuestFeatures,
    ) -> Result<(Self, Change), GeneralProtection> {
        if !is_valid_cr4(value, guest) {
            return Err(GeneralProtection);
        }
        let cr4 = Cr4::from_bits_truncate(value);
        let toggled = cr4 ^ self.cr4;
        let set = cr4.difference(self.cr4);
        let cleared = self.cr4.difference(cr4);
        if self.is_long() && (!cr4.contains(Cr4::PAE) || toggled.contains(Cr4::LA57)) {
            return Err(GeneralProtection);
        }
        let has_pcid = self.cr3 & Cr3::PCID_MASK != 0;
        if set.contains(Cr4::PCIDE) && (has_pcid || !self.is_long()) {
            return Err(GeneralProtection);
        }
        if cr4.contains(Cr4::CET) && !self.cr0.contains(Cr0::WP) {
            return Err(GeneralProtection);
        }

        let new = Self { cr4, ..self };
        let all = toggled.contains(Cr4::PGE) || cleared.contains(Cr4::PCIDE);
        let current = toggled.contains(Cr4::PAE) || set.contains(Cr4::SMEP);
        let mut change = Change::empty();
        change.set(Change::LOAD_PDPTES, new.is_pae_paging() && toggled.intersects(CR4_RELOADS));
        change.set(Change::PAGING, toggled.intersects(CR4_WALK));
        change.set(Change::FLUSH_ALL, all);
        change.set(Change::FLUSH_CURRENT, current && !all);
        change.set(Change::CPUID, toggled.intersects(Cr4::OSXSAVE | Cr4::PKE));
        Ok((new, change))
    }

    /// WRMSR to EFER by the guest. LMA can't be written.
    ///
    /// # Errors
    ///
    /// #GP for bits that the guest doesn't have, and for changing LME while
    /// paging is on.
    pub fn write_efer(
        self,
        value: u64,
        guest: &GuestFeatures,
    ) -> Result<(Self, Change), GeneralProtection> {
        let lme = (value ^ self.efer.bits()) & Efer::LME.bits() != 0;
        if value & !guest.efer_valid != 0 || self.is_paging() && lme {
            return Err(GeneralProtection);
        }
        Ok(self.with_efer(value))
    }

    /// `KVM_SET_MSRS` of EFER: userspace may set what some guest could
    /// ([`Supported::efer_valid`](crate::supported::Supported::efer_valid)), in any order with CR0.
    ///
    /// # Errors
    ///
    /// Other bits.
    pub fn set_efer(self, value: u64, valid: u64) -> Result<(Self, Change), GeneralProtection> {
        if value & !valid != 0 {
            return Err(GeneralProtection);
        }
        Ok(self.with_efer(value))
    }

    fn with_efer(self, value: u64) -> (Self, Change) {
        let lma = self.efer & Efer::LMA;
        let efer = Efer::from_bits_truncate(value).difference(Efer::LMA) | lma;
        let mut change = Change::empty();
        change.set(Change::PAGING, (efer ^ self.efer).intersects(Efer::LME | Efer::NXE));
        (Self { efer, ..self }, change)
    }
}

/// Whether CR0 can have this value, whatever the other registers hold.
pub fn is_valid_cr0(value: u64) -> bool {
    let cr0 = Cr0::from_bits_retain(value);
    value >> 32 == 0
        && (cr0.contains(Cr0::CD) || !cr0.contains(Cr0::NW))
        && (cr0.contains(Cr0::PE) || !cr0.contains(Cr0::PG))
}

/// Whether CR3 can have this value (without the no-flush bit).
pub fn is_valid_cr3(value: u64, guest: &GuestFeatures) -> bool {
    let lam = if guest.has(F::LAM) { Cr3::LAM_U48 | Cr3::LAM_U57 } else { 0 };
    guest.is_gpa(value & !lam)
}

/// Whether CR4 can have this value, whatever the other registers hold.
pub fn is_valid_cr4(value: u64, guest: &GuestFeatures) -> bool {
    value & guest.cr4_reserved == 0
}

/// Whether CR8 can have this value: a task priority.
pub const fn is_valid_cr8(value: u64) -> bool {
    value & !0xf == 0
}

/// The value of CR0 that LMSW writes: it can set PE and not clear it.
pub fn lmsw(cr0: Cr0, msw: u16) -> u64 {
    const WRITTEN: u64 = 0xe;
    cr0.bits() & !WRITTEN | u64::from(msw) & 0xf
}

/// Whether page-directory pointers can be loaded: the present ones have no
/// reserved bits (SDM volume 3 table 4-8).
pub fn pdptes_valid(pdptes: &[u64; 4], guest: &GuestFeatures) -> bool {
    const RESERVED: u64 = 0x1e6;
    let reserved = RESERVED | guest.gpa_reserved();
    pdptes.iter().all(|pdpte| pdpte & 1 == 0 || pdpte & reserved == 0)
}
