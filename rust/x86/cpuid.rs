// SPDX-License-Identifier: GPL-2.0
//! A vCPU's CPUID table and what follows from it.

use crate::{
    host, regs, request,
    settings::{no_exit, Quirk},
    state::{Cx, VcpuState},
    vendor::Vendor,
};
use kernel::prelude::*;
use kvm_emulate::Features;
use kvm_policy::{
    cpuid::{CpuidRegs, MAX_ENTRIES},
    feature::{Feature as F, FeatureSet},
    guest_cpuid::{GuestCpuid, Refused, Runtime},
    guest_features::GuestFeatures,
    msr_file::{Stored, MISC_ENABLE_MWAIT},
};
use kvm_sys::user;
use kvm_uapi::x86::{Cpuid2, CpuidEntry2};

/// The table of a vCPU.
pub struct Cpuid {
    table: GuestCpuid<KVec<CpuidEntry2>, KVec<u16>>,
    /// Facts derived from it.
    pub features: GuestFeatures,
}

impl Cpuid {
    /// An empty table: what a vCPU has before `KVM_SET_CPUID2`.
    ///
    /// # Errors
    ///
    /// None in practice: an empty table is accepted.
    pub(crate) fn empty() -> Result<Self> {
        Self::new(KVec::new(), false)
    }

    fn new(entries: KVec<CpuidEntry2>, has_hlt: bool) -> Result<Self> {
        let next = KVec::zeroed(entries.len(), GFP_KERNEL_ACCOUNT)?;
        let table = GuestCpuid::new(entries, next).map_err(|refused| match refused {
            Refused::TooMany => E2BIG,
            Refused::LinearBits => EINVAL,
        })?;
        let features =
            GuestFeatures::new(&table, &host::get()?.supported, &FeatureSet::EMPTY, has_hlt);
        Ok(Self { table, features })
    }

    /// Whether the guest's processor has a feature.
    #[inline]
    pub fn has(&self, feature: F) -> bool {
        self.features.has(feature)
    }

    /// Family, model and stepping, as CPUID says them.
    pub(crate) fn version(&self) -> Option<u32> {
        self.table.find(1, 0).map(|entry| entry.eax)
    }

    /// Whether there is an entry for a leaf itself, not only what stands in for it.
    pub(crate) fn lists(&self, leaf: u32, subleaf: u32) -> bool {
        self.table.find(leaf, subleaf).is_some()
    }
}

/// Whether HLT doesn't exit, so that nobody has to be woken.
fn has_hlt<V: Vendor>(cx: &Cx<'_, V>) -> bool {
    cx.vm.arch().settings.lets_through(no_exit::HLT)
}

fn runtime<V: Vendor>(cx: &Cx<'_, V>) -> Runtime {
    const ENABLED: u64 = 1 << 11;
    let state = &*cx.state;
    let follows_mwait = !cx.vm.arch().settings.has_quirk(Quirk::MiscEnableNoMwait);
    let mwait = state.msrs.get(Stored::MiscEnable) & MISC_ENABLE_MWAIT != 0;
    Runtime {
        osxsave: state.extended.osxsave(),
        pke: state.extended.pke(),
        apic_enabled: regs::apic_base(state) & ENABLED != 0,
        mwait: follows_mwait.then_some(mwait),
        hlt_in_guest: has_hlt(cx),
        tsx_hidden: false,
        xcr0: state.extended.xcr0(),
        xss: 0,
    }
}

/// What the CPUID instruction answers: EAX, EBX, ECX, EDX.
pub(crate) fn answer<V: Vendor>(cx: &Cx<'_, V>, leaf: u32, subleaf: u32) -> [u32; 4] {
    let Ok(host) = host::get() else { return [0; 4] };
    let layout = host.supported.xstate();
    let CpuidRegs { eax, ebx, ecx, edx } =
        cx.state.cpuid.table.execute(leaf, subleaf, || runtime(cx), layout);
    [eax, ebx, ecx, edx]
}

/// Features that the emulator asks for.
pub(crate) fn emulated_features<V: Vendor>(state: &VcpuState<V>) -> Features {
    let cpuid = &state.cpuid;
    Features {
        amd: cpuid.features.is_amd(),
        rdtscp: cpuid.has(F::RDTSCP),
        movbe: cpuid.has(F::MOVBE),
        fsgsbase: cpuid.has(F::FSGSBASE),
        cx16: cpuid.has(F::CX16),
        lzcnt: cpuid.has(F::ABM),
        bmi1: cpuid.has(F::BMI1),
        bmi2: cpuid.has(F::BMI2),
        popcnt: cpuid.has(F::POPCNT),
        adx: cpuid.has(F::ADX),
    }
}

/// `KVM_SET_CPUID2` with the table at `arg`.
///
/// # Errors
///
/// `E2BIG` for more than 256 entries; `EINVAL` for tables that make no processor,
/// or other ones once the vCPU ran; `EFAULT`; `ENOMEM`.
pub(crate) fn set<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let head: Cpuid2 = user::read(arg)?;
    let count = head.nent as usize;
    if count > MAX_ENTRIES {
        return Err(E2BIG);
    }
    let mut entries = KVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
    for index in 0..count {
        entries.push(user::read(entry_at(arg, index))?, GFP_KERNEL_ACCOUNT)?;
    }
    if cx.state.has_run {
        let layout = host::get()?.supported.xstate();
        let is_same = cx.state.cpuid.table.is_same(&entries, &runtime(cx), layout);
        return if is_same { Ok(0) } else { Err(EINVAL) };
    }
    cx.state.cpuid = Cpuid::new(entries, has_hlt(cx))?;
    cx.state.cpuid_changed();
    // What it accesses without an exit follows as well.
    cx.vcpu.requests.set(request::MSR_FILTER);
    Ok(0)
}

/// `KVM_GET_CPUID2` into the table at `arg`.
///
/// # Errors
///
/// `E2BIG` if userspace has no room; `EFAULT`.
pub(crate) fn get<V: Vendor>(cx: &Cx<'_, V>, arg: usize) -> Result<u32> {
    let layout = host::get()?.supported.xstate();
    let now = runtime(cx);
    let state = &*cx.state;
    let mut table = Writer::new(arg)?;
    if table.room < state.cpuid.table.entries().len() {
        return Err(E2BIG);
    }
    for entry in state.cpuid.table.entries_now(&now, layout) {
        table.push(&entry)?;
    }
    table.finish()
}

/// `KVM_GET_SUPPORTED_CPUID` into the table at `arg`.
///
/// # Errors
///
/// `E2BIG` if userspace has no room; `EFAULT`.
pub(crate) fn get_supported(arg: usize) -> Result<u32> {
    let mut table = Writer::new(arg)?;
    host::get()?.supported.for_each(host::cpuid, 0, |entry| table.push(entry))?;
    table.finish()
}

/// `KVM_GET_EMULATED_CPUID` into the table at `arg`.
///
/// # Errors
///
/// As [`get_supported`].
pub(crate) fn get_emulated(arg: usize) -> Result<u32> {
    let mut table = Writer::new(arg)?;
    host::get()?.supported.for_each_emulated(&FeatureSet::EMPTY, |entry| table.push(entry))?;
    table.finish()
}

fn entry_at(arg: usize, index: usize) -> usize {
    arg.wrapping_add(size_of::<Cpuid2>()).wrapping_add(index.wrapping_mul(size_of::<CpuidEntry2>()))
}

/// Writes a table to userspace, as far as there is room.
struct Writer {
    arg: usize,
    room: usize,
    count: usize,
}

impl Writer {
    fn new(arg: usize) -> Result<Self> {
        let head: Cpuid2 = user::read(arg)?;
        Ok(Self { arg, room: (head.nent as usize).min(MAX_ENTRIES), count: 0 })
    }

    fn push(&mut self, entry: &CpuidEntry2) -> Result {
        if self.count >= self.room {
            return Err(E2BIG);
        }
        user::write(entry_at(self.arg, self.count), entry)?;
        self.count = self.count.wrapping_add(1);
        Ok(())
    }

    fn finish(self) -> Result<u32> {
        user::write(self.arg, &Cpuid2 { nent: self.count as u32, padding: 0 })?;
        Ok(0)
    }
}
