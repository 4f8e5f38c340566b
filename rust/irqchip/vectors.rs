// SPDX-License-Identifier: GPL-2.0
//! [`VectorSet`]: a set of the 256 interrupt vectors.
//!
//! The local APIC's IRR, ISR and TMR are such sets (SDM vol. 3, 12.8.4), and so
//! is the list of vectors whose EOI the IOAPIC wants to see. A summary byte
//! says which of the eight 32-bit registers hold anything, so that the highest
//! vector costs two bit scans wherever it is.

/// Number of 32-bit registers that hold one set.
pub const WORDS: usize = 8;

/// A set of interrupt vectors.
///
/// # Invariants
///
/// Bit `i` of `filled` is set exactly when `words[i]` is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VectorSet {
    words: [u32; WORDS],
    filled: u8,
}

/// Register that holds `vector`, and its bit in that register.
#[inline]
const fn place(vector: u8) -> (usize, u32) {
    ((vector >> 5) as usize, 1u32.wrapping_shl(vector as u32))
}

impl VectorSet {
    /// The set without vectors.
    // INVARIANT: no word is filled and no bit says so.
    pub const EMPTY: Self = Self { words: [0; WORDS], filled: 0 };

    /// Adds `vector`; true when it wasn't in the set.
    #[inline]
    pub fn insert(&mut self, vector: u8) -> bool {
        let (index, bit) = place(vector);
        let Some(word) = self.words.get_mut(index) else { return false };
        let new = *word & bit == 0;
        *word |= bit;
        // INVARIANT: the word holds at least `bit` now.
        self.filled |= 1u8.wrapping_shl(index as u32);
        new
    }

    /// Takes `vector` out; true when it was in the set.
    #[inline]
    pub fn remove(&mut self, vector: u8) -> bool {
        let (index, bit) = place(vector);
        let Some(word) = self.words.get_mut(index) else { return false };
        let old = *word & bit != 0;
        *word &= !bit;
        if *word == 0 {
            // INVARIANT: the word has just become empty, or was before.
            self.filled &= !1u8.wrapping_shl(index as u32);
        }
        old
    }

    /// Puts `vector` in (`present`) or takes it out.
    #[inline]
    pub fn assign(&mut self, vector: u8, present: bool) {
        if present {
            self.insert(vector);
        } else {
            self.remove(vector);
        }
    }

    /// Whether `vector` is in the set.
    #[inline]
    pub fn contains(&self, vector: u8) -> bool {
        let (index, bit) = place(vector);
        self.words.get(index).is_some_and(|word| word & bit != 0)
    }

    /// The highest vector, which is the one of highest priority.
    #[inline]
    pub fn highest(&self) -> Option<u8> {
        let index = self.filled.checked_ilog2()?;
        let bit = self.words.get(index as usize)?.checked_ilog2()?;
        Some((index << 5 | bit) as u8)
    }

    /// Whether there is no vector in the set.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Register `index`: vectors `32 * index` to `32 * index + 31`. Zero when
    /// `index` is not below [`WORDS`].
    #[inline]
    pub fn word(&self, index: usize) -> u32 {
        self.words.get(index).copied().unwrap_or(0)
    }

    /// Sets register `index`; nothing when it is not below [`WORDS`].
    pub fn set_word(&mut self, index: usize, value: u32) {
        if let Some(word) = self.words.get_mut(index) {
            *word = value;
            // INVARIANT: `filled` follows the word's new value.
            let bit = 1u8.wrapping_shl(index as u32);
            if value == 0 {
                self.filled &= !bit;
            } else {
                self.filled |= bit;
            }
        }
    }

    /// Adds the vectors that `bits` has in register `index`.
    #[inline]
    pub fn merge_word(&mut self, index: usize, bits: u32) {
        self.set_word(index, self.word(index) | bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u8),
        Remove(u8),
        Word(usize, u32),
        Merge(usize, u32),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            any::<u8>().prop_map(Op::Insert),
            any::<u8>().prop_map(Op::Remove),
            (0..WORDS, prop_oneof![Just(0), any::<u32>()]).prop_map(|(i, w)| Op::Word(i, w)),
            (0..WORDS, any::<u32>()).prop_map(|(i, w)| Op::Merge(i, w)),
        ]
    }

    fn apply(model: &mut BTreeSet<u8>, index: usize, word: u32, clear: bool) {
        for bit in 0..32u32 {
            let vector = (index as u32 * 32 + bit) as u8;
            if word >> bit & 1 != 0 {
                model.insert(vector);
            } else if clear {
                model.remove(&vector);
            }
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(ops in prop::collection::vec(op(), 0..64)) {
            let mut set = VectorSet::EMPTY;
            let mut model = BTreeSet::new();
            for op in ops {
                match op {
                    Op::Insert(v) => prop_assert_eq!(set.insert(v), model.insert(v)),
                    Op::Remove(v) => prop_assert_eq!(set.remove(v), model.remove(&v)),
                    Op::Word(i, w) => { set.set_word(i, w); apply(&mut model, i, w, true); }
                    Op::Merge(i, w) => { set.merge_word(i, w); apply(&mut model, i, w, false); }
                }
                prop_assert_eq!(set.highest(), model.last().copied());
                prop_assert_eq!(set.is_empty(), model.is_empty());
                for v in 0..=255 {
                    prop_assert_eq!(set.contains(v), model.contains(&v));
                }
            }
        }
    }

    #[test]
    fn words_out_of_range_are_ignored() {
        let mut set = VectorSet::EMPTY;
        set.set_word(WORDS, 1);
        assert_eq!(set, VectorSet::EMPTY);
        assert_eq!(set.word(WORDS), 0);
    }
}
