// SPDX-License-Identifier: GPL-2.0
//! The walk through the guest's tables.

use super::fault::{Failed, PageFault};
use super::mode::{Access, Paging, Tables};
use crate::addr::Gpa;

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;

/// Guest memory, as far as walks need it.
pub trait GuestMemory {
    /// Why memory can't be read.
    type Error;

    /// Reads a 32-bit entry; `at` is aligned.
    ///
    /// # Errors
    ///
    /// The memory's.
    fn read_u32(&mut self, at: Gpa) -> Result<u32, Self::Error>;

    /// Reads a 64-bit entry; `at` is aligned.
    ///
    /// # Errors
    ///
    /// The memory's.
    fn read_u64(&mut self, at: Gpa) -> Result<u64, Self::Error>;

    /// Sets bits of the low 32 of an entry that was read as `old`, atomically;
    /// whether it was still so. What can't be written may be left as it is.
    ///
    /// # Errors
    ///
    /// The memory's.
    fn set_bits(&mut self, at: Gpa, old: u32, bits: u32) -> Result<bool, Self::Error>;
}

/// Where an access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Guest physical address of the first byte.
    pub gpa: Gpa,
    /// Bytes of the page, a power of two.
    pub page_size: u64,
    /// Writes of the same kind would be allowed as well.
    pub writable: bool,
}

/// An entry and where it was read.
#[derive(Clone, Copy)]
struct Seen {
    at: Gpa,
    raw: u64,
}

/// Goes through the guest's tables for `address`, which is canonical, and sets
/// accessed and dirty bits as the processor would.
///
/// # Errors
///
/// [`Failed`].
pub fn translate<M: GuestMemory>(
    paging: &Paging,
    memory: &mut M,
    address: u64,
    access: Access,
) -> Result<Translation, Failed<M::Error>> {
    match paging.tables {
        Tables::None => Ok(Translation {
            gpa: Gpa::new(address & 0xffff_ffff),
            page_size: 4096,
            writable: true,
        }),
        Tables::Legacy { large } => {
            Walk { paging, memory, address: address & 0xffff_ffff, access }.legacy(large)
        }
        Tables::Pae { pointers } => {
            Walk { paging, memory, address: address & 0xffff_ffff, access }.pae(pointers)
        }
        Tables::Long4 => Walk { paging, memory, address, access }.long(39),
        Tables::Long5 => Walk { paging, memory, address, access }.long(48),
    }
}

struct Walk<'a, M> {
    paging: &'a Paging,
    memory: &'a mut M,
    address: u64,
    access: Access,
}

/// Rights along the way: the least of all entries.
#[derive(Clone, Copy)]
struct Rights {
    write: bool,
    user: bool,
    no_execute: bool,
}

impl Rights {
    const ALL: Self = Self { write: true, user: true, no_execute: false };

    #[inline(always)]
    fn with(self, entry: u64) -> Self {
        Self {
            write: self.write && entry & WRITE != 0,
            user: self.user && entry & USER != 0,
            no_execute: self.no_execute || entry & NO_EXECUTE != 0,
        }
    }
}

impl<M: GuestMemory> Walk<'_, M> {
    /// Two levels of 1024 entries, 32 bits each.
    fn legacy(mut self, large: bool) -> Result<Translation, Failed<M::Error>> {
        let directory = self.entry_32(self.paging.root(), 22)?;
        let rights = Rights::ALL.with(directory.raw);
        if large && directory.raw & LARGE != 0 {
            // PSE-36: bits 13 to 20 are bits 32 to 39 of the address.
            let high = (directory.raw >> 13 & 0xff) << 32;
            let base = directory.raw & 0xffc0_0000 | high;
            let reserved = directory.raw & 1 << 21 != 0 || base & !self.paging.address_mask() != 0;
            return self.finish(directory, base, 22, rights, reserved);
        }
        self.mark(directory, ACCESSED)?;
        let table = self.entry_32(Gpa::new(directory.raw & 0xffff_f000), 12)?;
        self.finish(table, table.raw & 0xffff_f000, 12, rights.with(table.raw), false)
    }

    /// Three levels; the first one in registers, without rights.
    fn pae(mut self, pointers: [u64; 4]) -> Result<Translation, Failed<M::Error>> {
        let [a, b, c, d] = pointers;
        let pointer = match self.address >> 30 {
            0 => a,
            1 => b,
            2 => c,
            _ => d,
        };
        if pointer & PRESENT == 0 {
            return Err(self.fault(PageFault::empty()));
        }
        let table = Gpa::new(pointer & self.paging.address_mask());
        self.levels(table, 21, Rights::ALL)
    }

    /// Four or five levels.
    fn long(mut self, shift: u32) -> Result<Translation, Failed<M::Error>> {
        self.levels(self.paging.root(), shift, Rights::ALL)
    }

    /// Levels of 512 entries, 64 bits each, from the one whose entries span
    /// `1 << shift` bytes.
    fn levels(
        &mut self,
        root: Gpa,
        top: u32,
        mut rights: Rights,
    ) -> Result<Translation, Failed<M::Error>> {
        let (address_mask, reserved) = (self.paging.address_mask(), self.reserved());
        let mut table = root;
        let mut shift = top;
        loop {
            let entry = self.entry_64(table, shift)?;
            rights = rights.with(entry.raw);
            let is_large = entry.raw & LARGE != 0 && shift != 12;
            let reserved =
                if is_large { reserved | self.reserved_in_large(shift) } else { reserved };
            let is_reserved = entry.raw & reserved != 0;
            if is_large || shift == 12 || is_reserved {
                let offset_mask = 1_u64.wrapping_shl(shift).wrapping_sub(1);
                let base = entry.raw & address_mask & !offset_mask;
                return self.finish(entry, base, shift, rights, is_reserved);
            }
            self.mark(entry, ACCESSED)?;
            table = Gpa::new(entry.raw & address_mask);
            shift = shift.wrapping_sub(9);
        }
    }

    /// Bits that must be zero in every 64-bit entry.
    fn reserved(&self) -> u64 {
        let mut mask = 0x000f_ffff_ffff_f000 & !self.paging.address_mask();
        if !self.paging.no_execute {
            mask |= NO_EXECUTE;
        }
        if matches!(self.paging.tables, Tables::Pae { .. }) {
            // Bits 52 to 62 are no software's here.
            mask |= 0x7ff << 52;
        }
        mask
    }

    /// Those of a page that spans `1 << shift` bytes; if there are none of that size, the
    /// bit that asks for it.
    fn reserved_in_large(&self, shift: u32) -> u64 {
        if shift == 21 || shift == 30 && self.paging.huge_pages {
            // The low bits of the address, but for PAT.
            1_u64.wrapping_shl(shift).wrapping_sub(1) & !0x1fff
        } else {
            LARGE
        }
    }

    /// Checks the rights, marks the last entry and gives the address.
    fn finish(
        &mut self,
        entry: Seen,
        base: u64,
        shift: u32,
        rights: Rights,
        reserved: bool,
    ) -> Result<Translation, Failed<M::Error>> {
        if reserved {
            return Err(self.fault(PageFault::PRESENT | PageFault::RESERVED));
        }
        if !self.is_allowed(rights) {
            return Err(self.fault(PageFault::PRESENT));
        }
        if self.key_forbids(entry.raw, rights) {
            return Err(self.fault(PageFault::PRESENT | PageFault::PROTECTION_KEY));
        }
        self.mark(entry, if self.access.write { ACCESSED | DIRTY } else { ACCESSED })?;
        let page_size = 1_u64.wrapping_shl(shift);
        let write = Access { write: true, fetch: false, ..self.access };
        let writable =
            Walk { access: write, memory: &mut *self.memory, ..*self }.is_allowed(rights);
        Ok(Translation {
            gpa: Gpa::new(base | self.address & page_size.wrapping_sub(1)),
            page_size,
            writable,
        })
    }

    /// The rules for user and supervisor, without protection keys.
    fn is_allowed(&self, rights: Rights) -> bool {
        let Self { paging, access, .. } = self;
        if access.fetch && paging.no_execute && rights.no_execute {
            return false;
        }
        if access.user {
            return rights.user && (rights.write || !access.write);
        }
        if access.fetch {
            return !(rights.user && paging.smep);
        }
        if rights.user && paging.smap && !access.smap_override {
            return false;
        }
        rights.write || !access.write || !paging.write_protect
    }

    /// Protection keys of user pages concern data only (SDM vol. 3, 5.6.2).
    fn key_forbids(&self, entry: u64, rights: Rights) -> bool {
        let Some(pkru) = self.paging.user_keys else { return false };
        let has_keys = matches!(self.paging.tables, Tables::Long4 | Tables::Long5);
        if self.access.fetch || !rights.user || !has_keys {
            return false;
        }
        // Two bits for each key: no access, no write.
        let key = (entry >> 59 & 0xf) as u32;
        let bits = pkru.wrapping_shr(key.wrapping_shl(1)) & 3;
        let heeds = self.access.user || self.paging.write_protect;
        bits & 1 != 0 || bits & 2 != 0 && self.access.write && heeds
    }

    /// The error code for this access, with `why` in it.
    fn fault(&self, why: PageFault) -> Failed<M::Error> {
        let mut code = why;
        code.set(PageFault::WRITE, self.access.write);
        code.set(PageFault::USER, self.access.user);
        let tells_fetch = self.paging.no_execute || self.paging.smep;
        code.set(PageFault::FETCH, self.access.fetch && tells_fetch);
        Failed::Guest(code)
    }

    fn entry_32(&mut self, table: Gpa, shift: u32) -> Result<Seen, Failed<M::Error>> {
        let index = self.address.wrapping_shr(shift) & 0x3ff;
        let at = Gpa::new(table.raw() | index << 2);
        let raw = u64::from(self.memory.read_u32(at).map_err(Failed::Memory)?);
        self.present(Seen { at, raw })
    }

    #[inline(always)]
    fn entry_64(&mut self, table: Gpa, shift: u32) -> Result<Seen, Failed<M::Error>> {
        let index = self.address.wrapping_shr(shift) & 0x1ff;
        let at = Gpa::new(table.raw() | index << 3);
        let raw = self.memory.read_u64(at).map_err(Failed::Memory)?;
        self.present(Seen { at, raw })
    }

    #[inline(always)]
    fn present(&self, entry: Seen) -> Result<Seen, Failed<M::Error>> {
        if entry.raw & PRESENT == 0 {
            return Err(self.fault(PageFault::empty()));
        }
        Ok(entry)
    }

    /// Sets accessed and dirty bits. An entry that changed meanwhile is left: the
    /// processor, too, may have seen either.
    #[inline(always)]
    fn mark(&mut self, entry: Seen, bits: u64) -> Result<(), Failed<M::Error>> {
        if entry.raw & bits != bits {
            let (old, bits) = (entry.raw as u32, bits as u32);
            let _ = self.memory.set_bits(entry.at, old, bits).map_err(Failed::Memory)?;
        }
        Ok(())
    }
}
