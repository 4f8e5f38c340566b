// SPDX-License-Identifier: GPL-2.0
//! CPUID features as types: [`Feature`], [`FeatureSet`], and how each feature
//! comes to a guest ([`Class`]).
//!
//! The features themselves are listed in `feature_table.rs`.

use crate::cpuid::{CpuidRegs, Reg};
use crate::feature_table::PLACES;
pub use crate::feature_table::{Word, WORDS};

/// One bit of a CPUID feature word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    word: Word,
    bit: u8,
}

impl Feature {
    /// Bit `bit` (0 to 31) of a word. The named constants are what one wants.
    pub const fn new(word: Word, bit: u8) -> Self {
        Self { word, bit: bit & 31 }
    }

    /// The word that holds it.
    pub const fn word(self) -> Word {
        self.word
    }

    /// The word with only this bit set.
    #[inline]
    pub const fn mask(self) -> u32 {
        1u32.wrapping_shl(self.bit as u32)
    }
}

/// What a feature needs before a guest may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing beyond what runs every guest: instructions that execute natively,
    /// state in XSAVE areas, bits whose rules this crate holds.
    Plain,
    /// Work outside this crate, which the vendor module reports as finished.
    Needs,
    /// Made by software, whatever the host's processor has; reported as finished
    /// in the same way.
    Emulated,
    /// A statement about the processor that the host's kernel may make where
    /// CPUID doesn't.
    Synthesized,
    /// Follows the guest's state, never reported.
    Runtime,
}

/// Where a word is found, and the classes of its bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) leaf: u32,
    pub(crate) subleaf: u32,
    pub(crate) reg: Reg,
    pub(crate) kernel_word: Option<u8>,
    pub(crate) plain: u32,
    pub(crate) needs: u32,
    pub(crate) emulated: u32,
    pub(crate) synthesized: u32,
}

/// The bit if the feature is of the class that is asked for.
pub(crate) const fn pick(want: Class, class: Class, bit: u8) -> u32 {
    if want as u8 == class as u8 {
        1u32.wrapping_shl(bit as u32)
    } else {
        0
    }
}

/// A set of features, at 32 bits per CPUID word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureSet([u32; WORDS]);

impl Default for FeatureSet {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl FeatureSet {
    /// No feature.
    pub const EMPTY: Self = Self([0; WORDS]);
    /// Every bit of every word.
    pub const ALL: Self = Self([u32::MAX; WORDS]);

    /// The set with these features and no others.
    pub fn of(features: &[Feature]) -> Self {
        let mut set = Self::EMPTY;
        for &feature in features {
            set.insert(feature);
        }
        set
    }

    /// What the host's CPUID reports.
    ///
    /// `cpuid` executes the instruction for a leaf and subleaf; leaves above the
    /// highest of their range count as zeros, as processors answer those with
    /// the contents of another leaf.
    pub fn of_host(cpuid: impl Fn(u32, u32) -> CpuidRegs) -> Self {
        let max_basic = cpuid(0, 0).eax;
        let max_extended = cpuid(0x8000_0000, 0).eax;
        let mut set = Self::EMPTY;
        for (word, place) in set.0.iter_mut().zip(&PLACES) {
            let max = if place.leaf < 0x8000_0000 { max_basic } else { max_extended };
            if place.leaf <= max {
                *word = cpuid(place.leaf, place.subleaf).get(place.reg);
            }
        }
        set
    }

    /// The features that the host's kernel left enabled, from its own
    /// `x86_capability` words. A word that the kernel doesn't keep, or keeps in
    /// a layout of its own, counts as all enabled.
    pub fn of_kernel(x86_capability: &[u32]) -> Self {
        let mut set = Self::ALL;
        for (word, place) in set.0.iter_mut().zip(&PLACES) {
            if let Some(index) = place.kernel_word {
                *word = x86_capability.get(usize::from(index)).copied().unwrap_or(u32::MAX);
            }
        }
        set
    }

    /// The features of a class.
    pub fn of_class(class: Class) -> Self {
        let mut set = Self::EMPTY;
        for (word, place) in set.0.iter_mut().zip(&PLACES) {
            *word = match class {
                Class::Plain => place.plain,
                Class::Needs => place.needs,
                Class::Emulated => place.emulated,
                Class::Synthesized => place.synthesized,
                Class::Runtime => 0,
            };
        }
        set
    }

    /// Whether the feature is in the set.
    #[inline]
    pub fn has(&self, feature: Feature) -> bool {
        self.word(feature.word) & feature.mask() != 0
    }

    /// All 32 bits of a word.
    #[inline]
    pub fn word(&self, word: Word) -> u32 {
        self.0.get(word as usize).copied().unwrap_or(0)
    }

    /// Replaces the bits of a word.
    pub fn set_word(&mut self, word: Word, bits: u32) {
        if let Some(slot) = self.0.get_mut(word as usize) {
            *slot = bits;
        }
    }

    /// Adds a feature.
    pub fn insert(&mut self, feature: Feature) {
        self.set_word(feature.word, self.word(feature.word) | feature.mask());
    }

    /// Takes a feature out.
    pub fn remove(&mut self, feature: Feature) {
        self.set_word(feature.word, self.word(feature.word) & !feature.mask());
    }

    /// Adds the feature or takes it out.
    pub fn set(&mut self, feature: Feature, on: bool) {
        if on {
            self.insert(feature);
        } else {
            self.remove(feature);
        }
    }

    /// The same set with a feature more.
    pub fn with(mut self, feature: Feature) -> Self {
        self.insert(feature);
        self
    }

    /// Features in both sets.
    pub fn and(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    /// Features in either set.
    pub fn or(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// Features that aren't in the other set.
    pub fn without(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    fn zip(&self, other: &Self, op: impl Fn(u32, u32) -> u32) -> Self {
        let mut set = *self;
        for (word, &bits) in set.0.iter_mut().zip(&other.0) {
            *word = op(*word, bits);
        }
        set
    }
}

impl Word {
    /// CPUID leaf, subleaf and register that hold this word.
    pub fn place(self) -> (u32, u32, Reg) {
        match PLACES.get(self as usize) {
            Some(place) => (place.leaf, place.subleaf, place.reg),
            None => (0, 0, Reg::Eax),
        }
    }

    /// Every word, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        crate::feature_table::ALL_WORDS.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lie_where_their_index_says() {
        for (index, word) in Word::all().enumerate() {
            assert_eq!(word as usize, index);
        }
        assert_eq!(Feature::PCID.word().place(), (1, 0, Reg::Ecx));
        assert_eq!(Feature::PCID.mask(), 1 << 17);
        assert_eq!(Feature::NX.word().place(), (0x8000_0001, 0, Reg::Edx));
        assert_eq!(Feature::XSAVES.word().place(), (0xd, 1, Reg::Eax));
    }

    #[test]
    fn no_bit_has_two_classes() {
        for place in &PLACES {
            let classes = [place.plain, place.needs, place.emulated, place.synthesized];
            let sum: u64 = classes.iter().map(|&bits| u64::from(bits)).sum();
            assert_eq!(sum, u64::from(classes.iter().fold(0, |a, b| a | b)), "{place:x?}");
        }
    }

    #[test]
    fn host_leaves_beyond_the_maximum_are_empty() {
        let host = |leaf, _| match leaf {
            0 => CpuidRegs { eax: 1, ..Default::default() },
            0x8000_0000 => CpuidRegs { eax: 0x8000_0001, ..Default::default() },
            _ => CpuidRegs { eax: !0, ebx: !0, ecx: !0, edx: !0 },
        };
        let set = FeatureSet::of_host(host);
        assert!(set.has(Feature::PCID) && set.has(Feature::NX));
        assert!(!set.has(Feature::SMEP) && !set.has(Feature::CLZERO));
    }

    #[test]
    fn kernel_words_hide_only_what_they_know() {
        let mut words = [u32::MAX; 22];
        words[4] = 0; // 1.ECX
        let set = FeatureSet::of_kernel(&words);
        assert!(!set.has(Feature::PCID) && set.has(Feature::SMEP));
        assert!(FeatureSet::of_kernel(&[]) == FeatureSet::ALL);
    }
}
