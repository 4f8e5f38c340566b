// SPDX-License-Identifier: GPL-2.0
//! What userspace chose for a VM, most of it by `KVM_ENABLE_CAP`.
//!
//! Userspace sets these before it runs the VM; a vCPU that runs meanwhile sees a
//! change at some later moment. Each is a word of its own and orders nothing.

use crate::vendor::Vendor;
use kernel::sync::atomic::{Atomic, Relaxed};
use kvm_sys::plain::Plain;

/// Behaviour that is as it always was, although processors behave otherwise;
/// `KVM_CAP_DISABLE_QUIRKS2` turns one off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Quirk {
    /// LINT0 of the vCPU that boots comes out of reset open for the 8259.
    Lint0Reenabled = 1 << 0,
    /// CR0.CD and CR0.NW don't reach the processor: firmware may forget them, and memory is
    /// coherent anyway. On Intel's processors they never do.
    CdNwCleared = 1 << 1,
    /// The local APIC's register page stays when the APIC is turned off.
    LapicMmioHole = 1 << 2,
    /// An OUT to port 0x7e is over before userspace sees it.
    Out7eIncRip = 1 << 3,
    /// The MWAIT bit of CPUID doesn't follow IA32_MISC_ENABLE.
    MiscEnableNoMwait = 1 << 4,
    /// The other vendor's hypercall instruction becomes that of this processor, in the
    /// guest's memory.
    FixHypercallInsn = 1 << 5,
    /// MONITOR and MWAIT are there whatever CPUID says.
    MwaitNeverFaults = 1 << 6,
    /// Taking a slot away may take all that is mapped away. It never does here, so
    /// turning this off changes nothing.
    SlotZapAll = 1 << 7,
    /// A vCPU begins with the feature MSRs that its host can give, not with zeroes.
    StuffFeatureMsrs = 1 << 8,
    /// Memory is write-back whatever the guest's PAT says, on Intel's processors.
    IgnoreGuestPat = 1 << 9,
}

/// Quirks that can be turned off, if only because they do nothing here.
pub(crate) fn quirks<V: Vendor>() -> u64 {
    // A processor that doesn't watch its own caches would see two contents of one line.
    let has_choice = V::AMD || kvm_sys::x86::has_self_snoop();
    QUIRKS | if has_choice { Quirk::IgnoreGuestPat as u64 } else { 0 }
}

const QUIRKS: u64 = Quirk::Lint0Reenabled as u64
    | Quirk::CdNwCleared as u64
    | Quirk::LapicMmioHole as u64
    | Quirk::Out7eIncRip as u64
    | Quirk::MiscEnableNoMwait as u64
    | Quirk::FixHypercallInsn as u64
    | Quirk::MwaitNeverFaults as u64
    | Quirk::SlotZapAll as u64
    | Quirk::StuffFeatureMsrs as u64;

/// Instructions that a guest can be given for good (`KVM_CAP_X86_DISABLE_EXITS`).
pub mod no_exit {
    /// MONITOR and MWAIT: as HLT.
    pub const MWAIT: u32 = 1 << 0;
    /// HLT: the processor sleeps with the guest.
    pub const HLT: u32 = 1 << 1;
    /// PAUSE.
    pub const PAUSE: u32 = 1 << 2;

    /// Those that this processor's guests can have.
    pub(crate) fn allowed() -> u32 {
        let mwait = if kvm_sys::x86::wakes_from_mwait() { MWAIT } else { 0 };
        HLT | PAUSE | mwait
    }
}

/// The choices.
pub struct Settings {
    quirks_off: Atomic<u64>,
    /// Instructions that don't exit ([`no_exit`]).
    no_exits: Atomic<u32>,
    /// Not every MSR can be accessed.
    filters_msrs: Atomic<bool>,
    /// Refused accesses to MSRs that userspace wants to see.
    seen_msrs: Atomic<u32>,
    /// The guest can read PLATFORM_INFO (`KVM_CAP_MSR_PLATFORM_INFO`).
    platform_info: Atomic<bool>,
    /// Pending exceptions are shown with their payload
    /// (`KVM_CAP_EXCEPTION_PAYLOAD`).
    exception_payload: Atomic<bool>,
    /// Triple faults are shown as events (`KVM_CAP_X86_TRIPLE_FAULT_EVENT`).
    triple_fault_event: Atomic<bool>,
    /// Userspace is told of every instruction that can't be emulated
    /// (`KVM_CAP_EXIT_ON_EMULATION_FAILURE`).
    exit_on_failure: Atomic<bool>,
    /// Id of the vCPU that boots.
    boot_cpu: Atomic<u32>,
}

impl Settings {
    /// Before userspace chose anything.
    pub(crate) const fn new() -> Self {
        Self {
            quirks_off: Atomic::new(0),
            no_exits: Atomic::new(0),
            filters_msrs: Atomic::new(false),
            seen_msrs: Atomic::new(0),
            platform_info: Atomic::new(true),
            exception_payload: Atomic::new(false),
            triple_fault_event: Atomic::new(false),
            exit_on_failure: Atomic::new(false),
            boot_cpu: Atomic::new(0),
        }
    }

    /// Whether a quirk is on.
    #[inline]
    pub fn has_quirk(&self, quirk: Quirk) -> bool {
        self.quirks_off.get() & quirk as u64 == 0
    }

    /// Turns these quirks off too.
    pub(crate) fn add_quirks_off(&self, quirks: u64) {
        self.quirks_off.store(self.quirks_off.load(Relaxed) | quirks, Relaxed);
    }

    /// Whether an instruction doesn't exit ([`no_exit`]).
    pub fn lets_through(&self, what: u32) -> bool {
        self.no_exits.load(Relaxed) & what != 0
    }

    /// Before the first vCPU.
    pub(crate) fn set_no_exits(&self, what: u32) {
        self.no_exits.store(what, Relaxed);
    }

    /// Whether not every MSR can be accessed.
    #[inline]
    pub(crate) fn filters_msrs(&self) -> bool {
        self.filters_msrs.get()
    }

    pub(crate) fn set_filters_msrs(&self) {
        self.filters_msrs.store(true, Relaxed);
    }

    /// Refused accesses to MSRs that userspace wants to see
    /// (`KVM_CAP_X86_USER_SPACE_MSR`).
    pub(crate) fn seen_msrs(&self) -> u32 {
        self.seen_msrs.load(Relaxed)
    }

    pub(crate) fn set_seen_msrs(&self, which: u32) {
        self.seen_msrs.store(which, Relaxed);
    }

    /// Whether the guest can read PLATFORM_INFO.
    pub fn platform_info(&self) -> bool {
        self.platform_info.get()
    }

    pub(crate) fn set_platform_info(&self, on: bool) {
        self.platform_info.store(on, Relaxed);
    }

    /// Whether pending exceptions are shown with their payload.
    pub fn exception_payload(&self) -> bool {
        self.exception_payload.load(Relaxed)
    }

    pub(crate) fn set_exception_payload(&self, on: bool) {
        self.exception_payload.store(on, Relaxed);
    }

    /// Whether triple faults are shown as events.
    pub fn triple_fault_event(&self) -> bool {
        self.triple_fault_event.load(Relaxed)
    }

    pub(crate) fn set_triple_fault_event(&self, on: bool) {
        self.triple_fault_event.store(on, Relaxed);
    }

    /// Whether userspace is told of every instruction that can't be emulated.
    pub(crate) fn exit_on_failure(&self) -> bool {
        self.exit_on_failure.load(Relaxed)
    }

    pub(crate) fn set_exit_on_failure(&self, on: bool) {
        self.exit_on_failure.store(on, Relaxed);
    }

    /// Id of the vCPU that boots.
    pub fn boot_cpu(&self) -> u32 {
        self.boot_cpu.load(Relaxed)
    }

    pub(crate) fn set_boot_cpu(&self, id: u32) {
        self.boot_cpu.store(id, Relaxed);
    }
}
