// SPDX-License-Identifier: GPL-2.0
//! Control, debug and extended control registers.

use crate::control::{is_valid_cr8, lmsw, pdptes_valid, Change, Control, PagingMode};
use crate::cpuid::CpuVendor;
use crate::debug::{write_dr6, write_dr7, DR6_RESET};
use crate::feature::{Feature as F, FeatureSet};
use crate::guest_features::GuestFeatures;
use crate::sregs::{check_sregs, check_sregs2, PDPTRS_VALID};
use crate::xcr::{check_xcr, check_xss};
use kvm_uapi::x86::{Sregs, Sregs2};
use proptest::prelude::*;
use std::vec::Vec;
use x86_defs::{Cr0, Cr4, Efer};
use zerocopy::FromZeros;

/// A guest with everything that has a bit in CR4, apart from LA57 and VMX.
fn guest() -> GuestFeatures {
    let cr4 = Cr4::all()
        .difference(Cr4::LA57 | Cr4::VMXE | Cr4::SMXE | Cr4::PKS | Cr4::UINTR | Cr4::LAM_SUP);
    GuestFeatures {
        features: FeatureSet::of(&[F::NX, F::LM, F::PCID]),
        vendor: CpuVendor::Amd,
        phys_bits: 40,
        xcr0: 0x2e7,
        xss: 0x1800,
        cr4_reserved: !cr4.bits(),
        efer_valid: (Efer::SCE | Efer::LME | Efer::LMA | Efer::NXE).bits(),
        ..GuestFeatures::none()
    }
}

fn long_mode() -> Control {
    Control {
        cr0: Cr0::PG | Cr0::PE | Cr0::WP | Cr0::ET,
        cr3: 0x1000,
        cr4: Cr4::PAE,
        efer: Efer::LME | Efer::LMA | Efer::NXE,
    }
}

fn pae() -> Control {
    Control { efer: Efer::empty(), ..long_mode() }
}

const PG: u64 = Cr0::PG.bits();
const PE: u64 = Cr0::PE.bits();

#[test]
fn paging_modes() {
    assert_eq!(Control::RESET.paging_mode(), PagingMode::Off);
    assert_eq!(pae().paging_mode(), PagingMode::Pae);
    assert_eq!(Control { cr4: Cr4::PSE, ..pae() }.paging_mode(), PagingMode::TwoLevel);
    assert_eq!(long_mode().paging_mode(), PagingMode::FourLevel);
    let five = Control { cr4: Cr4::PAE | Cr4::LA57, ..long_mode() };
    assert_eq!(five.paging_mode(), PagingMode::FiveLevel);
}

#[test]
fn cr0_faults() {
    let bad = |from: Control, value: u64, l| from.write_cr0(value, l).is_err();
    assert!(bad(Control::RESET, 1 << 32, false));
    assert!(bad(Control::RESET, Cr0::NW.bits(), false));
    assert!(bad(Control::RESET, PG, false));
    // Long mode without PAE, or in a 64-bit segment.
    let ready = Control { cr0: Cr0::PE, efer: Efer::LME, cr4: Cr4::PAE, ..Control::RESET };
    assert!(bad(Control { cr4: Cr4::empty(), ..ready }, PG | PE, false));
    assert!(bad(ready, PG | PE, true));
    assert!(!bad(ready, PG | PE, false));
    // Paging off: not in 64-bit mode, not with PCIDs.
    assert!(bad(long_mode(), PE, true));
    assert!(!bad(long_mode(), PE, false));
    let pcid = Control { cr4: Cr4::PAE | Cr4::PCIDE, ..long_mode() };
    assert!(bad(pcid, PE, false));
    let cet = Control { cr4: Cr4::PAE | Cr4::CET, ..long_mode() };
    assert!(bad(cet, PG | PE, true));
}

#[test]
fn entering_and_leaving_long_mode() {
    let ready = Control { cr0: Cr0::PE, efer: Efer::LME, cr4: Cr4::PAE, ..Control::RESET };
    let (on, change) = ready.write_cr0(PG | PE, false).unwrap();
    assert!(on.is_long() && on.cr0.contains(Cr0::ET));
    assert!(change.contains(Change::LONG_MODE | Change::PAGING | Change::PAGING_ON));
    assert!(!change.intersects(Change::LOAD_PDPTES | Change::FLUSH_ALL));
    let (off, change) = on.write_cr0(PE, false).unwrap();
    assert!(!off.is_long() && off.efer.contains(Efer::LME));
    assert!(change.contains(Change::LONG_MODE | Change::FLUSH_ALL | Change::PAGING));
}

#[test]
fn cr0_changes() {
    let value = long_mode().cr0.bits();
    assert_eq!(long_mode().write_cr0(value, true).unwrap().1, Change::empty());
    let (_, ts) = long_mode().write_cr0(value | Cr0::TS.bits(), true).unwrap();
    assert_eq!(ts, Change::empty());
    let (_, wp) = long_mode().write_cr0(value & !Cr0::WP.bits(), true).unwrap();
    assert_eq!(wp, Change::PAGING);
    let (_, cd) = long_mode().write_cr0(value | Cr0::CD.bits(), true).unwrap();
    assert_eq!(cd, Change::CACHING);
    let (_, cd) = pae().write_cr0(value | Cr0::CD.bits(), false).unwrap();
    assert_eq!(cd, Change::CACHING | Change::LOAD_PDPTES);
    let (new, _) = pae().write_cr0(value | 1 << 10, false).unwrap();
    assert_eq!(new, pae());
}

#[test]
fn cr3_rules() {
    let (new, change) = long_mode().write_cr3(0x5018, &guest()).unwrap();
    assert_eq!((new.cr3, change), (0x5018, Change::FLUSH_CURRENT));
    assert!(long_mode().write_cr3(1 << 40, &guest()).is_err());
    assert!(long_mode().write_cr3(1 << 63, &guest()).is_err());
    let pcid = Control { cr4: Cr4::PAE | Cr4::PCIDE, ..long_mode() };
    let (new, change) = pcid.write_cr3(1 << 63 | 0x5001, &guest()).unwrap();
    assert_eq!((new.cr3, change), (0x5001, Change::empty()));
    let (_, change) = pae().write_cr3(0x20, &guest()).unwrap();
    assert_eq!(change, Change::FLUSH_CURRENT | Change::LOAD_PDPTES);
    let lam = GuestFeatures { features: guest().features.with(F::LAM), ..guest() };
    assert!(long_mode().write_cr3(1 << 61 | 0x1000, &lam).is_ok());
    assert!(long_mode().write_cr3(1 << 61 | 0x1000, &guest()).is_err());
}

#[test]
fn cr4_rules() {
    let g = guest();
    let write = |from: Control, bits: Cr4| from.write_cr4(bits.bits(), &g);
    assert!(write(long_mode(), Cr4::PAE | Cr4::VMXE).is_err());
    assert!(long_mode().write_cr4(1 << 15 | 0x20, &g).is_err());
    assert!(write(long_mode(), Cr4::empty()).is_err());
    let five = GuestFeatures { cr4_reserved: 0, ..g };
    assert!(long_mode().write_cr4((Cr4::PAE | Cr4::LA57).bits(), &five).is_err());
    assert!(pae().write_cr4((Cr4::PAE | Cr4::LA57).bits(), &five).is_ok());
    // PCIDs need long mode and no PCID yet.
    assert!(write(long_mode(), Cr4::PAE | Cr4::PCIDE).is_ok());
    assert!(write(pae(), Cr4::PAE | Cr4::PCIDE).is_err());
    assert!(write(Control { cr3: 0x1001, ..long_mode() }, Cr4::PAE | Cr4::PCIDE).is_err());
    let no_wp = Control { cr0: Cr0::PG | Cr0::PE, ..long_mode() };
    assert!(write(no_wp, Cr4::PAE | Cr4::CET).is_err());
    assert!(write(long_mode(), Cr4::PAE | Cr4::CET).is_ok());
}

#[test]
fn cr4_changes() {
    let g = guest();
    let change = |from: Control, bits: Cr4| from.write_cr4(bits.bits(), &g).unwrap().1;
    assert_eq!(change(long_mode(), Cr4::PAE | Cr4::PGE), Change::FLUSH_ALL);
    let pcid = Control { cr4: Cr4::PAE | Cr4::PCIDE, ..long_mode() };
    assert_eq!(change(long_mode(), Cr4::PAE | Cr4::PCIDE), Change::empty());
    assert_eq!(change(pcid, Cr4::PAE), Change::FLUSH_ALL);
    let smep = Cr4::PAE | Cr4::SMEP;
    assert_eq!(change(long_mode(), smep), Change::FLUSH_CURRENT | Change::PAGING);
    assert_eq!(change(Control { cr4: smep, ..long_mode() }, Cr4::PAE), Change::PAGING);
    assert_eq!(change(long_mode(), Cr4::PAE | Cr4::OSXSAVE), Change::CPUID);
    assert_eq!(change(long_mode(), Cr4::PAE | Cr4::PKE), Change::CPUID | Change::PAGING);
    assert_eq!(change(long_mode(), Cr4::PAE | Cr4::TSD), Change::empty());
    let on = change(Control { cr4: Cr4::empty(), ..pae() }, Cr4::PAE);
    assert_eq!(on, Change::FLUSH_CURRENT | Change::PAGING | Change::LOAD_PDPTES);
    assert_eq!(change(pae(), Cr4::PAE | Cr4::PGE), Change::FLUSH_ALL | Change::LOAD_PDPTES);
}

#[test]
fn efer_rules() {
    let g = guest();
    let paging_off = Control { cr0: Cr0::PE, efer: Efer::empty(), ..long_mode() };
    let (new, change) = paging_off.write_efer(Efer::LME.bits(), &g).unwrap();
    assert_eq!((new.efer, change), (Efer::LME, Change::PAGING));
    // LMA follows paging, whatever is written.
    let (new, _) = paging_off.write_efer((Efer::LME | Efer::LMA).bits(), &g).unwrap();
    assert!(!new.is_long());
    let (new, change) = long_mode().write_efer((Efer::LME | Efer::SCE).bits(), &g).unwrap();
    assert_eq!((new.efer, change), (Efer::LME | Efer::LMA | Efer::SCE, Change::PAGING));
    assert!(long_mode().write_efer(0, &g).is_err());
    assert!(long_mode().set_efer(0, g.efer_valid).is_ok());
    assert!(paging_off.write_efer(Efer::SVME.bits(), &g).is_err());
    assert!(paging_off.set_efer(Efer::SVME.bits(), g.efer_valid).is_err());
}

#[test]
fn small_registers() {
    assert!(is_valid_cr8(15) && !is_valid_cr8(16) && !is_valid_cr8(1 << 40));
    assert_eq!(lmsw(Cr0::PG | Cr0::PE | Cr0::TS, 0), PG | PE);
    assert_eq!(lmsw(Cr0::ET, 0xffff), Cr0::ET.bits() | 0xf);
    let g = guest();
    assert!(pdptes_valid(&[0, 0x1001, 0x2019, 0x3e00 | 1], &g));
    assert!(pdptes_valid(&[!1, 0, 0, 0], &g));
    for reserved in [1u64 << 1, 1 << 5, 1 << 8, 1 << 40, 1 << 63] {
        assert!(!pdptes_valid(&[0, 0, 0, reserved | 1], &g), "{reserved:x}");
    }
    // Neither transactions nor bus-lock debugging: their bits read as one.
    assert_eq!(write_dr6(0, &g), Ok(DR6_RESET));
    assert_eq!(write_dr6(DR6_RESET | 0xe00f, &g), Ok(0xffff_efff));
    assert!(write_dr6(1 << 32, &g).is_err());
    assert_eq!(write_dr7(0), Ok(0x400));
    assert_eq!(write_dr7(0xffff_ffff), Ok(0xffff_2fff));
    assert!(write_dr7(1 << 63).is_err());
}

#[test]
fn xcr0_groups() {
    let g = guest();
    for good in [1, 3, 7, 0x201, 0xe7, 0x2e7] {
        assert!(check_xcr(0, good, &g).is_ok(), "{good:x}");
    }
    for bad in [0, 2, 5, 0x27, 0x67, 0xe3, 9, 0x19, 0x2_0001, 1 << 63 | 1, 0x101] {
        assert!(check_xcr(0, bad, &g).is_err(), "{bad:x}");
    }
    assert!(check_xcr(1, 1, &g).is_err());
    // x87 is always there, also without XSAVE.
    assert!(check_xcr(0, 1, &GuestFeatures::none()).is_ok());
    assert!(check_xss(0x1800, &g).is_ok() && check_xss(0x100, &g).is_err());
}

fn sregs_of(control: Control, cs_l: bool) -> Sregs {
    let mut sregs = Sregs::new_zeroed();
    sregs.cr0 = control.cr0.bits();
    sregs.cr3 = control.cr3;
    sregs.cr4 = control.cr4.bits();
    sregs.efer = control.efer.bits();
    sregs.cs.l = cs_l.into();
    sregs
}

#[test]
fn sregs_that_fit() {
    let g = guest();
    let fits = |control, l| check_sregs(&sregs_of(control, l), &g).is_ok();
    assert!(fits(Control::RESET, false));
    assert!(fits(long_mode(), true) && fits(long_mode(), false));
    assert!(fits(pae(), false) && !fits(pae(), true));
    assert!(!fits(Control { efer: Efer::LME, ..long_mode() }, false));
    assert!(!fits(Control { efer: Efer::LMA, ..pae() }, false));
    assert!(!fits(Control { cr4: Cr4::empty(), ..long_mode() }, false));
    assert!(!fits(Control { cr3: 1 << 40, ..long_mode() }, false));
    assert!(!fits(Control { cr4: Cr4::PAE | Cr4::VMXE, ..long_mode() }, false));
    assert!(!fits(Control { cr0: Cr0::PG, ..pae() }, false));
}

#[test]
fn sregs2_pointers_only_with_pae() {
    let g = guest();
    let mut sregs = Sregs2::new_zeroed();
    sregs.cr0 = PG | PE;
    sregs.cr4 = Cr4::PAE.bits();
    sregs.flags = PDPTRS_VALID;
    assert!(check_sregs2(&sregs, &g).is_ok());
    sregs.flags = 2;
    assert!(check_sregs2(&sregs, &g).is_err());
    sregs.flags = PDPTRS_VALID;
    sregs.cr4 = 0;
    assert!(check_sregs2(&sregs, &g).is_err());
}

proptest! {
    /// Whatever a guest writes in whatever order, its registers stay a state
    /// that `KVM_SET_SREGS` takes back.
    #[test]
    fn reachable_states_are_valid(writes in proptest::collection::vec((0u8..4, any::<u64>()), 1..200)) {
        let g = guest();
        let mut control = Control::RESET;
        let mut taken = Vec::new();
        for (register, random) in writes {
            // Mostly plausible values.
            let value = match register {
                0 => random & (PG | PE | Cr0::WP.bits() | Cr0::CD.bits() | Cr0::NW.bits()),
                1 => random & 0xff_ffff_f018,
                2 => random & !g.cr4_reserved,
                _ => random & g.efer_valid,
            };
            let result = match register {
                0 => control.write_cr0(value, false),
                1 => control.write_cr3(value, &g),
                2 => control.write_cr4(value, &g),
                _ => control.write_efer(value, &g),
            };
            if let Ok((new, change)) = result {
                prop_assert_eq!(
                    new.is_long() != control.is_long(), change.contains(Change::LONG_MODE));
                if new.paging_mode() != control.paging_mode() {
                    prop_assert!(change.contains(Change::PAGING));
                }
                control = new;
                taken.push((register, value));
            }
            prop_assert!(check_sregs(&sregs_of(control, false), &g).is_ok(), "{control:?} {taken:x?}");
        }
    }
}
