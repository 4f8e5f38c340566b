// SPDX-License-Identifier: GPL-2.0
//! The MSR table, the plain MSRs, MTRRs and machine checks.

use crate::control::GeneralProtection;
use crate::cpuid::{CpuVendor, CpuidRegs};
use crate::feature::{Class, Feature as F, FeatureSet};
use crate::guest_features::GuestFeatures;
use crate::mce::{
    Bank, Injected, InvalidMce, MachineError, Mce, CAP_CMCI, CAP_COMMON, MAX_BANKS, STATUS_OVER,
    STATUS_UC, STATUS_VAL,
};
use crate::msr::{
    check_read, check_spec_ctrl, check_write, feature_list, find, index_list, is_tolerated,
    pred_cmd_valid, spec_ctrl_valid, By, Context, Owner, Refusal,
};
use crate::msr_file::{
    arch_capabilities, is_valid_pat, Effect, FeatureMsrs, MsrFile, Rules, Stored, PAT_RESET,
    PLATFORM_CPUID_FAULT,
};
use crate::msr_table::TABLE;
use crate::mtrr::Mtrrs;
use crate::pv::PvFeatures;
use crate::supported::{HostCaps, Supported};
use proptest::prelude::*;
use std::vec::Vec;
use x86_defs::msr;

fn guest() -> GuestFeatures {
    GuestFeatures { phys_bits: 40, vendor: CpuVendor::Amd, ..GuestFeatures::none() }
}

fn context(guest: &GuestFeatures, by: By) -> Context<'_> {
    Context { by, guest, pv_enforced: true, la57: false }
}

fn supported() -> Supported {
    let host = |leaf, _| match leaf {
        0 => CpuidRegs { eax: 0x10, ..CpuidRegs::ZERO },
        0x8000_0000 => CpuidRegs { eax: 0x8000_0021, ..CpuidRegs::ZERO },
        _ => CpuidRegs { eax: !0, ebx: !0, ecx: !0, edx: !0 },
    };
    let emulated = FeatureSet::of_class(Class::Emulated);
    let caps = HostCaps {
        finished: emulated.with(F::RDTSCP).with(F::XSAVE),
        kernel: FeatureSet::ALL,
        synthesized: FeatureSet::EMPTY,
        xcr0: 7,
        xss: 0,
        pv: PvFeatures::CLOCKSOURCE | PvFeatures::CLOCKSOURCE2 | PvFeatures::STEAL_TIME,
        tdp_levels: 4,
    };
    Supported::new(host, &caps)
}

fn rules() -> Rules {
    Rules {
        features: FeatureMsrs {
            platform_info: PLATFORM_CPUID_FAULT,
            de_cfg: 2,
            ..FeatureMsrs::default()
        },
        platform_info_readable: true,
        no_mwait: false,
    }
}

#[test]
fn the_table_is_sorted_and_disjoint() {
    for pair in TABLE.windows(2) {
        let end = pair[0].index + pair[0].count;
        assert!(end <= pair[1].index, "{:x} reaches {:x}", pair[0].index, pair[1].index);
    }
    for row in TABLE {
        let last = row.index + row.count - 1;
        assert_eq!(find(row.index).unwrap().index, row.index);
        assert_eq!(find(last).unwrap().index, row.index);
        assert_eq!(row.offset(last), row.count - 1);
    }
    for absent in
        [0x2, 0x210, 0x251, 0x25a, 0x270, 0x2a0, 0x480, 0x900, 0x4b56_4d08, 0x4b56_4dff, u32::MAX]
    {
        assert!(find(absent).is_none(), "{absent:x}");
    }
}

#[test]
fn lists_for_qemu() {
    let supported = supported();
    let list: Vec<u32> = index_list(&supported, |index| index != msr::SPEC_CTRL).collect();
    for index in [
        msr::TSC,
        0x11,
        0x12,
        0x4b56_4d00,
        0x4b56_4d03,
        msr::SYSENTER_CS,
        msr::STAR,
        msr::LSTAR,
        msr::KERNEL_GS_BASE,
        msr::TSC_AUX,
        msr::TSC_ADJUST,
        msr::TSC_DEADLINE,
        msr::MISC_ENABLE,
        msr::MCG_STATUS,
        msr::MCG_CTL,
        msr::SMBASE,
        0x34,
        msr::PAT,
        msr::HWCR,
    ] {
        assert!(list.contains(&index), "{index:x}");
    }
    // Not finished, or the host lacks it.
    for index in [0x4b56_4d02, 0x4b56_4d04, msr::SPEC_CTRL, msr::XSS, msr::VIRT_SPEC_CTRL, 0x480] {
        assert!(!list.contains(&index), "{index:x}");
    }
    let features: Vec<u32> = feature_list().collect();
    let all = [msr::UCODE_REV, 0xce, msr::ARCH_CAPABILITIES, msr::PERF_CAPABILITIES, msr::DE_CFG];
    assert_eq!(features, all);
}

#[test]
fn access_by_side() {
    let g = guest();
    let (by_guest, by_host) = (context(&g, By::Guest), context(&g, By::Host));
    assert_eq!(check_read(msr::SMBASE, &by_guest).err(), Some(Refusal::Invalid));
    assert!(check_read(msr::SMBASE, &by_host).is_ok());
    assert_eq!(check_write(0x34, 1, &by_guest).err(), Some(Refusal::Invalid));
    assert!(check_write(0x34, 1, &by_host).is_ok() && check_read(0x34, &by_guest).is_ok());
    assert_eq!(check_read(msr::TSC_AUX, &by_guest).err(), Some(Refusal::Invalid));
    assert!(check_read(msr::TSC_AUX, &by_host).is_ok());
    assert_eq!(check_read(msr::ARCH_CAPABILITIES, &by_host).err(), Some(Refusal::Unknown));
    assert_eq!(check_read(0x1234, &by_host).err(), Some(Refusal::Unknown));
    assert_eq!(check_write(msr::PLATFORM_ID, 1, &by_guest).err(), Some(Refusal::Unknown));
    assert!(check_read(msr::PRED_CMD, &by_host).is_err());
    // KVM's registers: by CPUID if that is enforced, and free else.
    assert_eq!(check_read(0x4b56_4d03, &by_guest).err(), Some(Refusal::Unknown));
    let free = Context { pv_enforced: false, ..by_guest };
    assert!(check_read(0x4b56_4d03, &free).is_ok());
}

#[test]
fn addresses_are_canonical() {
    let g = guest();
    let by = context(&g, By::Guest);
    let (row, value) = check_write(msr::LSTAR, 0xffff_8000_0000_0000, &by).unwrap();
    assert_eq!((row.owner, value), (Owner::Vendor, 0xffff_8000_0000_0000));
    assert!(check_write(msr::LSTAR, 0x8000_0000_0000, &by).is_err());
    let la57 = Context { la57: true, ..by };
    assert!(check_write(msr::LSTAR, 0x8000_0000_0000, &la57).is_ok());
    let (_, value) = check_write(msr::SYSENTER_EIP, 0x8000_0000_0000, &by).unwrap();
    assert_eq!(value, 0xffff_8000_0000_0000);
}

#[test]
fn userspace_may_restore_zeros() {
    let supported = supported();
    assert!(is_tolerated(msr::ARCH_CAPABILITIES, None, &supported));
    assert!(is_tolerated(msr::ARCH_CAPABILITIES, Some(0), &supported));
    assert!(!is_tolerated(msr::ARCH_CAPABILITIES, Some(1), &supported));
    assert!(!is_tolerated(0x1234, None, &supported));
    assert!(!is_tolerated(0x4b56_4d04, None, &supported));
}

#[test]
fn pat_types() {
    assert!(is_valid_pat(PAT_RESET) && is_valid_pat(0x0106_0705_0400_0106));
    for byte in 0..=255u64 {
        let valid = matches!(byte, 0 | 1 | 4 | 5 | 6 | 7);
        for shift in (0..64).step_by(8) {
            assert_eq!(is_valid_pat(byte << shift), valid, "{byte} << {shift}");
        }
    }
}

#[test]
fn plain_registers() {
    let mut g = guest();
    let rules = rules();
    let mut file = MsrFile::new(&FeatureMsrs { ucode_rev: 5 << 32, ..rules.features });
    let host_guest = g;
    let host = context(&host_guest, By::Host);
    let mut write = |slot, value, by: &Context<'_>| file.write(slot, value, by, &rules);

    assert_eq!(write(Stored::Pat, 0, &host), Ok(Effect::Pat));
    assert_eq!(write(Stored::Pat, 0, &host), Ok(Effect::None));
    assert_eq!(write(Stored::Pat, 2, &host), Err(Refusal::Invalid));
    // AMD drops the high half of TSC_AUX, Intel faults.
    assert_eq!(write(Stored::TscAux, 1 << 32 | 3, &host), Ok(Effect::TscAux));
    g.vendor = CpuVendor::Intel;
    let guest = context(&g, By::Guest);
    assert_eq!(write(Stored::TscAux, 1 << 32, &guest), Err(Refusal::Invalid));
    assert_eq!(write(Stored::Hwcr, 1 << 24 | 0x148, &guest), Ok(Effect::Cpuid));
    assert_eq!(write(Stored::Hwcr, 1 << 35, &guest), Err(Refusal::Invalid));
    assert_eq!(write(Stored::DeCfg, 3, &guest), Err(Refusal::Invalid));
    assert_eq!(write(Stored::DeCfg, 0, &guest), Ok(Effect::None));
    assert_eq!(write(Stored::UcodeRev, 9, &guest), Ok(Effect::None));
    assert_eq!(write(Stored::MiscFeatures, 1, &guest), Ok(Effect::Cpuid));
    assert_eq!(write(Stored::MiscFeatures, 2, &guest), Err(Refusal::Invalid));
    // MISC_ENABLE: unavailability can't be denied; MWAIT needs a plausible guest.
    assert_eq!(write(Stored::MiscEnable, 0, &guest), Err(Refusal::Invalid));
    assert_eq!(write(Stored::MiscEnable, 0x1880, &guest), Ok(Effect::None));
    assert_eq!(write(Stored::MiscEnable, 0x4_1800, &guest), Err(Refusal::Invalid));
    assert_eq!(write(Stored::MiscEnable, 0x81, &host), Ok(Effect::Cpuid));

    assert_eq!(file.get(Stored::Hwcr), 1 << 24);
    assert_eq!(file.get(Stored::TscAux), 3);
    assert_eq!(file.get(Stored::UcodeRev), 5 << 32);
    assert!(file.cpuid_faults());
    let hidden = Rules { platform_info_readable: false, ..rules };
    assert_eq!(file.read(Stored::PlatformInfo, By::Guest, &hidden), Err(Refusal::Invalid));
    assert_eq!(file.read(Stored::PlatformInfo, By::Host, &hidden), Ok(PLATFORM_CPUID_FAULT));
}

#[test]
fn speculation_control_by_feature() {
    let none = FeatureSet::EMPTY;
    assert_eq!((spec_ctrl_valid(&none), pred_cmd_valid(&none)), (0, 0));
    assert_eq!(spec_ctrl_valid(&none.with(F::AMD_SSBD).with(F::AMD_STIBP)), 6);
    assert_eq!(spec_ctrl_valid(&none.with(F::SPEC_CTRL)), 1);
    assert_eq!(pred_cmd_valid(&none.with(F::AMD_IBPB).with(F::SBPB)), 0x81);
    // A guest has what its CPUID tells, as far as the host has it; the host all.
    let guest = none.with(F::SPEC_CTRL).with(F::AMD_SSBD);
    let takes = |by, value| check_spec_ctrl(value, by, &guest, 3).is_ok();
    assert!(takes(By::Guest, 1) && takes(By::Guest, 0) && takes(By::Host, 3));
    assert!(!takes(By::Guest, 2) && !takes(By::Guest, 4) && !takes(By::Host, 4));
    // Registers that guests don't have aren't promised.
    assert_eq!(arch_capabilities(u64::MAX, 0) & (1 << 10 | 1 << 18 | 1 << 21 | 1 << 25), 0);
    assert_eq!(arch_capabilities(1, 1 << 5), 1 | 1 << 5 | 1 << 6);
}

#[test]
fn mtrr_rules() {
    let g = guest();
    let mut mtrrs = Mtrrs::default();
    assert_eq!(mtrrs.write(msr::MTRR_DEF_TYPE, 0xc06, &g), Ok(()));
    assert_eq!(mtrrs.read(msr::MTRR_DEF_TYPE), Ok(0xc06));
    for bad in [0xc02, 0x1006, 0x106, 7] {
        assert_eq!(mtrrs.write(msr::MTRR_DEF_TYPE, bad, &g), Err(GeneralProtection), "{bad:x}");
    }
    let fixed = [0x250, 0x258, 0x259, 0x268, 0x26f];
    for (value, index) in fixed.into_iter().enumerate() {
        let value = 0x0606_0606_0505_0400 | value as u64 & 1;
        assert_eq!(mtrrs.write(index, value, &g), Ok(()));
        assert_eq!(mtrrs.read(index), Ok(value));
    }
    assert!(mtrrs.write(0x250, 0x0200_0000_0000_0000, &g).is_err());
    assert_eq!(mtrrs.write(0x200, 0xff_ffff_f006, &g), Ok(()));
    assert_eq!(mtrrs.write(0x20f, 0xff_ffff_f800, &g), Ok(()));
    assert!(mtrrs.write(0x200, 1 << 40, &g).is_err() && mtrrs.write(0x200, 0x106, &g).is_err());
    assert!(mtrrs.write(0x201, 0x400, &g).is_err());
    for absent in [0x210, 0x251, 0x257, 0x25a, 0x267, 0x270] {
        assert!(mtrrs.read(absent).is_err() && mtrrs.write(absent, 0, &g).is_err());
    }
}

fn error(status: u64) -> MachineError {
    MachineError { status: STATUS_VAL | status, addr: 0x1000, misc: 0x8c, mcg_status: 5, bank: 2 }
}

fn new_mce() -> Mce<Vec<Bank>> {
    Mce::new(std::vec![Bank::default(); MAX_BANKS])
}

#[test]
fn mce_setup_and_registers() {
    let mut mce = new_mce();
    for bad in [0, 33, 10 | 1 << 27, 1 << 32 | 10] {
        assert_eq!(mce.setup(bad, CAP_COMMON), Err(InvalidMce), "{bad:x}");
    }
    mce.setup(10 | CAP_COMMON, CAP_COMMON).unwrap();
    assert_eq!(mce.read(msr::MCG_CAP, By::Guest), Ok(10 | CAP_COMMON));
    assert_eq!(mce.read(msr::MCG_CTL, By::Guest), Ok(u64::MAX));
    assert_eq!(mce.read(0x400 + 4 * 9, By::Guest), Ok(u64::MAX));
    assert!(mce.read(0x400 + 4 * 10, By::Guest).is_err());
    assert!(mce.write(0x404, 5, By::Guest, false).is_err());
    for fine in [0, u64::MAX, !(1 << 10), !1] {
        assert!(mce.write(0x410, fine, By::Guest, false).is_ok());
    }
    assert!(mce.write(0x405, 1, By::Guest, false).is_err());
    assert!(mce.write(0x405, 1, By::Guest, true).is_ok());
    assert!(mce.write(0x405, 0, By::Guest, false).is_ok());
    // No CMCI: the guest faults, userspace may restore zeros.
    assert!(mce.read(0x281, By::Guest).is_err() && mce.read(0x281, By::Host).is_ok());
    assert!(mce.write(0x281, 0, By::Host, false).is_ok());
    assert!(mce.write(0x281, 1, By::Host, false).is_err());
    assert!(mce.write(msr::MCG_CTL, 1, By::Host, false).is_err());
}

#[test]
fn mce_injection() {
    let mut mce = new_mce();
    mce.setup(4 | CAP_COMMON | CAP_CMCI, CAP_COMMON | CAP_CMCI).unwrap();
    assert_eq!(mce.inject(&MachineError { bank: 4, ..error(0) }, true), Err(InvalidMce));
    assert_eq!(mce.inject(&MachineError { status: 0, ..error(0) }, true), Err(InvalidMce));
    // A corrected error is logged; a second one overflows.
    assert_eq!(mce.inject(&error(0), true), Ok(Injected::Nothing));
    assert_eq!(mce.read(0x409, By::Guest), Ok(STATUS_VAL));
    assert_eq!(mce.inject(&error(0), true), Ok(Injected::Nothing));
    assert_eq!(mce.read(0x409, By::Guest), Ok(STATUS_VAL | STATUS_OVER));
    // An uncorrected one interrupts, a second one within it kills.
    assert_eq!(mce.inject(&error(STATUS_UC), true), Ok(Injected::Exception));
    assert_eq!(mce.read(msr::MCG_STATUS, By::Guest), Ok(5));
    assert_eq!(mce.read(0x40a, By::Guest), Ok(0x1000));
    assert_eq!(mce.inject(&error(STATUS_UC), true), Ok(Injected::TripleFault));
    mce.write(msr::MCG_STATUS, 0, By::Guest, false).unwrap();
    assert_eq!(mce.inject(&error(STATUS_UC), false), Ok(Injected::TripleFault));
    // Reporting off.
    mce.write(0x408, 0, By::Guest, false).unwrap();
    assert_eq!(mce.inject(&error(STATUS_UC), true), Ok(Injected::Nothing));
    // No action required: an interrupt if enabled.
    let ucna = MachineError { mcg_status: 0, ..error(STATUS_UC) };
    assert_eq!(mce.inject(&ucna, true), Ok(Injected::Nothing));
    mce.write(0x282, 1 << 30, By::Guest, false).unwrap();
    assert_eq!(mce.inject(&ucna, true), Ok(Injected::Cmci));
}

proptest! {
    /// What is accepted by the guest's rules is what a read returns, and
    /// nothing is stored otherwise.
    #[test]
    fn stored_values_come_back(index in proptest::sample::select(TABLE), value: u64, by_guest: bool) {
        let g = guest();
        let by = context(&g, if by_guest { By::Guest } else { By::Host });
        let Owner::Stored(slot) = index.owner else { return Ok(()) };
        let rules = rules();
        let mut file = MsrFile::new(&rules.features);
        let old = file.get(slot);
        if file.write(slot, value, &by, &rules).is_err() {
            prop_assert_eq!(file.get(slot), old);
        }
    }

    #[test]
    fn no_number_breaks_anything(index: u32, value: u64) {
        let g = guest();
        let by = context(&g, By::Guest);
        let _ = check_read(index, &by);
        let _ = check_write(index, value, &by);
        let _ = Mtrrs::default().write(index, value, &g);
        let _ = new_mce().write(index, value, By::Host, false);
    }
}
