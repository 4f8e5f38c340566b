// SPDX-License-Identifier: GPL-2.0
//! Which eventfd a guest's write signals (`KVM_IOEVENTFD`).
//!
//! An entry names an address, and either takes writes of any length or of one
//! length; the latter may ask for one value. No two entries of a table take the
//! same write, which [`conflicts`] sees to, so a write has one entry or none and
//! is found by two binary searches.

/// What an entry takes. The order is that of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Where the write begins.
    pub address: u64,
    /// Its length in bytes; 0 takes any, and any value.
    pub length: u32,
    /// The value, in the guest's byte order; `None` takes any.
    pub data: Option<u64>,
}

/// An entry of a table.
pub trait Keyed {
    /// What it takes.
    fn key(&self) -> &Key;
}

impl Keyed for Key {
    fn key(&self) -> &Key {
        self
    }
}

/// The number that a write of 1, 2, 4 or 8 bytes writes; `None` for other lengths.
#[inline]
pub fn value(data: &[u8]) -> Option<u64> {
    Some(match *data {
        [byte] => u64::from(byte),
        [a, b] => u64::from(u16::from_ne_bytes([a, b])),
        [a, b, c, d] => u64::from(u32::from_ne_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        _ => return None,
    })
}

/// The entry of an ordered table that takes a write.
#[inline]
pub fn find<'a, E: Keyed>(entries: &'a [E], address: u64, data: &[u8]) -> Option<&'a E> {
    let here = at(entries, address)?;
    if let Some(any) = here.first().filter(|entry| entry.key().length == 0) {
        return Some(any);
    }
    let length = u32::try_from(data.len()).ok()?;
    let any = Key { address, length, data: None };
    let here = here.get(position(here, &any)..)?;
    if let Some(any) = here.first().filter(|entry| *entry.key() == any) {
        return Some(any);
    }
    let exact = Key { data: Some(value(data)?), ..any };
    here.get(position(here, &exact)).filter(|entry| *entry.key() == exact)
}

/// The entry that takes writes of any length at an address, for when the length
/// isn't known yet.
#[inline]
pub fn find_any_length<E: Keyed>(entries: &[E], address: u64) -> Option<&E> {
    at(entries, address)?.first().filter(|entry| entry.key().length == 0)
}

/// Whether there are entries for writes to an address.
#[inline]
pub fn is_any_at<E: Keyed>(entries: &[E], address: u64) -> bool {
    at(entries, address).is_some()
}

/// Whether an entry takes a write that one with this key would take as well.
pub fn conflicts<E: Keyed>(entries: &[E], key: &Key) -> bool {
    let same_address = |entry: &&E| entry.key().address == key.address;
    at(entries, key.address).is_some_and(|here| {
        here.iter().take_while(same_address).map(Keyed::key).any(|other| {
            let overlap = |a: Option<u64>, b: Option<u64>| a.is_none() || b.is_none() || a == b;
            other.length == 0
                || key.length == 0
                || other.length == key.length && overlap(other.data, key.data)
        })
    })
}

/// Where a key is in an ordered table, or belongs.
#[inline]
pub fn position<E: Keyed>(entries: &[E], key: &Key) -> usize {
    entries.partition_point(|entry| entry.key() < key)
}

/// The table from an address on; `None` if nothing is there.
#[inline]
fn at<E: Keyed>(entries: &[E], address: u64) -> Option<&[E]> {
    let from = entries.partition_point(|entry| entry.key().address < address);
    entries.get(from..).filter(|here| here.first().is_some_and(|e| e.key().address == address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn key(address: u64, length: u32, data: Option<u64>) -> Key {
        Key { address, length, data }
    }

    /// Adds keys one by one, leaving out those in the way of an earlier one.
    fn table(keys: &[Key]) -> Vec<Key> {
        let mut table = Vec::new();
        for key in keys {
            if !conflicts(&table, key) {
                table.insert(position(&table, key), *key);
            }
        }
        table
    }

    #[test]
    fn exact_any_value_and_any_length() {
        let table = table(&[
            key(0x10, 2, Some(7)),
            key(0x10, 2, Some(9)),
            key(0x10, 4, None),
            key(0x20, 0, None),
        ]);
        assert_eq!(table.len(), 4);
        let find = |address, data: &[u8]| find(&table, address, data).copied();
        assert_eq!(find(0x10, &7u16.to_ne_bytes()), Some(key(0x10, 2, Some(7))));
        assert_eq!(find(0x10, &8u16.to_ne_bytes()), None);
        assert_eq!(find(0x10, &[7]), None);
        assert_eq!(find(0x10, &1234u32.to_ne_bytes()), Some(key(0x10, 4, None)));
        assert_eq!(find(0x20, &[1, 2, 3]), Some(key(0x20, 0, None)));
        assert_eq!(find(0x11, &[7]), None);
        assert_eq!(find_any_length(&table, 0x20), Some(&key(0x20, 0, None)));
        assert_eq!(find_any_length(&table, 0x10), None);
        assert_eq!(super::find::<Key>(&[], 0, &[0]), None);
    }

    #[test]
    fn what_is_in_the_way() {
        let entries = [key(0x10, 2, Some(7)), key(0x20, 0, None), key(0x30, 4, None)];
        let conflicts = |address, length, data| conflicts(&entries, &key(address, length, data));
        assert!(conflicts(0x10, 2, Some(7)) && !conflicts(0x10, 2, Some(8)));
        assert!(conflicts(0x10, 2, None) && conflicts(0x10, 0, None) && !conflicts(0x10, 4, None));
        assert!(conflicts(0x20, 1, None) && conflicts(0x20, 0, None));
        assert!(conflicts(0x30, 4, Some(1)) && !conflicts(0x30, 8, Some(1)));
        assert!(!conflicts(0x31, 4, None));
    }

    #[test]
    fn a_value_wider_than_the_write_never_matches() {
        let table = table(&[key(0, 1, Some(0x107))]);
        assert_eq!(find(&table, 0, &[7]), None);
    }

    fn any_key() -> impl Strategy<Value = Key> {
        let length = prop::sample::select(std::vec![0u32, 1, 2, 4, 8]);
        (0u64..4, length, prop::option::of(0u64..4)).prop_map(|(address, length, data)| Key {
            address,
            length,
            data: if length == 0 { None } else { data },
        })
    }

    proptest! {
        #[test]
        fn agrees_with_trying_each(
            keys in prop::collection::vec(any_key(), 0..40),
            address in 0u64..5,
            size in prop::sample::select(std::vec![1usize, 2, 3, 4, 8]),
            number in 0u64..5,
        ) {
            let table = table(&keys);
            prop_assert!(table.windows(2).all(|pair| pair[0] < pair[1]));
            let mut data = std::vec![0; size];
            if cfg!(target_endian = "little") { data[0] = number as u8 } else { data[size - 1] = number as u8 }
            let takes = |key: &&Key| {
                key.address == address
                    && (key.length == 0
                        || key.length as usize == size
                            && key.data.is_none_or(|wanted| value(&data) == Some(wanted)))
            };
            let all: Vec<_> = table.iter().filter(takes).collect();
            prop_assert!(all.len() <= 1);
            prop_assert_eq!(find(&table, address, &data), all.first().copied());
        }
    }
}
