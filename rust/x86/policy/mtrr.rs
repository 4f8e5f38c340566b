// SPDX-License-Identifier: GPL-2.0
//! Memory-type range registers: storage with rules. They have no effect on
//! mappings, as second-level tables hold memory types of their own.
//!
//! SDM volume 3 section 13.11; APM volume 2 section 7.7.

use crate::control::GeneralProtection;
use crate::guest_features::GuestFeatures;
use x86_defs::msr;

/// Variable ranges, each a base and a mask.
pub const VARIABLE: usize = 8;
/// MSRs of the variable ranges.
pub const VARIABLE_MSRS: u32 = 2 * VARIABLE as u32;
/// IA32_MTRRCAP: eight variable ranges, fixed ranges, write-combining.
pub const CAP: u64 = 1 << 10 | 1 << 8 | VARIABLE as u64;

const FIXED: usize = 11;

/// The registers of one vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mtrrs {
    variable: [u64; 2 * VARIABLE],
    fixed: [u64; FIXED],
    default_type: u64,
}

impl Mtrrs {
    /// Reads a register.
    ///
    /// # Errors
    ///
    /// #GP if it isn't one of these.
    pub fn read(&self, index: u32) -> Result<u64, GeneralProtection> {
        match place(index).ok_or(GeneralProtection)? {
            Place::Default => Ok(self.default_type),
            Place::Fixed(at) => self.fixed.get(at).copied().ok_or(GeneralProtection),
            Place::Variable(at) => self.variable.get(at).copied().ok_or(GeneralProtection),
        }
    }

    /// Writes a register.
    ///
    /// # Errors
    ///
    /// #GP for reserved bits and memory types that don't exist.
    pub fn write(
        &mut self,
        index: u32,
        value: u64,
        guest: &GuestFeatures,
    ) -> Result<(), GeneralProtection> {
        let slot = self.slot(index).ok_or(GeneralProtection)?;
        if !is_valid(index, value, guest) {
            return Err(GeneralProtection);
        }
        *slot = value;
        Ok(())
    }

    fn slot(&mut self, index: u32) -> Option<&mut u64> {
        match place(index)? {
            Place::Default => Some(&mut self.default_type),
            Place::Fixed(at) => self.fixed.get_mut(at),
            Place::Variable(at) => self.variable.get_mut(at),
        }
    }
}

/// Where a register is kept.
enum Place {
    Default,
    Fixed(usize),
    Variable(usize),
}

fn place(index: u32) -> Option<Place> {
    let from = |base: u32| index.checked_sub(base).map(|at| at as usize);
    match index {
        msr::MTRR_DEF_TYPE => Some(Place::Default),
        // One register of 64 KiB ranges, two of 16 KiB, eight of 4 KiB.
        msr::MTRR_FIX64K_00000 => Some(Place::Fixed(0)),
        0x258..=0x259 => from(0x257).map(Place::Fixed),
        0x268..=0x26f => from(0x265).map(Place::Fixed),
        0x200..=0x20f => from(msr::MTRR_PHYSBASE0).map(Place::Variable),
        _ => None,
    }
}

fn is_valid(index: u32, value: u64, guest: &GuestFeatures) -> bool {
    match index {
        // Enable bits 11 and 10, type 7:0.
        msr::MTRR_DEF_TYPE => value & !0xcff == 0 && is_type(value as u8),
        0x250..=0x26f => value.to_le_bytes().iter().all(|&kind| is_type(kind)),
        _ if index & 1 == 0 => value & (0xf00 | guest.gpa_reserved()) == 0 && is_type(value as u8),
        _ => value & (0x7ff | guest.gpa_reserved()) == 0,
    }
}

/// Uncacheable, write-combining, write-through, write-protected, write-back.
const fn is_type(kind: u8) -> bool {
    matches!(kind, 0 | 1 | 4 | 5 | 6)
}
