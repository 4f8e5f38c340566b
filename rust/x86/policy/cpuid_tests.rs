// SPDX-License-Identifier: GPL-2.0
//! CPUID from the host's leaves to the guest's answers.

use crate::cpuid::{CpuVendor, CpuidRegs, MAX_ENTRIES, SIGNIFICANT_INDEX};
use crate::feature::{Class, Feature as F, FeatureSet};
use crate::guest_cpuid::{GuestCpuid, Refused, Runtime};
use crate::guest_features::GuestFeatures;
use crate::pv::PvFeatures;
use crate::supported::{HostCaps, Supported};
use crate::xstate::XSS_CET;
use kvm_uapi::x86::CpuidEntry2;
use proptest::prelude::*;
use std::{ops::Deref, vec, vec::Vec};
use x86_defs::{Cr4, Efer, Xcr0};

const AVX: u64 = 7;
const PKRU: u64 = 0x200;

/// A table with room of its own for the chains.
fn linked<S: Deref<Target = [CpuidEntry2]>>(
    entries: S,
) -> Result<GuestCpuid<S, Vec<u16>>, Refused> {
    let next = vec![0x5555; entries.len()];
    GuestCpuid::new(entries, next)
}

/// A made-up AMD processor with every feature bit set, AVX-512, PKRU and CET.
fn host(leaf: u32, subleaf: u32) -> CpuidRegs {
    let all = CpuidRegs { eax: !0, ebx: !0, ecx: !0, edx: !0 };
    let regs = |eax, ebx, ecx, edx| CpuidRegs { eax, ebx, ecx, edx };
    match (leaf, subleaf) {
        (0, _) => regs(0x10, 0x6874_7541, 0x444d_4163, 0x6974_6e65),
        (1, _) => regs(0x00a2_0f12, 0x0510_0800, !0, !0),
        (7, 0) => regs(1, !0, !0, !0),
        (7, _) => all,
        (0xd, 0) => regs(0x2e7, 832, 2696, 0),
        (0xd, 1) => regs(0xf, 832, 0x1800, 0),
        (0xd, 2) => regs(256, 576, 0, 0),
        (0xd, 5) => regs(64, 1088, 0, 0),
        (0xd, 6) => regs(512, 1152, 0, 0),
        (0xd, 7) => regs(1024, 1664, 0, 0),
        (0xd, 9) => regs(8, 2688, 0, 0),
        (0xd, 11) => regs(16, 0, 1, 0),
        (0xd, 12) => regs(24, 0, 1, 0),
        (0xd, _) => CpuidRegs::ZERO,
        (0x8000_0000, _) => regs(0x8000_0021, 0x6874_7541, 0x444d_4163, 0x6974_6e65),
        (0x8000_0008, _) => regs(0x0000_3030, !0, 0x0001_700f, 0x0001_0007),
        (0x8000_001d, n) if n < 4 => regs(0x121 + n, 1, 2, 3),
        (0x8000_001d, _) => CpuidRegs::ZERO,
        (0..=0x10, _) | (0x8000_0000..=0x8000_0021, _) => all,
        // What AMD does beyond the highest leaf is zeros; Intel repeats a leaf.
        _ => all,
    }
}

/// What the AMD module is to report in the end.
fn amd_caps() -> HostCaps {
    let finished = [
        F::XSAVE,
        F::RDTSCP,
        F::RDPID,
        F::INVPCID,
        F::UMIP,
        F::PKU,
        F::XSAVES,
        F::X2APIC,
        F::TSC_DEADLINE,
        F::TSC_ADJUST,
        F::HYPERVISOR,
        F::ARCH_CAPABILITIES,
    ];
    HostCaps {
        finished: FeatureSet::of(&finished),
        kernel: FeatureSet::ALL,
        synthesized: FeatureSet::EMPTY,
        xcr0: 0x2e7,
        xss: 0x1800,
        pv: PvFeatures::CLOCKSOURCE2 | PvFeatures::PV_UNHALT,
        tdp_levels: 4,
    }
}

fn supported_table(supported: &Supported) -> Vec<CpuidEntry2> {
    let mut table = Vec::new();
    supported
        .for_each(host, 0, |entry| {
            table.push(*entry);
            Ok::<(), ()>(())
        })
        .unwrap();
    table
}

fn find(table: &[CpuidEntry2], function: u32, index: u32) -> CpuidRegs {
    let is = |e: &&CpuidEntry2| e.function == function && e.index == index;
    CpuidRegs::of(table.iter().find(is).unwrap())
}

fn now() -> Runtime {
    Runtime {
        osxsave: false,
        pke: false,
        apic_enabled: true,
        mwait: None,
        hlt_in_guest: false,
        tsx_hidden: false,
        xcr0: 1,
        xss: 0,
    }
}

#[test]
fn supported_reports_what_is_finished_and_no_more() {
    let supported = Supported::new(host, &amd_caps());
    let table = supported_table(&supported);

    let ecx1 = find(&table, 1, 0).ecx;
    for feature in [F::X2APIC, F::TSC_DEADLINE, F::HYPERVISOR, F::XSAVE, F::AVX, F::PCID] {
        assert_ne!(ecx1 & feature.mask(), 0, "{feature:?}");
    }
    for feature in [F::VMX, F::MWAIT, F::OSXSAVE, F::PDCM] {
        assert_eq!(ecx1 & feature.mask(), 0, "{feature:?}");
    }
    assert_ne!(find(&table, 1, 0).edx & F::APIC.mask(), 0);
    assert_eq!(find(&table, 1, 0).ebx, 0x0800);
    assert_eq!(find(&table, 0x8000_0001, 0).ecx & F::SVM.mask(), 0);
    assert_ne!(find(&table, 0x8000_0001, 0).edx & F::RDTSCP.mask(), 0);
    assert_eq!(find(&table, 0x8000_000a, 0), CpuidRegs::ZERO);
    assert_eq!(find(&table, 0xa, 0), CpuidRegs::ZERO);
    assert_eq!(find(&table, 6, 0).eax, 4);
    assert_ne!(find(&table, 7, 0).ebx & F::TSC_ADJUST.mask(), 0);
    assert_eq!(find(&table, 7, 0).edx & F::SPEC_CTRL.mask(), 0);
    assert_ne!(find(&table, 7, 0).edx & F::ARCH_CAPABILITIES.mask(), 0);
    assert_eq!(find(&table, 0x4000_0000, 0).eax, 0x4000_0001);
    assert_eq!(find(&table, 0x4000_0001, 0).eax, 0x88);
    // 48 bits physical, 48 linear, 48 mapped.
    assert_eq!(find(&table, 0x8000_0008, 0).eax, 0x0030_3030);
}

#[test]
fn xstate_leaves_agree_with_each_other() {
    let mut caps = amd_caps();
    caps.finished.insert(F::SHSTK);
    let supported = Supported::new(host, &caps);
    let table = supported_table(&supported);
    assert_eq!(find(&table, 0xd, 0), CpuidRegs { eax: 0x2e7, ebx: 2696, ecx: 2696, edx: 0 });
    let one = find(&table, 0xd, 1);
    assert_eq!((one.eax, one.ecx), (0xf, XSS_CET as u32));
    // 576 + 256 + 64 + 512 + 1024 + 8 + 16 + 24
    assert_eq!(one.ebx, 2480);
    let listed: Vec<u32> = table.iter().filter(|e| e.function == 0xd).map(|e| e.index).collect();
    assert_eq!(listed, [0, 1, 2, 5, 6, 7, 9, 11, 12]);
    assert_eq!(find(&table, 0xd, 2), CpuidRegs { eax: 256, ebx: 576, ecx: 0, edx: 0 });
}

#[test]
fn without_xsave_nothing_that_needs_it() {
    let mut caps = amd_caps();
    caps.finished.remove(F::XSAVE);
    let supported = Supported::new(host, &caps);
    for feature in [F::AVX, F::AVX2, F::AVX512F, F::PKU, F::XSAVES, F::VAES, F::SHSTK] {
        assert!(!supported.has(feature), "{feature:?}");
    }
    assert!(supported.has(F::SSE2));
    let table = supported_table(&supported);
    assert_eq!(find(&table, 0xd, 0), CpuidRegs { eax: 0, ebx: 576, ecx: 576, edx: 0 });
    assert_eq!(table.iter().filter(|e| e.function == 0xd).count(), 1);
}

#[test]
fn without_avx512_state_no_avx512() {
    let caps = HostCaps { xcr0: AVX | PKRU, ..amd_caps() };
    let supported = Supported::new(host, &caps);
    assert!(supported.has(F::AVX2) && supported.has(F::PKU));
    assert!(!supported.has(F::AVX512F) && !supported.has(F::AVX512_VNNI));
    // 0x207 in the standard format ends where PKRU does.
    assert_eq!(find(&supported_table(&supported), 0xd, 0).ebx, 2696);
}

#[test]
fn the_kernel_can_hide_and_vouch() {
    let mut caps = amd_caps();
    caps.kernel.remove(F::SMEP);
    caps.synthesized.insert(F::TSA_SQ_NO);
    let quiet = |leaf, subleaf| match leaf {
        0x8000_0021 => CpuidRegs::ZERO,
        _ => host(leaf, subleaf),
    };
    let supported = Supported::new(quiet, &caps);
    assert!(!supported.has(F::SMEP) && supported.has(F::SMAP));
    assert!(supported.has(F::TSA_SQ_NO) && !supported.has(F::TSA_L1_NO));
}

#[test]
fn subleaves_carry_the_flag_and_stop() {
    let table = supported_table(&Supported::new(host, &amd_caps()));
    for entry in &table {
        let indexed = crate::cpuid::is_indexed(entry.function);
        assert_eq!(entry.flags & SIGNIFICANT_INDEX != 0, indexed, "{:x}", entry.function);
        assert_eq!(entry.padding, [0; 3]);
    }
    let caches: Vec<u32> =
        table.iter().filter(|e| e.function == 0x8000_001d).map(|e| e.index).collect();
    assert_eq!(caches, [0, 1, 2, 3, 4]);
    assert_eq!(table.iter().filter(|e| e.function == 7).count(), 2);
    let mut seen: Vec<(u32, u32)> = table.iter().map(|e| (e.function, e.index)).collect();
    seen.sort_unstable();
    let count = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), count);
    assert!(count <= MAX_ENTRIES);
}

#[test]
fn a_full_buffer_stops_the_table() {
    let supported = Supported::new(host, &amd_caps());
    let mut room = 5;
    let result = supported.for_each(host, 0, |_| {
        room -= 1;
        if room < 0 {
            Err("full")
        } else {
            Ok(())
        }
    });
    assert_eq!((result, room), (Err("full"), -1));
}

#[test]
fn emulated_table() {
    let supported = Supported::new(host, &amd_caps());
    let mut table = Vec::new();
    supported
        .for_each_emulated(&FeatureSet::of(&[F::MOVBE, F::RDPID, F::AES]), |entry| {
            table.push(*entry);
            Ok::<(), ()>(())
        })
        .unwrap();
    assert_eq!(table.len(), 3);
    assert_eq!(find(&table, 0, 0).eax, 7);
    assert_eq!(find(&table, 1, 0).ecx, F::MOVBE.mask());
    assert_eq!(find(&table, 7, 0).ecx, F::RDPID.mask());
    assert_eq!(table[2].flags, SIGNIFICANT_INDEX);
}

#[test]
fn guest_sees_its_own_state() {
    let supported = Supported::new(host, &amd_caps());
    let guest = linked(supported_table(&supported)).unwrap();
    let layout = supported.xstate();
    let ask = |leaf, sub, now: &Runtime| guest.execute(leaf, sub, || *now, layout);

    let mut state = now();
    assert_eq!(ask(1, 0, &state).ecx & F::OSXSAVE.mask(), 0);
    assert_ne!(ask(1, 0, &state).edx & F::APIC.mask(), 0);
    assert_eq!(ask(0xd, 0, &state).ebx, 576);
    (state.osxsave, state.pke) = (true, true);
    state.apic_enabled = false;
    state.mwait = Some(true);
    state.xcr0 = AVX;
    state.hlt_in_guest = true;
    assert_ne!(ask(1, 0, &state).ecx & F::OSXSAVE.mask(), 0);
    assert_ne!(ask(1, 0, &state).ecx & F::MWAIT.mask(), 0);
    assert_eq!(ask(1, 0, &state).edx & F::APIC.mask(), 0);
    assert_ne!(ask(7, 0, &state).ecx & F::OSPKE.mask(), 0);
    assert_eq!(ask(0xd, 0, &state).ebx, 832);
    assert_eq!(ask(0xd, 1, &state).ebx, 832);
    assert_eq!(ask(0x4000_0001, 0, &state).eax, 0x8);
    let shown: Vec<_> = guest.entries_now(&state, layout).collect();
    assert_eq!(find(&shown, 0x4000_0001, 0).eax, 0x8);
    assert!(guest.is_same(&shown, &state, layout));
    assert!(guest.is_same(guest.entries(), &state, layout));
    let mut other = shown.clone();
    other[1].ebx ^= 1;
    assert!(!guest.is_same(&other, &state, layout));
    assert!(!guest.is_same(&shown[1..], &state, layout));
}

fn entry(function: u32, index: u32, flags: u32, eax: u32) -> CpuidEntry2 {
    CpuidEntry2 { flags, ..CpuidRegs { eax, ..CpuidRegs::ZERO }.entry(function, index) }
}

fn leaf0(max: u32, vendor: CpuVendor) -> CpuidEntry2 {
    let regs = match vendor {
        CpuVendor::Intel => (0x756e_6547, 0x6c65_746e, 0x4965_6e69),
        _ => (0x6874_7541, 0x444d_4163, 0x6974_6e65),
    };
    CpuidRegs { eax: max, ebx: regs.0, ecx: regs.1, edx: regs.2 }.entry(0, 0)
}

#[test]
fn out_of_range_by_vendor() {
    let layout = Default::default();
    let rest = [
        entry(7, 0, 1, 0x77),
        entry(7, 1, 1, 0x78),
        entry(0x4000_0000, 0, 0, 0x4000_0001),
        entry(0x8000_0000, 0, 0, 0x8000_0004),
    ];
    let table = |vendor| [[leaf0(7, vendor)].as_slice(), &rest].concat();
    let intel = linked(table(CpuVendor::Intel)).unwrap();
    let amd = linked(table(CpuVendor::Amd)).unwrap();
    let ask = |guest: &GuestCpuid<Vec<_>, Vec<u16>>, leaf, sub| {
        guest.execute(leaf, sub, now, &layout).eax
    };
    for leaf in [8, 0x3fff_ffff, 0x4000_0002, 0x4000_0100, 0x8000_0005, 0xc000_0000, u32::MAX] {
        assert_eq!(ask(&intel, leaf, 0), 0x77, "{leaf:x}");
        assert_eq!(ask(&intel, leaf, 1), 0x78, "{leaf:x}");
        assert_eq!(ask(&intel, leaf, 2), 0, "{leaf:x}");
        assert_eq!(ask(&amd, leaf, 0), 0, "{leaf:x}");
    }
    // In range but not in the table.
    assert_eq!(ask(&intel, 5, 0), 0);
    assert_eq!(ask(&intel, 0x8000_0003, 0), 0);
    assert_eq!(intel.exact(8, 0, &now(), &layout), None);
}

#[test]
fn topology_leaves_answer_for_missing_levels() {
    let layout = Default::default();
    let mut level = entry(0xb, 1, 1, 4);
    level.edx = 0x33;
    let guest = linked(vec![leaf0(0xb, CpuVendor::Intel), level]).unwrap();
    let answer = guest.execute(0xb, 0x105, now, &layout);
    assert_eq!(answer, CpuidRegs { ecx: 5, edx: 0x33, ..CpuidRegs::ZERO });
    // Also when a leaf out of range is redirected there.
    let answer = guest.execute(0x20, 2, now, &layout);
    assert_eq!(answer, CpuidRegs { ecx: 2, edx: 0x33, ..CpuidRegs::ZERO });
}

#[test]
fn tables_that_are_refused() {
    let many = vec![CpuidRegs::ZERO.entry(1, 0); MAX_ENTRIES + 1];
    assert_eq!(linked(many.as_slice()).err(), Some(Refused::TooMany));
    assert!(linked(&many[1..]).is_ok());
    for (bits, fine) in [(0, true), (48, true), (57, true), (49, false), (64, false)] {
        let table = [entry(0x8000_0008, 0, 0, bits << 8)];
        assert_eq!(linked(table.as_slice()).is_ok(), fine, "{bits}");
    }
    assert!(linked([].as_slice()).is_ok());
}

#[test]
fn features_of_a_guest() {
    let supported = Supported::new(host, &amd_caps());
    let mut table = supported_table(&supported);
    // A guest without PCID and SMAP, with features nobody can give.
    for entry in &mut table {
        match (entry.function, entry.index) {
            (1, _) => entry.ecx = entry.ecx & !F::PCID.mask() | F::VMX.mask(),
            (7, 0) => entry.ebx &= !F::SMAP.mask(),
            (0x8000_0001, _) => entry.ecx |= F::SVM.mask(),
            _ => {}
        }
    }
    let guest = linked(table).unwrap();
    let facts = GuestFeatures::new(&guest, &supported, &FeatureSet::EMPTY, false);
    assert!(facts.has(F::X2APIC) && facts.has(F::SMEP) && facts.has(F::NX));
    assert!(!facts.has(F::PCID) && !facts.has(F::SMAP));
    assert!(!facts.has(F::VMX) && !facts.has(F::SVM));
    assert!(facts.is_amd());
    assert_eq!(facts.phys_bits, 48);
    assert!(facts.is_gpa(0xffff_ffff_ffff) && !facts.is_gpa(1 << 48));
    assert_eq!(facts.xcr0, 0x2e7);
    assert!(facts.pv.contains(PvFeatures::CLOCKSOURCE2));
    let valid = Cr4::from_bits_retain(!facts.cr4_reserved);
    assert!(valid.contains(Cr4::SMEP | Cr4::PAE | Cr4::OSXSAVE | Cr4::UMIP | Cr4::PKE));
    assert!(!valid.intersects(Cr4::SMAP | Cr4::PCIDE | Cr4::VMXE | Cr4::LA57 | Cr4::CET));
    let efer = Efer::from_bits_retain(facts.efer_valid);
    assert_eq!(efer, Efer::SCE | Efer::LME | Efer::LMA | Efer::NXE | Efer::FFXSR);

    let none = GuestFeatures::none();
    assert_eq!(none.phys_bits, 36);
    assert_eq!(none.cr4_reserved & Cr4::PAE.bits(), 0);
    assert_ne!(none.cr4_reserved & (1 << 63), 0);
}

#[test]
fn classes_keep_their_promises() {
    let nothing =
        HostCaps { finished: FeatureSet::EMPTY, synthesized: FeatureSet::EMPTY, ..amd_caps() };
    let supported = Supported::new(host, &nothing);
    let needs = FeatureSet::of_class(Class::Needs).or(&FeatureSet::of_class(Class::Emulated));
    assert_eq!(supported.features().and(&needs), FeatureSet::EMPTY);
    assert_eq!(supported.xcr0(), 0);

    let everything = HostCaps { finished: FeatureSet::ALL, ..amd_caps() };
    let supported = Supported::new(host, &everything);
    for feature in [F::OSXSAVE, F::OSPKE, F::MWAIT] {
        assert!(!supported.has(feature));
    }
    assert_eq!(supported.xcr0() & Xcr0::TILE_DATA.bits(), 0);
}

proptest! {
    /// The hash finds what a walk through the table finds.
    #[test]
    fn lookup_is_the_first_match(
        entries in proptest::collection::vec(
            (prop_oneof![0u32..0x30, 0x8000_0000u32..0x8000_0030, 0x4000_0000u32..0x4000_0004, any::<u32>()],
             0u32..4, 0u32..2, any::<u32>()), 0..=MAX_ENTRIES),
        asks in proptest::collection::vec((0u32..0x30, 0u32..4, 0u32..3), 32),
    ) {
        let table: Vec<_> = entries
            .iter()
            .map(|&(function, index, flags, eax)| entry(function, index, flags, eax))
            .filter(|e| e.function != 0x8000_0008)
            .collect();
        let guest = linked(table.as_slice()).unwrap();
        let own = table.iter().map(|e| (e.function, e.index));
        let others = asks.iter().map(|&(f, i, high)| (f | high << 30, i));
        for (function, index) in own.chain(others) {
            let walked = table.iter().find(|e| {
                e.function == function && (e.flags & SIGNIFICANT_INDEX == 0 || e.index == index)
            });
            prop_assert_eq!(guest.find(function, index), walked);
        }
    }

    /// Whatever the table holds, the instruction answers.
    #[test]
    fn every_question_has_an_answer(
        entries in proptest::collection::vec((any::<u32>(), any::<u32>(), 0u32..2, any::<[u32; 4]>()), 0..64),
        leaf: u32, subleaf: u32, xcr0: u64, xss: u64,
    ) {
        let table: Vec<_> = entries
            .iter()
            .map(|&(f, i, flags, [eax, ebx, ecx, edx])| CpuidEntry2 {
                flags, ..CpuidRegs { eax, ebx, ecx, edx }.entry(f, i)
            })
            .collect();
        if let Ok(guest) = linked(table.as_slice()) {
            let supported = Supported::new(host, &amd_caps());
            let state = Runtime { xcr0, xss, ..now() };
            guest.execute(leaf, subleaf, || state, supported.xstate());
            let facts = GuestFeatures::new(&guest, &supported, &FeatureSet::EMPTY, true);
            prop_assert_eq!(facts.xcr0 & !supported.xcr0(), 0);
        }
    }
}
