// SPDX-License-Identifier: GPL-2.0
//! Dynamic address translation, as a CPU does it for a guest's virtual address.

use crate::program::code;

/// An address-space-control element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asce(pub u64);

impl Asce {
    const REAL: u64 = 0x20;

    /// Type of the table that it designates: 3 region first, …, 0 segment.
    const fn kind(self) -> u32 {
        (self.0 >> 2 & 3) as u32
    }
}

/// What the guest may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Segments of 1 MiB (enhanced DAT 1, on in control register 0).
    pub edat1: bool,
    /// Regions of 2 GiB (enhanced DAT 2).
    pub edat2: bool,
}

/// Why an address has no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused<E> {
    /// A program interruption with this code.
    Program(u16),
    /// The tables couldn't be read.
    Memory(E),
}

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Real address.
    pub real: u64,
    /// Stores are refused (DAT protection).
    pub is_protected: bool,
}

/// Translates `address`. `read` gives the eight bytes at a real address of the
/// guest, `None` if there is no memory.
///
/// # Errors
///
/// [`Refused`].
pub fn translate<E>(
    asce: Asce,
    address: u64,
    features: Features,
    mut read: impl FnMut(u64) -> Result<Option<u64>, E>,
) -> Result<Place, Refused<E>> {
    if asce.0 & Asce::REAL != 0 {
        return Ok(Place { real: address, is_protected: false });
    }
    let mut kind = asce.kind();
    let reach = 31_u32.wrapping_add(kind.wrapping_mul(11));
    if reach < 64 && address.wrapping_shr(reach) != 0 {
        return Err(Refused::Program(code::ASCE_TYPE));
    }
    let mut entry = Entry { raw: asce.0, first: 0, last: asce.0 & 3 };
    let mut is_protected = false;
    loop {
        let shift = 20_u32.wrapping_add(kind.wrapping_mul(11));
        let index = address.wrapping_shr(shift) & 0x7ff;
        let missing = Refused::Program(missing(kind));
        if index >> 9 < entry.first || index >> 9 > entry.last {
            return Err(missing);
        }
        let at = (entry.raw & !0xfff).wrapping_add(index.wrapping_mul(8));
        let raw = fetch(&mut read, at)?;
        if raw & INVALID != 0 {
            return Err(missing);
        }
        if raw >> 2 & 3 != u64::from(kind) {
            return Err(Refused::Program(code::TRANSLATION_SPECIFICATION));
        }
        let has_large = match kind {
            0 => features.edat1,
            1 => features.edat2,
            _ => false,
        };
        is_protected |= (kind == 0 || features.edat1) && raw & PROTECTED != 0;
        if has_large && raw & LARGE != 0 {
            let offset = 1_u64.wrapping_shl(shift).wrapping_sub(1);
            let real = raw & !offset | address & offset;
            return Ok(Place { real, is_protected });
        }
        if kind == 0 {
            return page(raw, address, is_protected, read);
        }
        entry = Entry { raw, first: raw >> 6 & 3, last: raw & 3 };
        kind = kind.wrapping_sub(1);
    }
}

const INVALID: u64 = 0x20;
const PROTECTED: u64 = 0x200;
const LARGE: u64 = 0x400;

/// What designates a table, and the quarters of it that are there.
struct Entry {
    raw: u64,
    first: u64,
    last: u64,
}

/// The code for an invalid entry of a table of this kind.
const fn missing(kind: u32) -> u16 {
    match kind {
        0 => code::SEGMENT,
        1 => code::REGION_THIRD,
        2 => code::REGION_FIRST.wrapping_add(1),
        _ => code::REGION_FIRST,
    }
}

fn fetch<E>(
    read: &mut impl FnMut(u64) -> Result<Option<u64>, E>,
    at: u64,
) -> Result<u64, Refused<E>> {
    read(at).map_err(Refused::Memory)?.ok_or(Refused::Program(code::ADDRESSING))
}

/// The last step, through a page table.
fn page<E>(
    segment: u64,
    address: u64,
    is_protected: bool,
    mut read: impl FnMut(u64) -> Result<Option<u64>, E>,
) -> Result<Place, Refused<E>> {
    const PAGE_INVALID: u64 = 0x400;
    const RESERVED: u64 = 0x800;
    let at = (segment & !0x7ff).wrapping_add((address >> 12 & 0xff).wrapping_mul(8));
    let raw = fetch(&mut read, at)?;
    if raw & PAGE_INVALID != 0 {
        return Err(Refused::Program(code::PAGE));
    }
    if raw & RESERVED != 0 {
        return Err(Refused::Program(code::TRANSLATION_SPECIFICATION));
    }
    let is_protected = is_protected || raw & PROTECTED != 0;
    Ok(Place { real: raw & !0xfff | address & 0xfff, is_protected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn run(asce: u64, address: u64, memory: &[(u64, u64)]) -> Result<Place, Refused<()>> {
        let memory: BTreeMap<u64, u64> = memory.iter().copied().collect();
        let features = Features { edat1: true, edat2: false };
        translate(Asce(asce), address, features, |at| Ok(memory.get(&at).copied()))
    }

    #[test]
    fn three_levels() {
        // Region third at 0x4000, segment table at 0x8000, page table at 0xc800.
        let memory = [(0x4008, 0x8007), (0x8010, 0xc800), (0xc800 + 8 * 5, 0x1234_5200)];
        let place = run(0x4007, (1 << 31) + (2 << 20) + 0x5678, &memory);
        assert_eq!(place, Ok(Place { real: 0x1234_5678, is_protected: true }));
        assert_eq!(run(0x4007, 1 << 42, &memory), Err(Refused::Program(code::ASCE_TYPE)));
        // The table's entry isn't in memory.
        assert_eq!(run(0x4007, 0, &memory), Err(Refused::Program(code::ADDRESSING)));
        // Only the first quarter of the table is there.
        assert_eq!(run(0x4004, 512 << 31, &memory), Err(Refused::Program(code::REGION_THIRD)));
    }

    #[test]
    fn invalid_entries_and_large_segments() {
        let memory = [(0x8000, 0x20), (0x8008, 0x0070_0400), (0x8010, 0xc000), (0xc000, 0x400)];
        assert_eq!(run(0x8000, 0, &memory), Err(Refused::Program(code::SEGMENT)));
        let place = run(0x8000, 0x10_1234, &memory);
        assert_eq!(place, Ok(Place { real: 0x70_1234, is_protected: false }));
        assert_eq!(run(0x8000, 0x20_0000, &memory), Err(Refused::Program(code::PAGE)));
        assert_eq!(run(0x20, 0x1234, &[]), Ok(Place { real: 0x1234, is_protected: false }));
    }
}
