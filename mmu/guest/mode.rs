// SPDX-License-Identifier: GPL-2.0
//! Which page tables a guest uses, and with which rules.

use crate::addr::Gpa;

/// Kind of page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// None: linear addresses are physical ones, 32 bits wide.
    None,
    /// Two levels of 32-bit entries; `large`: CR4.PSE allows 4 MiB pages.
    Legacy {
        /// 4 MiB pages may be used.
        large: bool,
    },
    /// Three levels; the top one is four entries in registers, loaded with CR3.
    Pae {
        /// The four page-directory pointers.
        pointers: [u64; 4],
    },
    /// Four levels, 48 bits of linear address.
    Long4,
    /// Five levels, 57 bits of linear address.
    Long5,
}

/// The paging state of a vCPU, as far as walks depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// Kind of tables.
    pub tables: Tables,
    /// CR3.
    pub cr3: u64,
    /// CR0.WP: supervisor writes heed write protection.
    pub write_protect: bool,
    /// EFER.NXE: entries have a no-execute bit.
    pub no_execute: bool,
    /// CR4.SMEP: the supervisor may not fetch from user pages.
    pub smep: bool,
    /// CR4.SMAP: the supervisor may not touch data of user pages.
    pub smap: bool,
    /// CR4.PKE with PKRU: rights of the sixteen keys of user pages.
    pub user_keys: Option<u32>,
    /// Physical address bits of the guest's processor, 32 to 52.
    pub physical_bits: u32,
    /// The guest's processor has 1 GiB pages.
    pub huge_pages: bool,
}

/// An access to translate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// A write.
    pub write: bool,
    /// An instruction fetch.
    pub fetch: bool,
    /// With the rights of user mode (CPL 3, and not implicitly the
    /// supervisor's, as for descriptor tables).
    pub user: bool,
    /// RFLAGS.AC of an explicit supervisor access: SMAP doesn't apply.
    pub smap_override: bool,
}

impl Access {
    /// A supervisor's read.
    pub const READ: Self = Self { write: false, fetch: false, user: false, smap_override: false };
}

impl Paging {
    /// First table of a walk; for PAE there is none in memory.
    pub(super) const fn root(&self) -> Gpa {
        match self.tables {
            Tables::None | Tables::Pae { .. } => Gpa::new(0),
            Tables::Legacy { .. } => Gpa::new(self.cr3 & 0xffff_f000),
            Tables::Long4 | Tables::Long5 => Gpa::new(self.cr3 & self.address_mask()),
        }
    }

    /// Address bits that an entry can have.
    pub(super) const fn address_mask(&self) -> u64 {
        let bits = if self.physical_bits < 52 { self.physical_bits } else { 52 };
        (1_u64.wrapping_shl(bits).wrapping_sub(1)) & !0xfff
    }
}
