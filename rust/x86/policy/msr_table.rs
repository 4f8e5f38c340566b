// SPDX-License-Identifier: GPL-2.0
//! The table of MSRs, by ascending number.

use crate::feature::Feature as F;
use crate::mce;
use crate::msr::{Access, Owner, PvMsr, Row, Rule};
use crate::msr_file::Stored;
use crate::mtrr;
use crate::pv::PvFeatures as Pv;
use x86_defs::msr;

const fn row(index: u32, owner: Owner) -> Row {
    Row::new(index, owner)
}

const fn stored(index: u32, slot: Stored) -> Row {
    Row::new(index, Owner::Stored(slot))
}

/// Reads as a constant; writes fault.
const fn fixed(index: u32, value: u64) -> Row {
    Row::new(index, Owner::Constant(value)).access(Access::Read, Access::Read)
}

/// Reads as zero; writes are ignored. What guests poke without looking.
const fn ignored(index: u32) -> Row {
    Row::new(index, Owner::Constant(0))
}

const fn pv(index: u32, which: PvMsr, feature: Pv) -> Row {
    Row::new(index, Owner::Pv(which)).pv(feature).emulated()
}

/// A segment base or entry point in the vendor module's guest state.
const fn address(index: u32) -> Row {
    Row::new(index, Owner::Vendor).rule(Rule::Canonical)
}

const SPEC_CTRL: &[F] = &[F::SPEC_CTRL, F::AMD_STIBP, F::AMD_IBRS, F::AMD_SSBD];

pub(crate) static TABLE: &[Row] = &[
    // P5_MC_ADDR and P5_MC_TYPE.
    fixed(0x0, 0).range(2),
    row(msr::TSC, Owner::Tsc).saved(),
    pv(0x11, PvMsr::WallClockOld, Pv::CLOCKSOURCE),
    pv(0x12, PvMsr::SystemTimeOld, Pv::CLOCKSOURCE),
    fixed(msr::PLATFORM_ID, 0),
    row(msr::APIC_BASE, Owner::ApicBase),
    // EBL_CR_POWERON.
    fixed(0x2a, 0),
    // EBC_FREQUENCY_ID: a ratio of one, guests divide by it.
    fixed(0x2c, 1 << 24),
    stored(0x34, Stored::SmiCount).access(Access::Read, Access::ReadWrite).emulated(),
    row(msr::TSC_ADJUST, Owner::TscAdjust).needs(&[F::TSC_ADJUST]).host_exempt().emulated(),
    row(msr::SPEC_CTRL, Owner::SpecCtrl).needs(SPEC_CTRL).host_exempt().saved(),
    row(msr::PRED_CMD, Owner::PredCmd)
        .needs(&[F::SPEC_CTRL, F::AMD_IBPB, F::SBPB])
        .host_exempt()
        .access(Access::Write, Access::Write),
    ignored(msr::UCODE_WRITE).access(Access::Write, Access::Write),
    stored(msr::UCODE_REV, Stored::UcodeRev).emulated().feature(),
    row(msr::SMBASE, Owner::Smbase).access(Access::No, Access::ReadWrite).emulated(),
    // Front-side bus: 166 MHz.
    fixed(0xcd, 3),
    stored(0xce, Stored::PlatformInfo).access(Access::Read, Access::ReadWrite).emulated().feature(),
    fixed(msr::MTRR_CAP, mtrr::CAP),
    stored(msr::ARCH_CAPABILITIES, Stored::ArchCapabilities)
        .exists_with(&[F::ARCH_CAPABILITIES])
        .access(Access::Read, Access::ReadWrite)
        .emulated()
        .feature(),
    row(msr::FLUSH_CMD, Owner::FlushCmd)
        .needs(&[F::FLUSH_L1D])
        .host_exempt()
        .access(Access::Write, Access::Write),
    // BBL_CR_CTL3: an enabled, configured L2 cache.
    row(0x11e, Owner::Constant(0xbe70_2111)),
    stored(0x140, Stored::MiscFeatures).emulated(),
    row(msr::SYSENTER_CS, Owner::Vendor).saved(),
    row(msr::SYSENTER_ESP, Owner::Vendor).rule(Rule::MadeCanonical).saved(),
    row(msr::SYSENTER_EIP, Owner::Vendor).rule(Rule::MadeCanonical).saved(),
    row(msr::MCG_CAP, Owner::Mce).access(Access::Read, Access::Read),
    row(msr::MCG_STATUS, Owner::Mce).emulated(),
    row(msr::MCG_CTL, Owner::Mce).emulated(),
    // PERF_STATUS: multiplier 4, 1000 ticks.
    fixed(0x198, 4 << 40 | 1000),
    // PERF_CTL.
    fixed(0x199, 0),
    stored(msr::MISC_ENABLE, Stored::MiscEnable).emulated(),
    row(msr::DEBUGCTL, Owner::Vendor).saved(),
    row(msr::LASTBRANCH_FROM, Owner::Constant(0)).range(4).access(Access::Read, Access::Read),
    stored(0x1fc, Stored::PowerCtl).emulated(),
    row(msr::MTRR_PHYSBASE0, Owner::Mtrr).range(mtrr::VARIABLE_MSRS),
    row(msr::MTRR_FIX64K_00000, Owner::Mtrr),
    row(msr::MTRR_FIX16K_80000, Owner::Mtrr).range(2),
    row(msr::MTRR_FIX4K_C0000, Owner::Mtrr).range(8),
    stored(msr::PAT, Stored::Pat).saved(),
    row(msr::MC0_CTL2, Owner::Mce).range(mce::MAX_BANKS as u32),
    row(msr::MTRR_DEF_TYPE, Owner::Mtrr),
    // No guest has performance counters.
    row(msr::PERF_CAPABILITIES, Owner::Constant(0))
        .needs(&[F::PDCM])
        .host_exempt()
        .access(Access::Read, Access::ReadWrite)
        .rule(Rule::Zero)
        .feature(),
    row(msr::MC0_CTL, Owner::Mce).range(4 * mce::MAX_BANKS as u32),
    // Energy counters: what Sandy Bridge guests expect to be there.
    fixed(0x606, 0),
    fixed(0x611, 0),
    fixed(0x619, 0),
    fixed(0x639, 0),
    fixed(0x641, 0),
    row(msr::TSC_DEADLINE, Owner::TscDeadline).needs(&[F::TSC_DEADLINE]).host_exempt().emulated(),
    row(msr::X2APIC_BASE, Owner::X2Apic).range(0x100),
    row(msr::XSS, Owner::Xss).exists_with(&[F::XSAVES]).saved(),
    pv(0x4b56_4d00, PvMsr::WallClock, Pv::CLOCKSOURCE2),
    pv(0x4b56_4d01, PvMsr::SystemTime, Pv::CLOCKSOURCE2),
    pv(0x4b56_4d02, PvMsr::AsyncPfEn, Pv::ASYNC_PF),
    pv(0x4b56_4d03, PvMsr::StealTime, Pv::STEAL_TIME),
    pv(0x4b56_4d04, PvMsr::PvEoi, Pv::PV_EOI),
    pv(0x4b56_4d05, PvMsr::PollControl, Pv::POLL_CONTROL),
    pv(0x4b56_4d06, PvMsr::AsyncPfInt, Pv::ASYNC_PF_INT),
    pv(0x4b56_4d07, PvMsr::AsyncPfAck, Pv::ASYNC_PF_INT),
    row(msr::EFER, Owner::Efer),
    row(msr::STAR, Owner::Vendor).saved(),
    address(msr::LSTAR).saved(),
    address(msr::CSTAR).saved(),
    row(msr::SYSCALL_MASK, Owner::Vendor).saved(),
    address(msr::FS_BASE),
    address(msr::GS_BASE),
    address(msr::KERNEL_GS_BASE).saved(),
    stored(msr::TSC_AUX, Stored::TscAux).needs(&[F::RDTSCP, F::RDPID]).host_exempt().saved(),
    // Legacy counters: there is no PMU, and guests probe them.
    ignored(0xc001_0000).range(8),
    fixed(msr::SYSCFG, 0),
    stored(msr::HWCR, Stored::Hwcr).emulated(),
    // CLK_CTL of the K7: the expected ramp-up count.
    row(0xc001_001b, Owner::Constant(0x2000_0000)),
    // NB_CFG and PATCH_LOADER.
    ignored(0xc001_001f),
    ignored(0xc001_0020).access(Access::Write, Access::Write),
    // INT_PENDING_MSG.
    fixed(0xc001_0055, 0),
    stored(0xc001_0058, Stored::MmioConfBase),
    // TSEG_ADDR and TSEG_MASK.
    fixed(0xc001_0112, 0).range(2),
    // VM_IGNNE.
    ignored(0xc001_0115),
    ignored(msr::VM_HSAVE_PA),
    stored(msr::VIRT_SPEC_CTRL, Stored::VirtSpecCtrl)
        .needs(&[F::VIRT_SSBD])
        .host_exempt()
        .emulated(),
    stored(msr::OSVW_ID_LENGTH, Stored::OsvwLength).needs(&[F::OSVW]),
    stored(msr::OSVW_STATUS, Stored::OsvwStatus).needs(&[F::OSVW]),
    // DC_CFG and TW_CFG.
    ignored(0xc001_1022).range(2),
    stored(msr::DE_CFG, Stored::DeCfg).feature(),
    // BU_CFG2 and EX_CFG.
    ignored(0xc001_102a),
    ignored(0xc001_102c),
];
