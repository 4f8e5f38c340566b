// SPDX-License-Identifier: GPL-2.0
//! Writes to XCR0 and IA32_XSS.
//!
//! SDM volume 1 section 13.3, volume 2 XSETBV; APM volume 2 section 11.5.2.

use crate::control::GeneralProtection;
use crate::guest_features::GuestFeatures;
use x86_defs::Xcr0;

/// AVX-512 states, which go together.
const AVX512: Xcr0 = Xcr0::OPMASK.union(Xcr0::ZMM_HI256).union(Xcr0::HI16_ZMM);
/// MPX states, which go together.
const MPX: Xcr0 = Xcr0::BNDREGS.union(Xcr0::BNDCSR);
/// AMX states, which go together.
const AMX: Xcr0 = Xcr0::TILE_CFG.union(Xcr0::TILE_DATA);

/// XCR0 after reset: x87 only, also where there is no XSAVE.
pub const XCR0_RESET: u64 = 1;

/// Checks XSETBV and `KVM_SET_XCRS`. (XSETBV needs CPL 0 and CR4.OSXSAVE as
/// well.)
///
/// # Errors
///
/// #GP for a register other than XCR0; without x87; for states the guest doesn't
/// have; for a part of a group, or a state without the one it extends.
pub fn check_xcr(index: u32, value: u64, guest: &GuestFeatures) -> Result<(), GeneralProtection> {
    let Some(xcr0) = Xcr0::from_bits(value) else { return Err(GeneralProtection) };
    let whole = |group: Xcr0| !xcr0.intersects(group) || xcr0.contains(group);
    let valid = index == 0
        && xcr0.contains(Xcr0::X87)
        && value & !(guest.xcr0 | Xcr0::X87.bits()) == 0
        && (xcr0.contains(Xcr0::SSE) || !xcr0.contains(Xcr0::YMM))
        && (xcr0.contains(Xcr0::YMM) || !xcr0.intersects(AVX512))
        && whole(AVX512)
        && whole(MPX)
        && whole(AMX);
    valid.then_some(()).ok_or(GeneralProtection)
}

/// Checks a write of IA32_XSS.
///
/// # Errors
///
/// #GP for states the guest doesn't have.
pub fn check_xss(value: u64, guest: &GuestFeatures) -> Result<(), GeneralProtection> {
    if value & !guest.xss == 0 {
        Ok(())
    } else {
        Err(GeneralProtection)
    }
}
