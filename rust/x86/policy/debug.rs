// SPDX-License-Identifier: GPL-2.0
//! Writes to DR6 and DR7.
//!
//! SDM volume 3 sections 18.2.3 and 18.2.4; APM volume 2 section 13.1.1.

use crate::control::GeneralProtection;
use crate::feature::Feature as F;
use crate::guest_features::GuestFeatures;
use x86_defs::{Dr6, DR6_FIXED_1, DR7_FIXED_1};

/// Bits of DR6 that software changes.
const DR6_WRITABLE: u64 = 0x1_e80f;
/// Bits of DR7 that software changes.
const DR7_WRITABLE: u64 = 0xffff_2bff;

/// DR6 after reset.
pub const DR6_RESET: u64 = DR6_FIXED_1 | 1 << 16;
/// DR7 after reset.
pub const DR7_RESET: u64 = DR7_FIXED_1;

/// What DR6 holds after a write: bits that read as one do.
///
/// # Errors
///
/// #GP for a high half that isn't zero.
pub fn write_dr6(value: u64, guest: &GuestFeatures) -> Result<u64, GeneralProtection> {
    check(value)?;
    let mut fixed = DR6_FIXED_1 & !DR6_WRITABLE;
    if !guest.has(F::RTM) {
        fixed |= Dr6::RTM.bits();
    }
    if !guest.has(F::BUS_LOCK_DETECT) {
        fixed |= Dr6::BLD.bits();
    }
    Ok(value & DR6_WRITABLE | fixed)
}

/// What DR7 holds after a write.
///
/// # Errors
///
/// #GP for a high half that isn't zero.
pub fn write_dr7(value: u64) -> Result<u64, GeneralProtection> {
    check(value)?;
    Ok(value & DR7_WRITABLE | DR7_FIXED_1)
}

fn check(value: u64) -> Result<(), GeneralProtection> {
    if value >> 32 == 0 {
        Ok(())
    } else {
        Err(GeneralProtection)
    }
}
