// SPDX-License-Identifier: GPL-2.0
//! The CPUID table of one vCPU, as `KVM_SET_CPUID2` gives it: [`GuestCpuid`].
//!
//! Lookup goes through a small hash of the leaf: the answer to a CPUID exit is
//! found without walking the table. A few bits follow the vCPU's state; they are
//! patched into the answer ([`Runtime`]), so nothing has to be kept up to date
//! when that state changes.
//!
//! Intel SDM volume 2 CPUID; AMD APM volume 3 section E.3 and CPUID.

use crate::cpuid::{CpuVendor, CpuidRegs, MAX_ENTRIES, SIGNIFICANT_INDEX};
use crate::feature::Feature as F;
use crate::pv::{self, PvFeatures};
use crate::xstate::{XstateLayout, DYNAMIC};
use core::ops::{Deref, DerefMut};
use kvm_uapi::x86::CpuidEntry2;

/// Number of hash buckets; basic and extended leaves in use don't collide.
const BUCKETS: usize = 64;
/// Marks the end of a chain.
const END: u16 = u16::MAX;

/// Why a table is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// More than [`MAX_ENTRIES`]: `-E2BIG`.
    TooMany,
    /// Linear addresses of neither 48 nor 57 bits: `-EINVAL`.
    LinearBits,
}

/// State of a vCPU that CPUID shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// CR4.OSXSAVE.
    pub osxsave: bool,
    /// CR4.PKE.
    pub pke: bool,
    /// The enable bit of IA32_APIC_BASE.
    pub apic_enabled: bool,
    /// The MWAIT bit of IA32_MISC_ENABLE; `None` leaves the table's bit alone
    /// (`KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT`).
    pub mwait: Option<bool>,
    /// HLT doesn't exit, so nobody has to be woken.
    pub hlt_in_guest: bool,
    /// IA32_TSX_CTRL hides RTM and HLE.
    pub tsx_hidden: bool,
    /// XCR0.
    pub xcr0: u64,
    /// IA32_XSS.
    pub xss: u64,
}

/// A vCPU's table. `S` is the owner's storage, in the order that userspace gave; `N` that of
/// the chains, which only leaves that collide, or aren't there, lead through.
///
/// # Invariants
///
/// `heads` and `next` hold indices into the entries, or `END`; following
/// `next` from a head visits entries of ascending index.
#[derive(Clone, Debug)]
pub struct GuestCpuid<S, N> {
    entries: S,
    heads: [u16; BUCKETS],
    next: N,
    vendor: CpuVendor,
    /// The leaf that carries KVM's signature, 0 if none does.
    pv_base: u32,
}

impl<S: Deref<Target = [CpuidEntry2]>, N: DerefMut<Target = [u16]>> GuestCpuid<S, N> {
    /// Takes a table. `next` has room for as many numbers as there are entries; those in it
    /// don't matter.
    ///
    /// # Errors
    ///
    /// [`Refused`], by the rules of `KVM_SET_CPUID2`.
    pub fn new(entries: S, next: N) -> Result<Self, Refused> {
        if entries.len() > MAX_ENTRIES {
            return Err(Refused::TooMany);
        }
        let mut this =
            Self { entries, heads: [END; BUCKETS], next, vendor: CpuVendor::Other, pv_base: 0 };
        this.link();
        if let Some(sizes) = this.find(0x8000_0008, 0) {
            if !matches!(sizes.eax >> 8 & 0xff, 0 | 48 | 57) {
                return Err(Refused::LinearBits);
            }
        }
        if let Some(leaf0) = this.find(0, 0) {
            this.vendor = CpuVendor::of(&CpuidRegs::of(leaf0));
        }
        this.pv_base = this.find_signature();
        Ok(this)
    }

    /// Builds the chains, from the last entry so that each starts with its first.
    fn link(&mut self) {
        let mut at = self.entries.len();
        for entry in self.entries.iter().rev() {
            at = at.wrapping_sub(1);
            if let (Some(head), Some(next), Ok(at)) = (
                self.heads.get_mut(bucket(entry.function)),
                self.next.get_mut(at),
                u16::try_from(at),
            ) {
                *next = *head;
                *head = at;
            }
        }
    }

    /// The first base of a hypervisor range with KVM's signature, or 0.
    fn find_signature(&self) -> u32 {
        (0x4000_0000..0x4001_0000)
            .step_by(0x100)
            .find(|&base| {
                self.find(base, 0).is_some_and(|leaf| pv::is_signature(&CpuidRegs::of(leaf)))
            })
            .unwrap_or(0)
    }

    /// The entries as userspace gave them.
    pub fn entries(&self) -> &[CpuidEntry2] {
        &self.entries
    }

    /// Gives the storage back.
    pub fn into_entries(self) -> S {
        self.entries
    }

    /// Who made the guest's processor.
    #[inline]
    pub fn vendor(&self) -> CpuVendor {
        self.vendor
    }

    /// The first entry for a leaf whose subleaf matches or doesn't count.
    #[inline]
    pub fn find(&self, function: u32, index: u32) -> Option<&CpuidEntry2> {
        let mut at = *self.heads.get(bucket(function))?;
        // The chains end; the bound is for a reader (and the compiler) to see it.
        for _ in 0..MAX_ENTRIES {
            let entry = self.entries.get(usize::from(at))?;
            if entry.function == function
                && (entry.flags & SIGNIFICANT_INDEX == 0 || entry.index == index)
            {
                return Some(entry);
            }
            at = *self.next.get(usize::from(at))?;
        }
        None
    }

    /// What the CPUID instruction returns.
    ///
    /// A leaf out of range is answered with the highest basic one where Intel's
    /// rules hold, with zeros where AMD's do. `now` is asked for leaves that show it only.
    #[inline]
    pub fn execute(
        &self,
        function: u32,
        index: u32,
        now: impl FnOnce() -> Runtime,
        layout: &XstateLayout,
    ) -> CpuidRegs {
        match self.find(function, index) {
            Some(entry) => self.patched(entry, now, layout),
            None => self.absent(function, index, now, layout),
        }
    }

    /// The same for what isn't in the table.
    #[inline(never)]
    fn absent(
        &self,
        function: u32,
        index: u32,
        now: impl FnOnce() -> Runtime,
        layout: &XstateLayout,
    ) -> CpuidRegs {
        let mut effective = function;
        if let Some(max_basic) = self.redirect(function) {
            effective = max_basic;
            if let Some(entry) = self.find(max_basic, index) {
                return self.patched(entry, now, layout);
            }
        }
        self.missing_subleaf(effective, index)
    }

    /// An exact answer, or `None` if the table has none for leaf and subleaf:
    /// for the emulator, which must know.
    pub fn exact(
        &self,
        function: u32,
        index: u32,
        now: &Runtime,
        layout: &XstateLayout,
    ) -> Option<CpuidRegs> {
        Some(self.patched(self.find(function, index)?, || *now, layout))
    }

    /// The leaf that answers for one out of range, if any does.
    fn redirect(&self, function: u32) -> Option<u32> {
        let max_basic = self.find(0, 0)?.eax;
        if self.vendor.is_amd() {
            return None;
        }
        let class = match function {
            0x4000_0000..=0x4fff_ffff => function & 0xffff_ff00,
            0xc000_0000.. => 0xc000_0000,
            _ => function & 0x8000_0000,
        };
        match self.find(class, 0) {
            Some(base) if function <= base.eax => None,
            _ => Some(max_basic),
        }
    }

    /// Subleaves of the topology leaves answer with their number and the x2APIC
    /// ID even where the table has no such level.
    fn missing_subleaf(&self, function: u32, index: u32) -> CpuidRegs {
        match function {
            0xb | 0x1f => match self.find(function, 1) {
                Some(level) => CpuidRegs { ecx: index & 0xff, edx: level.edx, ..CpuidRegs::ZERO },
                None => CpuidRegs::ZERO,
            },
            _ => CpuidRegs::ZERO,
        }
    }

    /// The entries as `KVM_GET_CPUID2` shows them.
    pub fn entries_now<'a>(
        &'a self,
        now: &'a Runtime,
        layout: &'a XstateLayout,
    ) -> impl Iterator<Item = CpuidEntry2> + 'a {
        self.entries.iter().map(move |entry| self.shown(entry, now, layout))
    }

    /// Whether `new` is what the vCPU already has, apart from bits that follow
    /// its state: the only tables that are accepted once it ran.
    pub fn is_same(&self, new: &[CpuidEntry2], now: &Runtime, layout: &XstateLayout) -> bool {
        self.entries.len() == new.len()
            && self.entries.iter().zip(new).all(|(old, new)| {
                let (old, new) = (self.shown(old, now, layout), self.shown(new, now, layout));
                (old.function, old.index, old.flags) == (new.function, new.index, new.flags)
                    && CpuidRegs::of(&old) == CpuidRegs::of(&new)
            })
    }

    /// States of XCR0 in the table that the process needs permission for.
    pub fn dynamic_states(&self) -> u64 {
        self.xcr0() & DYNAMIC.bits()
    }

    /// States that the table lets XCR0 enable.
    pub fn xcr0(&self) -> u64 {
        self.find(0xd, 0).map_or(0, |leaf| u64::from(leaf.eax) | u64::from(leaf.edx) << 32)
    }

    /// States that the table lets IA32_XSS enable.
    pub fn xss(&self) -> u64 {
        self.find(0xd, 1).map_or(0, |leaf| u64::from(leaf.ecx) | u64::from(leaf.edx) << 32)
    }

    /// KVM's features in the table.
    pub fn pv_features(&self, hlt_in_guest: bool) -> PvFeatures {
        let Some(leaf) = self.pv_leaf().and_then(|leaf| self.find(leaf, 0)) else {
            return PvFeatures::empty();
        };
        let mut features = PvFeatures::from_bits_retain(leaf.eax);
        if hlt_in_guest {
            features.remove(PvFeatures::PV_UNHALT);
        }
        features
    }

    fn pv_leaf(&self) -> Option<u32> {
        (self.pv_base != 0).then_some(self.pv_base | 1)
    }

    fn shown(&self, entry: &CpuidEntry2, now: &Runtime, layout: &XstateLayout) -> CpuidEntry2 {
        let mut regs = CpuidRegs::of(entry);
        self.patch_kept(entry, &mut regs, now, layout);
        let CpuidRegs { eax, ebx, ecx, edx } = regs;
        CpuidEntry2 { eax, ebx, ecx, edx, ..*entry }
    }

    #[inline]
    fn patched(
        &self,
        entry: &CpuidEntry2,
        now: impl FnOnce() -> Runtime,
        layout: &XstateLayout,
    ) -> CpuidRegs {
        let mut regs = CpuidRegs::of(entry);
        if !matches!(entry.function, 1 | 7 | 0xd) && Some(entry.function) != self.pv_leaf() {
            return regs;
        }
        let now = now();
        self.patch_kept(entry, &mut regs, &now, layout);
        if now.tsx_hidden && entry.function == 7 && entry.index == 0 {
            regs.ebx &= !(F::RTM.mask() | F::HLE.mask());
        }
        regs
    }

    /// Bits that follow the vCPU's state in the instruction and in
    /// `KVM_GET_CPUID2` alike.
    #[inline]
    fn patch_kept(
        &self,
        entry: &CpuidEntry2,
        regs: &mut CpuidRegs,
        now: &Runtime,
        layout: &XstateLayout,
    ) {
        match (entry.function, entry.index) {
            (1, _) => {
                put(&mut regs.ecx, F::OSXSAVE, now.osxsave);
                put(&mut regs.edx, F::APIC, now.apic_enabled);
                if let Some(mwait) = now.mwait {
                    put(&mut regs.ecx, F::MWAIT, mwait);
                }
            }
            (7, 0) => put(&mut regs.ecx, F::OSPKE, now.pke),
            (0xd, 0) => regs.ebx = layout.standard_size(now.xcr0),
            (0xd, 1) if regs.eax & (F::XSAVEC.mask() | F::XSAVES.mask()) != 0 => {
                regs.ebx = layout.compacted_size(now.xcr0 | now.xss);
            }
            (leaf, _) if now.hlt_in_guest && Some(leaf) == self.pv_leaf() => {
                regs.eax &= !PvFeatures::PV_UNHALT.bits();
            }
            _ => {}
        }
    }
}

#[inline]
fn put(word: &mut u32, feature: F, on: bool) {
    if on {
        *word |= feature.mask();
    } else {
        *word &= !feature.mask();
    }
}

/// Where the chain of a leaf starts. Basic leaves below 40h and extended ones
/// get a bucket each.
#[inline]
const fn bucket(function: u32) -> usize {
    ((function ^ function >> 26) & 63) as usize
}
