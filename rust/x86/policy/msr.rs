// SPDX-License-Identifier: GPL-2.0
//! Which MSRs there are, who owns each, and who may read and write it.
//!
//! One table (`msr_table.rs`) holds a [`Row`] per register or range; the lists
//! of the ABI and the checks are derived from it. [`find`] is a binary search.
//! The registers that nobody but this crate gives a meaning are in
//! [`msr_file`](crate::msr_file).
//!
//! SDM volume 4, APM volume 2 appendix A, Documentation/virt/kvm/x86/msr.rst.

use crate::control::GeneralProtection;
use crate::feature::{Feature as F, FeatureSet};
use crate::guest_features::GuestFeatures;
use crate::msr_file::Stored;
use crate::msr_table::TABLE;
use crate::pv::PvFeatures;
use crate::supported::Supported;
use x86_defs::is_canonical;

/// Who holds an MSR's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// [`MsrFile`](crate::msr_file::MsrFile).
    Stored(Stored),
    /// Nobody: reads give this value, writes are ignored.
    Constant(u64),
    /// The vendor module's guest state (VMCB or VMCS), after [`check_write`].
    Vendor,
    /// [`Control`](crate::control::Control).
    Efer,
    /// The local APIC: its base.
    ApicBase,
    /// The local APIC: a register in x2APIC mode.
    X2Apic,
    /// The local APIC: TSC deadline.
    TscDeadline,
    /// The vCPU's TSC.
    Tsc,
    /// The vCPU's TSC adjustment.
    TscAdjust,
    /// [`Mtrrs`](crate::mtrr::Mtrrs).
    Mtrr,
    /// [`Mce`](crate::mce::Mce).
    Mce,
    /// The processor while the guest runs: see [`check_spec_ctrl`].
    SpecCtrl,
    /// A command for predictors, nothing is kept: see [`pred_cmd_valid`].
    PredCmd,
    /// A command for caches: bit 0 flushes L1D.
    FlushCmd,
    /// IA32_XSS, see [`check_xss`](crate::xcr::check_xss).
    Xss,
    /// SMRAM base.
    Smbase,
    /// A paravirtual register.
    Pv(PvMsr),
}

/// Registers of KVM's own (Documentation/virt/kvm/x86/msr.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PvMsr {
    /// Where to write the wall clock; old number.
    WallClockOld,
    /// Where a vCPU's clock lies; old number.
    SystemTimeOld,
    /// Where to write the wall clock.
    WallClock,
    /// Where a vCPU's clock lies.
    SystemTime,
    /// Asynchronous page faults.
    AsyncPfEn,
    /// Steal time.
    StealTime,
    /// EOI in memory.
    PvEoi,
    /// Halt polling.
    PollControl,
    /// Vector of "page is ready".
    AsyncPfInt,
    /// Acknowledges "page is ready".
    AsyncPfAck,
}

/// What a side may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    No,
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
    /// Write; reads are refused.
    Write,
}

/// What has to be there for the register to be.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// One of these features.
    Any(&'static [F]),
    /// A paravirtual feature, when the VM enforces them.
    Pv(PvFeatures),
}

/// Which list of the ABI names the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// None.
    No,
    /// `KVM_GET_MSR_INDEX_LIST`, if the host has it too.
    Saved,
    /// `KVM_GET_MSR_INDEX_LIST`.
    Emulated,
}

/// What a written value has to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Anything, or the owner knows.
    Any,
    /// A canonical address.
    Canonical,
    /// Made canonical, as processors differ in what they refuse.
    MadeCanonical,
    /// Nothing but zero.
    Zero,
}

/// A register, or a range of them with one meaning.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// First number.
    pub index: u32,
    /// How many.
    pub count: u32,
    /// Who holds the value.
    pub owner: Owner,
    /// What RDMSR and WRMSR may do.
    pub guest: Access,
    /// What `KVM_GET_MSRS` and `KVM_SET_MSRS` may do.
    pub host: Access,
    /// What has to be there.
    pub need: Need,
    /// Userspace has it whether or not the guest's CPUID says so.
    pub host_exempt: bool,
    /// Without what it needs the register counts as unknown, not as faulting.
    pub unknown: bool,
    /// Which list names it.
    pub list: List,
    /// Also in `KVM_GET_MSR_FEATURE_INDEX_LIST`.
    pub feature: bool,
    /// What a written value has to look like.
    pub rule: Rule,
}

/// Who accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The guest, by instruction.
    Guest,
    /// Userspace, by ioctl.
    Host,
}

/// Why an access is refused. A guest gets #GP unless userspace asked to see
/// this kind; an ioctl stops and returns how far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The register is there, the access isn't allowed (`KVM_MSR_EXIT_REASON_INVAL`).
    Invalid,
    /// There is no such register (`KVM_MSR_EXIT_REASON_UNKNOWN`); `ignore_msrs` and
    /// [`is_tolerated`] apply.
    Unknown,
    /// Userspace doesn't let the guest (`KVM_MSR_EXIT_REASON_FILTER`).
    Filtered,
}

impl From<GeneralProtection> for Refusal {
    fn from(_: GeneralProtection) -> Self {
        Self::Invalid
    }
}

/// Circumstances of an access.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Who accesses.
    pub by: By,
    /// The guest's processor.
    pub guest: &'a GuestFeatures,
    /// `KVM_CAP_ENFORCE_PV_FEATURE_CPUID` is on.
    pub pv_enforced: bool,
    /// The host's processor has 57-bit linear addresses.
    pub la57: bool,
}

impl Row {
    /// A register that both sides may read and write and no list names.
    pub(crate) const fn new(index: u32, owner: Owner) -> Self {
        Self {
            index,
            count: 1,
            owner,
            guest: Access::ReadWrite,
            host: Access::ReadWrite,
            need: Need::Nothing,
            host_exempt: false,
            unknown: false,
            list: List::No,
            feature: false,
            rule: Rule::Any,
        }
    }

    pub(crate) const fn range(mut self, count: u32) -> Self {
        self.count = count;
        self
    }

    pub(crate) const fn access(mut self, guest: Access, host: Access) -> Self {
        self.guest = guest;
        self.host = host;
        self
    }

    /// Needs a feature; accesses without it fault.
    pub(crate) const fn needs(mut self, features: &'static [F]) -> Self {
        self.need = Need::Any(features);
        self
    }

    /// Needs a feature; without it there is no such register.
    pub(crate) const fn exists_with(mut self, features: &'static [F]) -> Self {
        self.need = Need::Any(features);
        self.unknown = true;
        self
    }

    pub(crate) const fn pv(mut self, features: PvFeatures) -> Self {
        self.need = Need::Pv(features);
        self.unknown = true;
        self
    }

    pub(crate) const fn host_exempt(mut self) -> Self {
        self.host_exempt = true;
        self
    }

    pub(crate) const fn saved(mut self) -> Self {
        self.list = List::Saved;
        self
    }

    pub(crate) const fn emulated(mut self) -> Self {
        self.list = List::Emulated;
        self
    }

    pub(crate) const fn feature(mut self) -> Self {
        self.feature = true;
        self
    }

    pub(crate) const fn rule(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }

    /// Position of a number in the range.
    #[inline]
    pub fn offset(&self, index: u32) -> u32 {
        index.wrapping_sub(self.index)
    }

    fn indices(&self) -> impl Iterator<Item = u32> {
        self.index..self.index.saturating_add(self.count)
    }

    /// What one gets for an access that the row doesn't allow.
    fn no_access(&self) -> Refusal {
        match self.owner {
            Owner::Constant(_) => Refusal::Unknown,
            _ if self.unknown => Refusal::Unknown,
            _ => Refusal::Invalid,
        }
    }

    fn is_there(&self, context: &Context<'_>) -> Result<(), Refusal> {
        if self.host_exempt && context.by == By::Host {
            return Ok(());
        }
        let there = match self.need {
            Need::Nothing => true,
            Need::Any(features) => features.iter().any(|&feature| context.guest.has(feature)),
            Need::Pv(feature) => !context.pv_enforced || context.guest.pv.contains(feature),
        };
        match (there, self.unknown) {
            (true, _) => Ok(()),
            (false, true) => Err(Refusal::Unknown),
            (false, false) => Err(Refusal::Invalid),
        }
    }
}

/// The row that a number belongs to.
#[inline]
pub fn find(index: u32) -> Option<&'static Row> {
    let after = TABLE.partition_point(|row| row.index <= index);
    let row = TABLE.get(after.checked_sub(1)?)?;
    (row.offset(index) < row.count).then_some(row)
}

/// Checks a read of an MSR; its owner has the value, or a reason of its own.
///
/// # Errors
///
/// [`Refusal`].
pub fn check_read(index: u32, context: &Context<'_>) -> Result<&'static Row, Refusal> {
    let row = find(index).ok_or(Refusal::Unknown)?;
    row.is_there(context)?;
    let access = if context.by == By::Guest { row.guest } else { row.host };
    match access {
        Access::Read | Access::ReadWrite => Ok(row),
        Access::No | Access::Write => Err(row.no_access()),
    }
}

/// Checks a write of an MSR, and returns the value to give to its owner, who may
/// still refuse.
///
/// # Errors
///
/// [`Refusal`].
pub fn check_write(
    index: u32,
    value: u64,
    context: &Context<'_>,
) -> Result<(&'static Row, u64), Refusal> {
    let row = find(index).ok_or(Refusal::Unknown)?;
    row.is_there(context)?;
    let access = if context.by == By::Guest { row.guest } else { row.host };
    match access {
        Access::Write | Access::ReadWrite => {}
        Access::No | Access::Read => return Err(row.no_access()),
    }
    let value = match row.rule {
        Rule::Any => value,
        Rule::Canonical if is_canonical(value, context.la57) => value,
        Rule::Canonical => return Err(Refusal::Invalid),
        Rule::MadeCanonical => sign_extended(value, context.la57),
        Rule::Zero if value == 0 => value,
        Rule::Zero => return Err(Refusal::Invalid),
    };
    Ok((row, value))
}

/// Bits above the linear address replaced by copies of its highest.
const fn sign_extended(value: u64, la57: bool) -> u64 {
    let shift = if la57 { 7 } else { 16 };
    ((value << shift) as i64 >> shift) as u64
}

/// Whether userspace's access to an unknown register passes all the same: it may
/// read, and write zero to, what the lists name, so that it can save and restore
/// without asking which guest has what.
pub fn is_tolerated(index: u32, written: Option<u64>, supported: &Supported) -> bool {
    written.unwrap_or(0) == 0
        && find(index).is_some_and(|row| row.list != List::No && has(row, supported))
}

/// The registers of `KVM_GET_MSR_INDEX_LIST`. `probe` tells whether the host's
/// processor has a register.
pub fn index_list<'a>(
    supported: &'a Supported,
    probe: impl Fn(u32) -> bool + 'a,
) -> impl Iterator<Item = u32> + 'a {
    let of =
        move |list: List| TABLE.iter().filter(move |row| row.list == list && has(row, supported));
    let saved = of(List::Saved).flat_map(Row::indices).filter(move |&index| probe(index));
    saved.chain(of(List::Emulated).flat_map(Row::indices))
}

/// The registers of `KVM_GET_MSR_FEATURE_INDEX_LIST`.
pub fn feature_list() -> impl Iterator<Item = u32> {
    TABLE.iter().filter(|row| row.feature).flat_map(Row::indices)
}

/// Whether some guest can have the register.
fn has(row: &Row, supported: &Supported) -> bool {
    match row.need {
        Need::Nothing => true,
        Need::Any(features) => features.iter().any(|&feature| supported.has(feature)),
        Need::Pv(features) => supported.pv().contains(features),
    }
}

/// Bits of IA32_PRED_CMD that may be written with these features: IBPB and SBPB.
pub fn pred_cmd_valid(features: &FeatureSet) -> u64 {
    let ibpb = features.has(F::SPEC_CTRL) || features.has(F::AMD_IBPB);
    u64::from(ibpb) | u64::from(features.has(F::SBPB)) << 7
}

/// Whether IA32_SPEC_CTRL takes a value of a guest with these features; some guest of this
/// host can have the bits `host`.
///
/// # Errors
///
/// [`Refusal::Invalid`].
pub fn check_spec_ctrl(value: u64, by: By, guest: &FeatureSet, host: u64) -> Result<(), Refusal> {
    let valid = match by {
        By::Guest => spec_ctrl_valid(guest) & host,
        By::Host => host,
    };
    if value & !valid == 0 {
        Ok(())
    } else {
        Err(Refusal::Invalid)
    }
}

/// Bits of IA32_SPEC_CTRL that may be set with these features.
pub fn spec_ctrl_valid(features: &FeatureSet) -> u64 {
    const BITS: &[(u64, &[F])] = &[
        (1, &[F::SPEC_CTRL, F::AMD_IBRS]),
        (1 << 1, &[F::INTEL_STIBP, F::AMD_STIBP]),
        (1 << 2, &[F::SPEC_CTRL_SSBD, F::AMD_SSBD]),
        (3 << 3, &[F::IPRED_CTRL]),
        (3 << 5, &[F::RRSBA_CTRL]),
        (1 << 7, &[F::INTEL_PSFD, F::AMD_PSFD]),
        (1 << 8, &[F::DDPD_U]),
        (1 << 10, &[F::BHI_CTRL]),
    ];
    let usable = |needs: &[F]| needs.iter().any(|&feature| features.has(feature));
    BITS.iter().filter(|(_, needs)| usable(needs)).fold(0, |valid, (bits, _)| valid | bits)
}
