// SPDX-License-Identifier: GPL-2.0
//! Which MSRs userspace lets a guest access (`KVM_X86_SET_MSR_FILTER`).

/// Words of the ioctl's structure.
pub const WORDS: usize = 1 + 3 * RANGES;
/// Words of 32 bits of the structure as 32-bit programs have it: their pointers take
/// one, and nothing is padded.
pub const COMPAT_WORDS: usize = 1 + 4 * RANGES;
/// Most ranges.
pub const RANGES: usize = 16;
/// Most bytes of a range's bitmap.
const MAX_BITMAP: u32 = 0x600;

/// What no range says anything of is denied.
const DEFAULT_DENY: u32 = 1;
/// A range is about reads, writes, or both.
const READ: u32 = 1;
const WRITE: u32 = 2;

/// A range as userspace describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// About reads, writes, or both.
    flags: u32,
    count: u32,
    base: u32,
    /// Address of its bitmap.
    pub bitmap: u64,
}

impl Described {
    /// Words of 64 bits in the bitmap.
    pub fn words(&self) -> usize {
        self.count.div_ceil(64) as usize
    }
}

/// The filter that userspace describes is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// The structure of a 32-bit program, as 64-bit programs have it.
pub fn from_compat(words: &[u32; COMPAT_WORDS]) -> [u64; WORDS] {
    let [flags, ranges @ ..] = words;
    let mut wide = [0; WORDS];
    let [head, rest @ ..] = &mut wide;
    *head = u64::from(*flags);
    for (to, from) in rest.chunks_exact_mut(3).zip(ranges.chunks_exact(4)) {
        if let ([sizes, base, bitmap], &[flags, count, index, address]) = (to, from) {
            *sizes = u64::from(flags) | u64::from(count) << 32;
            *base = index.into();
            *bitmap = address.into();
        }
    }
    wide
}

/// The ioctl's structure: whether the rest is allowed, and the ranges that aren't
/// empty.
///
/// # Errors
///
/// [`Invalid`].
pub fn parse(words: &[u64; WORDS]) -> Result<(bool, [Option<Described>; RANGES]), Invalid> {
    let [head, rest @ ..] = words;
    let flags = *head as u32;
    let mut ranges = [None; RANGES];
    for (slot, words) in ranges.iter_mut().zip(rest.chunks_exact(3)) {
        let &[sizes, base, bitmap] = words else { return Err(Invalid) };
        let range = Described {
            flags: sizes as u32,
            count: (sizes >> 32) as u32,
            base: base as u32,
            bitmap,
        };
        if range.count == 0 {
            continue;
        }
        let is_valid = range.flags & !(READ | WRITE) == 0 && range.flags != 0;
        if !is_valid || range.count.div_ceil(64).saturating_mul(8) > MAX_BITMAP {
            return Err(Invalid);
        }
        *slot = Some(range);
    }
    let allows = flags & DEFAULT_DENY == 0;
    let is_empty = ranges.iter().all(|range| range.is_none());
    // What denies all by default needs no range; what allows all filters nothing.
    if flags & !DEFAULT_DENY != 0 || is_empty && !allows {
        return Err(Invalid);
    }
    Ok((allows, ranges))
}

/// The filter, with bitmaps of type `B`.
#[derive(Clone, Debug)]
pub struct MsrFilter<B> {
    default: bool,
    ranges: [Option<(Described, B)>; RANGES],
}

impl<B: AsRef<[u64]>> MsrFilter<B> {
    /// A filter without ranges.
    pub fn new(default: bool) -> Self {
        Self { default, ranges: [const { None }; RANGES] }
    }

    /// Adds a range.
    pub fn add(&mut self, number: usize, range: Described, bitmap: B) {
        if let Some(slot) = self.ranges.get_mut(number) {
            *slot = Some((range, bitmap));
        }
    }

    /// Whether the guest may read or write an MSR, as far as userspace is concerned.
    /// The local APIC's registers aren't filtered.
    pub fn allows(&self, index: u32, is_write: bool) -> bool {
        if (0x800..=0x8ff).contains(&index) {
            return true;
        }
        let kind = if is_write { WRITE } else { READ };
        let of = |(range, bitmap): &(Described, B)| {
            let bit = index.wrapping_sub(range.base);
            if range.flags & kind == 0 || index < range.base || bit >= range.count {
                return None;
            }
            let word = bitmap.as_ref().get((bit / 64) as usize).copied().unwrap_or(0);
            Some(word.wrapping_shr(bit % 64) & 1 != 0)
        };
        self.ranges.iter().flatten().find_map(of).unwrap_or(self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(flags: u32, ranges: &[(u32, u32, u32)]) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        words[0] = flags.into();
        for (index, (flags, count, base)) in ranges.iter().enumerate() {
            words[1 + 3 * index] = u64::from(*flags) | u64::from(*count) << 32;
            words[2 + 3 * index] = (*base).into();
        }
        words
    }

    #[test]
    fn first_range_counts() {
        let (default, ranges) = parse(&described(0, &[(1, 65, 0x174), (3, 4, 0x174)])).unwrap();
        assert!(default && ranges[2].is_none());
        assert_eq!(ranges[0].unwrap().words(), 2);
        let mut filter = MsrFilter::new(default);
        filter.add(0, ranges[0].unwrap(), [0b10u64, 1]);
        filter.add(1, ranges[1].unwrap(), [0b01u64, 0]);
        assert!(!filter.allows(0x174, false) && filter.allows(0x175, false));
        assert!(filter.allows(0x174, true) && !filter.allows(0x175, true));
        assert!(filter.allows(0x174 + 64, false) && filter.allows(0x174 + 65, false));
        assert!(filter.allows(0x10, true));
    }

    #[test]
    fn refused() {
        assert!(parse(&described(2, &[(1, 1, 0)])).is_err());
        assert!(parse(&described(1, &[])).is_err());
        assert!(parse(&described(0, &[])).is_ok());
        assert!(parse(&described(0, &[(0, 1, 0)])).is_err());
        assert!(parse(&described(0, &[(4, 1, 0)])).is_err());
        assert!(parse(&described(0, &[(1, 0x600 * 8, 0)])).is_ok());
        assert!(parse(&described(0, &[(1, 0x600 * 8 + 1, 0)])).is_err());
    }
}
