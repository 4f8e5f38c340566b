// SPDX-License-Identifier: GPL-2.0
//! The ring of coalesced writes (`KVM_CAP_COALESCED_MMIO`).
//!
//! One page: the indices of the first and one past the last entry, 32 bits each,
//! then the entries. Userspace takes entries at `first`, the kernel adds them at
//! `last`; one always stays free, so that full and empty differ. Userspace can
//! write anything into the page at any time.

/// Bytes of the page.
const PAGE: usize = 4096;
/// Offset of the first entry.
const HEAD: usize = 8;
/// Length of an entry in bytes.
pub const ENTRY: usize = 24;
/// Offset of the index of the oldest entry, which userspace moves.
pub const FIRST: usize = 0;
/// Offset of the index past the newest entry, which the kernel moves.
pub const LAST: usize = 4;
/// Number of entries.
pub const ENTRIES: u32 = ((PAGE - HEAD) / ENTRY) as u32;

/// Where the next entry goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its offset in the page.
    pub offset: usize,
    /// What `last` becomes.
    pub last: u32,
}

/// The place for an entry, given both indices; `None` if the ring is full, or
/// userspace has put something else there.
pub fn next(first: u32, last: u32) -> Option<Place> {
    if last >= ENTRIES {
        return None;
    }
    let after = match last.saturating_add(1) {
        ENTRIES => 0,
        after => after,
    };
    let offset = (last as usize).saturating_mul(ENTRY).saturating_add(HEAD);
    (after != first).then_some(Place { offset, last: after })
}

/// An entry for a write of up to 8 bytes; `None` for longer ones.
pub fn entry(address: u64, data: &[u8], is_port: bool) -> Option<[u8; ENTRY]> {
    let mut entry = [0; ENTRY];
    let (place, rest) = entry.split_first_chunk_mut::<8>()?;
    *place = address.to_ne_bytes();
    let (place, rest) = rest.split_first_chunk_mut::<4>()?;
    *place = u32::try_from(data.len()).ok()?.to_ne_bytes();
    let (place, rest) = rest.split_first_chunk_mut::<4>()?;
    *place = u32::from(is_port).to_ne_bytes();
    rest.get_mut(..data.len())?.copy_from_slice(data);
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_and_keeps_one_free() {
        assert_eq!(ENTRIES, 170);
        let (mut last, mut added) = (0, 0);
        while let Some(place) = next(0, last) {
            assert_eq!(place.offset, 8 + 24 * last as usize);
            assert!(place.offset + ENTRY <= PAGE);
            (last, added) = (place.last, added + 1);
        }
        assert_eq!(added, ENTRIES - 1);
        assert_eq!(next(1, ENTRIES - 1), Some(Place { offset: 8 + 24 * 169, last: 0 }));
        assert_eq!(next(0, ENTRIES - 1), None);
    }

    #[test]
    fn nonsense_from_userspace() {
        assert_eq!(next(0, ENTRIES), None);
        assert_eq!(next(0, u32::MAX), None);
        assert!(next(u32::MAX, 0).is_some());
    }

    #[test]
    fn an_entry() {
        let made = entry(0x1122, &[1, 2, 3], true).unwrap();
        assert_eq!(made[..8], 0x1122u64.to_ne_bytes());
        assert_eq!(made[8..12], 3u32.to_ne_bytes());
        assert_eq!(made[12..16], 1u32.to_ne_bytes());
        assert_eq!(made[16..], [1, 2, 3, 0, 0, 0, 0, 0]);
        assert_eq!(entry(0, &[0; 9], false), None);
    }
}
