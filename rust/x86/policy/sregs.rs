// SPDX-License-Identifier: GPL-2.0
//! `KVM_SET_SREGS` and `KVM_SET_SREGS2`: do the registers fit each other?
//!
//! Documentation/virt/kvm/api.rst 4.12 and 4.132; APM volume 2 section 15.5.1.

use crate::control::{is_valid_cr0, is_valid_cr3, is_valid_cr4, Control};
use crate::guest_features::GuestFeatures;
use kvm_uapi::x86::{Sregs, Sregs2};
use x86_defs::{Cr0, Cr4, Efer};

/// `KVM_SREGS2_FLAGS_PDPTRS_VALID`: the structure holds the page-directory
/// pointers.
pub const PDPTRS_VALID: u64 = 1;

/// The registers contradict each other or the guest's CPUID: `-EINVAL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inconsistent;

/// Checks the control registers of [`Sregs`]. The APIC base is checked by the
/// local APIC.
///
/// # Errors
///
/// [`Inconsistent`].
pub fn check_sregs(sregs: &Sregs, guest: &GuestFeatures) -> Result<(), Inconsistent> {
    check(sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer, sregs.cs.l != 0, guest)
}

/// Checks the control registers and flags of [`Sregs2`].
///
/// # Errors
///
/// [`Inconsistent`], also for page-directory pointers without PAE paging.
pub fn check_sregs2(sregs: &Sregs2, guest: &GuestFeatures) -> Result<(), Inconsistent> {
    if sregs.flags & !PDPTRS_VALID != 0 {
        return Err(Inconsistent);
    }
    let registers = control(sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer);
    if sregs.flags & PDPTRS_VALID != 0 && !registers.is_pae_paging() {
        return Err(Inconsistent);
    }
    check(sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer, sregs.cs.l != 0, guest)
}

fn control(cr0: u64, cr3: u64, cr4: u64, efer: u64) -> Control {
    Control {
        cr0: Cr0::from_bits_retain(cr0),
        cr3,
        cr4: Cr4::from_bits_retain(cr4),
        efer: Efer::from_bits_retain(efer),
    }
}

fn check(
    cr0: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
    cs_l: bool,
    guest: &GuestFeatures,
) -> Result<(), Inconsistent> {
    let registers = control(cr0, cr3, cr4, efer);
    let modes = if registers.is_paging() && registers.efer.contains(Efer::LME) {
        registers.cr4.contains(Cr4::PAE) && registers.is_long() && is_valid_cr3(cr3, guest)
    } else {
        !registers.is_long() && !cs_l
    };
    let values = is_valid_cr0(cr0) && is_valid_cr4(cr4, guest) && efer & !guest.efer_valid == 0;
    (modes && values).then_some(()).ok_or(Inconsistent)
}
