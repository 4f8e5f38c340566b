// SPDX-License-Identifier: GPL-2.0
//! Walks through tables that the tests lay out by hand.

use std::collections::BTreeMap;

use super::fault::{Failed, PageFault};
use super::mode::{Access, Paging, Tables};
use super::walk::{translate, GuestMemory, Translation};
use crate::addr::Gpa;

const P: u64 = 1;
const W: u64 = 2;
const U: u64 = 4;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NX: u64 = 1 << 63;

/// Words of 32 bits; what isn't there is no memory.
#[derive(Default)]
struct Words(BTreeMap<u64, u32>);

impl Words {
    fn put(&mut self, at: u64, entry: u64) {
        self.0.insert(at, entry as u32);
        self.0.insert(at + 4, (entry >> 32) as u32);
    }

    fn get(&self, at: u64) -> u64 {
        u64::from(self.0[&at]) | u64::from(self.0[&(at + 4)]) << 32
    }
}

impl GuestMemory for Words {
    type Error = u64;

    fn read_u32(&mut self, at: Gpa) -> Result<u32, u64> {
        self.0.get(&at.raw()).copied().ok_or(at.raw())
    }

    fn read_u64(&mut self, at: Gpa) -> Result<u64, u64> {
        let low = self.read_u32(at)?;
        Ok(u64::from(low) | u64::from(self.read_u32(Gpa::new(at.raw() + 4))?) << 32)
    }

    fn set_bits(&mut self, at: Gpa, old: u32, bits: u32) -> Result<bool, u64> {
        let word = self.0.get_mut(&at.raw()).ok_or(at.raw())?;
        let same = *word == old;
        if same {
            *word |= bits;
        }
        Ok(same)
    }
}

fn paging(tables: Tables) -> Paging {
    Paging {
        tables,
        cr3: 0x1000,
        write_protect: true,
        no_execute: true,
        smep: true,
        smap: true,
        user_keys: None,
        physical_bits: 40,
        huge_pages: true,
    }
}

const WRITE: Access = Access { write: true, ..Access::READ };
const FETCH: Access = Access { fetch: true, ..Access::READ };
const USER: Access = Access { user: true, ..Access::READ };

fn fault(bits: u32) -> Result<Translation, Failed<u64>> {
    Err(Failed::Guest(PageFault::from_bits_retain(bits)))
}

/// Four levels that lead to `leaf` for address 0x40_2010_0abc: indices 0, 256, 256 (of 1 GiB and
/// 2 MiB steps below), and so on.
fn long_tables(leaf: u64) -> (Words, u64) {
    let address = 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12 | 0xabc;
    let mut words = Words::default();
    words.put(0x1000 + 8, 0x2000 | P | W | U);
    words.put(0x2000 + 2 * 8, 0x3000 | P | W | U);
    words.put(0x3000 + 3 * 8, 0x4000 | P | W | U);
    words.put(0x4000 + 4 * 8, leaf);
    (words, address)
}

#[test]
fn without_tables_addresses_are_physical() {
    let mut words = Words::default();
    let found = translate(&paging(Tables::None), &mut words, 0x1_2345_6789, Access::READ).unwrap();
    assert_eq!(found.gpa, Gpa::new(0x2345_6789));
}

#[test]
fn four_levels_mark_what_they_use() {
    let (mut words, address) = long_tables(0x12_3000 | P | W);
    let found = translate(&paging(Tables::Long4), &mut words, address, WRITE).unwrap();
    assert_eq!(found.gpa, Gpa::new(0x12_3abc));
    assert_eq!((found.page_size, found.writable), (4096, true));
    for at in [0x1008, 0x2010, 0x3018] {
        assert_eq!(words.get(at) & (A | D), A);
    }
    assert_eq!(words.get(0x4020) & (A | D), A | D);
}

#[test]
fn reading_leaves_a_page_clean() {
    let (mut words, address) = long_tables(0x12_3000 | P | W);
    translate(&paging(Tables::Long4), &mut words, address, Access::READ).unwrap();
    assert_eq!(words.get(0x4020) & (A | D), A);
}

#[test]
fn five_levels_and_large_pages() {
    let mut words = Words::default();
    words.put(0x1000 + 5 * 8, 0x2000 | P | W);
    words.put(0x2000 + 8, 0x3000 | P | W);
    words.put(0x3000 + 2 * 8, 0x40_0000_0000 | P | W | LARGE);
    let address = 5 << 48 | 1 << 39 | 2 << 30 | 0x1234_5678;
    let found = translate(&paging(Tables::Long5), &mut words, address, Access::READ).unwrap();
    assert_eq!(found.gpa, Gpa::new(0x40_1234_5678));
    assert_eq!(found.page_size, 1 << 30);
    let without = Paging { huge_pages: false, ..paging(Tables::Long5) };
    assert_eq!(translate(&without, &mut words, address, Access::READ), fault(0b1001));
}

#[test]
fn legacy_tables_have_four_mebibyte_pages() {
    let mut words = Words::default();
    // PSE-36: bit 13 of the entry is bit 32 of the address.
    words.0.insert(0x1000 + 4 * 3, (0x0040_0000 | 1 << 13 | LARGE | P | W) as u32);
    words.0.insert(0x1000 + 4 * 4, (0x2000 | P | W) as u32);
    words.0.insert(0x2000 + 4 * 5, (0x9000 | P) as u32);
    let tables = paging(Tables::Legacy { large: true });
    let large = translate(&tables, &mut words, 3 << 22 | 0x12_3456, WRITE).unwrap();
    assert_eq!(large.gpa, Gpa::new(0x1_0052_3456));
    let small = translate(&tables, &mut words, 4 << 22 | 5 << 12 | 7, Access::READ).unwrap();
    assert_eq!((small.gpa, small.writable), (Gpa::new(0x9007), false));
    assert_eq!(translate(&tables, &mut words, 4 << 22 | 5 << 12, WRITE), fault(0b11));
    assert_eq!(
        translate(&tables, &mut words, 4 << 22 | 6 << 12, Access::READ),
        Err(Failed::Memory(0x2018))
    );
}

#[test]
fn pae_pointers_are_in_registers() {
    let mut words = Words::default();
    words.put(0x5000 + 8, 0x6000 | P | W | U);
    words.put(0x6000 + 2 * 8, 0x7000 | P | W | U | NX);
    let tables = paging(Tables::Pae { pointers: [0, 0, 0x5000 | P, 0] });
    let address = 2 << 30 | 1 << 21 | 2 << 12 | 0x10;
    let found = translate(&tables, &mut words, address, USER).unwrap();
    assert_eq!(found.gpa, Gpa::new(0x7010));
    let user_fetch = Access { fetch: true, ..USER };
    assert_eq!(translate(&tables, &mut words, address, user_fetch), fault(0b1_0101));
    assert_eq!(translate(&tables, &mut words, 0, Access::READ), fault(0));
    // Bit 52 is nobody's.
    words.put(0x6000 + 2 * 8, 0x7000 | P | 1 << 52);
    assert_eq!(translate(&tables, &mut words, address, Access::READ), fault(0b1001));
}

#[test]
fn rights_are_the_least_on_the_way() {
    let tables = paging(Tables::Long4);
    let user_write = Access { write: true, ..USER };
    for (leaf, access, expected) in [
        (P | W, USER, 0b101),
        (P | U, user_write, 0b111),
        (P, WRITE, 0b11),
        (P | W | NX, FETCH, 0b1_0001),
        // SMEP and SMAP
        (P | W | U, FETCH, 0b1_0001),
        (P | W | U, Access::READ, 0b1),
        (0, user_write, 0b110),
        // An address bit that the processor doesn't have.
        (P | 1 << 41, Access::READ, 0b1001),
    ] {
        let (mut words, address) = long_tables(0x12_3000 | leaf);
        assert_eq!(translate(&tables, &mut words, address, access), fault(expected), "{leaf:#x}");
        // A fault marks no page.
        assert_eq!(words.get(0x4020) & (A | D), 0);
    }
    let (mut words, address) = long_tables(0x12_3000 | P | W | U);
    let with_ac = Access { smap_override: true, ..Access::READ };
    assert!(translate(&tables, &mut words, address, with_ac).is_ok());
    let (mut words, address) = long_tables(0x12_3000 | P);
    let lax = Paging { write_protect: false, ..tables };
    assert!(translate(&lax, &mut words, address, WRITE).is_ok());
}

#[test]
fn keys_forbid_data_of_user_pages() {
    let leaf = 0x12_3000 | P | W | U | 3 << 59;
    let no_access = Paging { user_keys: Some(1 << 6), ..paging(Tables::Long4) };
    let no_write = Paging { user_keys: Some(2 << 6), ..no_access };
    let user_write = Access { write: true, ..USER };
    for (rules, access, expected) in [
        (no_access, USER, Some(0b10_0101)),
        (no_write, USER, None),
        (no_write, user_write, Some(0b10_0111)),
        (no_access, Access { fetch: true, ..USER }, None),
    ] {
        let (mut words, address) = long_tables(leaf);
        let result = translate(&rules, &mut words, address, access);
        match expected {
            Some(code) => assert_eq!(result, fault(code)),
            None => assert!(result.is_ok()),
        }
    }
}

#[test]
fn a_table_outside_memory_is_no_fault_of_the_guest() {
    let mut words = Words::default();
    let result = translate(&paging(Tables::Long4), &mut words, 0, Access::READ);
    assert_eq!(result, Err(Failed::Memory(0x1000)));
}
